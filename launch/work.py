"""The work of one config: it is checked, planned and run into its directory by chunks, and its results are collected.

``launch.grid`` and ``launch.claims`` share it, and add what is printed and drawn.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gpsense.errors import BadInput
from gpsense.fields import NUMBERS, OTHER, ROLES, WHOLES
from gpsense.grid.files import made_in_python
from launch import plugins
from launch.config import Config, build
from launch.interrupt import telling
from launch.schema import default_steps, plain, schema, sections_named
from launch.shell import Refusal, notice
from launch.values import Values

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

    from gpsense.grid import Grid, Plan, store
    from gpsense.grid.tracing import Traces


ROOT = Path("runs")


class Work(NamedTuple):
    """A config that was checked and planned, and where its results go."""

    config: Config
    digest: str
    out: Path
    plan: "Plan"
    memory: float
    folder: Path = Path()


def plan(
    config: Config, folder: Path, out: Path | None = None, root: Path = ROOT, parts: int = 1, written: bool = True
) -> Work:
    """Check a config and its run directory and plan the grid; raises Refusal if anything is wrong, before compiling.

    ``folder`` is where the config's files are looked for; ``out`` None means ``NAME-DIGEST`` below ``root``. A new run
    is divided into at least ``parts`` chunks. Unless it is to be ``written`` to, the directory need not be writable.
    """
    arrays = read_arrays(config, folder)
    files = b"".join(array.tobytes() for array in arrays.values())

    from gpsense.grid import fit_to_memory, make_plan, store
    from launch import device

    device.configure(config.values["run.precision"])
    with plugins.blamed(config.reference), sections_named(config.system):
        grid = to_grid(config, arrays)
        if plugins.is_code(config.reference):  # identify what a user's code and all that it calls compute
            from gpsense.grid.run import fingerprints

            files += "".join(fingerprints(grid)).encode()
        digest = config.digest(files)
        out = out or root / f"{config.name}-{digest[:8]}"
        manifest = store.check(out, digest, written, config.plain())
        memory = device.memory_budget(config.values["run.memory_gib"])
        made = make_plan(grid, memory, store.layouts(manifest), parts)
        made = made if manifest else fit_to_memory(made, memory)
    return Work(config, digest, out, made, memory, folder)


def stored(directory: Path, allow_plugins: bool = False) -> Work:
    """The work of a run directory, rebuilt from its manifest alone; raises Refusal if that is impossible."""
    from gpsense.grid import store

    manifest = store.read(directory)
    if made_in_python(manifest):
        maker = "find_tickets" if manifest.get("name") == "find_tickets" else "sweep or run_grid"
        remedy = f"to resume, rerun the script that called {maker} with this directory as out"
        problem = "it was made in Python and has no config, so it can be neither verified nor continued from a shell"
        raise Refusal(f"{directory}: {problem}; {remedy}")
    fields, folder = manifest["config"], Path(str(manifest.get("folder", ".")))
    try:
        reference = str(fields.get("system"))
        if plugins.is_code(reference):
            system = plugins.find_system(reference, folder, allow_plugins)
            if plugins.is_function(reference):
                given = {name: value if isinstance(value, list) else [value] for name, value in fields["cell"].items()}
                plugins.as_system(reference, vars(system)["cell"].__func__, given, manifest.get("static", ()))
        return plan(build(fields, folder, allow_plugins), folder, directory, written=False)
    except (BadInput, Refusal, KeyError, AttributeError, TypeError) as error:
        words = f"{error.problem}" if isinstance(error, BadInput) else " ".join(str(error).split())
        remedy = "restore the gpsense version, code, data and manifest.json that it was made with, "
        remedy += "or run the grid again in another directory"
        if "--allow-plugins" in words:  # the one remedy that such a refusal needs
            words, _, remedy = words.rpartition("; ")
        raise Refusal(f"{directory}: the run cannot be rebuilt from its manifest ({words}); {remedy}") from None


def check_plan(config: Config, folder: Path) -> None:
    """Raises Refusal or BadInput for a config that cannot be planned with any memory; compiles nothing."""
    from gpsense._devices import start_devices
    from gpsense.grid import make_plan

    start_devices()
    with plugins.blamed(config.reference), sections_named(config.system):
        make_plan(to_grid(config, read_arrays(config, folder)), 2**60)


def run_missing(
    work: Work,
    known: "Traces | None" = None,
    meanwhile: Callable[[], object] = lambda: None,
    shard: tuple[int, int] | None = None,
    cluster: Any = None,
) -> Work:
    """Run the missing chunks, divided as the manifest says; on ctrl-C, how many chunks are kept is printed.

    ``known``, ``meanwhile`` and ``shard`` are those of :func:`gpsense.grid.run.run_missing`; with a ``cluster`` its
    workers run the chunks, see :func:`gpsense.grid.cluster.run_on_cluster`.
    """
    from gpsense.grid import make_plan, store
    from gpsense.grid.run import run_missing as run

    config, place = work.config, opened(work)
    here = store.versions()
    manifest = {"name": config.name, "digest": work.digest, "config": config.plain()} | here
    if config.code or any(field.kind == OTHER for field in schema(config.system).values()):
        manifest["folder"] = str(work.folder.resolve())
    if plugins.is_function(config.reference):
        fields = [field for field in schema(config.system).values() if field.section == "cell"]
        manifest["static"] = [field.name for field in fields if field.role == "static"]
    manifest = place.create(manifest | {"layouts": store.described(work.plan), "chunks": len(work.plan.chunks)})
    if any(manifest.get(key) != here[key] for key in ("versions", "devices")):
        notice("earlier chunks were made with other versions or devices, see manifest.json")
    made = make_plan(work.plan.grid, work.memory, store.layouts(manifest))
    chunks = len(made.chunks)
    words = lambda: f"interrupted: {place.count(made)} of {chunks} chunks are kept in {work.out}; rerun to resume"  # noqa: E731
    with telling(words):
        if cluster is not None:
            from gpsense.grid.cluster import run_on_cluster

            os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")  # a process that outlives an interrupt
            run_on_cluster(cluster, made, place, partial(_stored_grid, work.out.resolve()))
            return work._replace(plan=made)
        run(made, place, known=known, meanwhile=meanwhile, shard=shard)
    return work._replace(plan=made)


def _stored_grid(directory: Path) -> "Grid":
    """The grid of a run directory, for another process; its code was allowed where the run was started."""
    return stored(directory, allow_plugins=True).plan.grid


def opened(work: Work) -> "store.Store":
    """The store of the run directory; it prints a notice for every damaged chunk that it sets aside."""
    from gpsense.grid.store import Store

    return Store(work.out, work.digest, notice)


def begin(work: Work, known: "Traces") -> None:
    """Trace the program of the first missing chunk, if there is one, and begin to compile it."""
    from gpsense.grid.run import begun

    missing = opened(work).missing(work.plan)
    if missing:
        begun(work.plan, missing[0], known)


def collected(work: Work, finished: bool = False) -> "xr.Dataset":
    """The stored chunks of a run as one labelled Dataset, with other cells marked as missing.

    If ``finished``, BadInput is raised where a chunk is not there.
    """
    from gpsense import grid

    place = opened(work)
    dataset = labelled(work.config, grid.collect(work.plan, (place.whole if finished else place.chunks)(work.plan)))
    dataset.attrs["config_digest"] = work.digest
    return dataset


def labelled(config: Config, dataset: "xr.Dataset") -> "xr.Dataset":
    """The dataset, with the config's name, system and list or array fields as attributes."""
    dataset.attrs |= {"name": config.name, "system": config.system.name}
    for place, field in schema(config.system).items():
        if field.kind in (NUMBERS, WHOLES, OTHER) and config.values[place] is not None:
            dataset.attrs[field.name] = plain(config.values[place])
    return dataset


def collect(work: Work) -> "xr.Dataset":
    """The chunks of a run as one Dataset, also written to results.nc; raises BadInput if one is damaged or missing."""
    from gpsense.grid import store

    dataset = collected(work, finished=True)
    store.write_dataset(work.out / "results.nc", dataset)
    return dataset


def read_arrays(config: Config, folder: Path) -> dict[str, "np.ndarray"]:
    """The arrays of fields that name a ``.npy`` file, here or in ``folder``; raises Refusal unless finite and real."""
    fields = schema(config.system)
    named = {place: config.values[place] for place, field in fields.items() if field.kind == OTHER}
    named = {place: name for place, name in named.items() if name is not None}
    if not named:  # before NumPy and the reader of files are imported
        return {}

    import numpy as np

    from launch.measured import read_array

    arrays = {}
    for place, name in named.items():
        try:
            path = next((p for p in (Path(name), folder / name) if p.is_file()), None)
            if path is None:
                raise Refusal(f"{place}: no file {name}; give the path of a .npy file")
            array = read_array(path)
        except (OSError, ValueError):
            raise Refusal(f"{place}: {name} is not a .npy array; save it with numpy.save") from None
        if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
            raise Refusal(f"{place}: {name} must hold finite real numbers; fix the file")
        arrays[fields[place].name] = array.astype(np.float64)
    return arrays


def to_grid(config: Config, arrays: "Mapping[str, np.ndarray] | None" = None) -> "Grid":
    """The grid of a checked config: axes over the fields of its system; ``arrays`` are those of its files.

    The grid's system is that of its first cell, with all static fields. Raises BadInput if values do not fit together.
    """
    from gpsense.grid import Axis, Grid
    from gpsense.pipeline import Schedule

    fields, values = schema(config.system), config.values
    axes, constants, static = [], dict(arrays or {}), {}
    for place, field in fields.items():
        value = values[place]
        if field.role not in ROLES or field.kind == OTHER:
            continue
        if isinstance(value, Values):
            axes.append(Axis(field.name, value.values, value.listed))
        elif field.role != "static" and value != field.default:
            constants[field.name] = value
        if field.role == "static":
            static[field.name] = value.values[0] if isinstance(value, Values) else value
    schedule = Schedule(0, 0, 1)
    if default_steps(config.system):
        schedule = Schedule(values["train.steps"], values["fine_tune.steps"], values["run.record_every"])
    seeds = Axis("seed", values["run.seeds"].values)
    grid = Grid(config.system(**static), schedule, seeds, tuple(axes), constants)
    if plugins.is_function(config.reference):
        from gpsense.grid.sweep import check_seeds

        check_seeds(grid)
    return grid
