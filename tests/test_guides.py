"""What README.md and configs/README.md tell a newcomer: links lead somewhere, commands parse, code runs as written."""

import ast
import contextlib
import io
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest
import xarray as xr

import gpsense
from gpsense.penalties import PENALTIES
from gpsense.pruning import COLUMN_RULES
from gpsense.systems import SYSTEMS
from launch import grid, plugins, recover, report
from launch.__main__ import COMMANDS
from launch.arguments import parse
from launch.bench import __main__ as bench
from launch.claims import __main__ as claims
from tests.commands import ended

ROOT = Path(__file__).parents[1]
GUIDES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "configs/README.md")}
README, CONFIGS = GUIDES.values()
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
TOLD = [*GUIDES.values(), (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")]
TOLD += [path.read_text(encoding="utf-8").replace("\n#", "\n") for path in NOTEBOOKS]
COMMAND = re.compile(r"(?:python -m launch\.|^gpsense )(\w+)((?: +[^\s|#;&]+)*)")


def blocks(text: str, language: str) -> list[str]:
    """The blocks of code of a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def block(text: str, words: str, language: str = "python") -> str:
    """The one block of code that holds these words."""
    (code,) = [each for each in blocks(text, language) if words in each]
    return code


def cells_of(name: str, words: str) -> str:
    """The one cell of a notebook's source that holds these words."""
    text = (ROOT / "notebooks" / name).read_text(encoding="utf-8")
    (code,) = [each for each in re.split(r"(?m)^# %%.*\n", text) if words in each]
    return code


def commands() -> list[tuple[str, str]]:
    """Every command that the guides and notebooks give with arguments, once, by its name and its arguments."""
    found: dict[tuple[str, str], None] = {}
    for text in TOLD:
        inside = [line for code in blocks(text, "bash") for line in code.splitlines()]
        spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
        inside += [" ".join(span.split()) for span in spans]
        inside += re.findall(r"(?m)^ {4,}(python -m .*)$", text)
        for code in inside:
            for name, rest in COMMAND.findall(code):
                if rest or name not in ("recover", "report"):  # which are no commands by themselves
                    found[(name, rest.strip())] = None
    return list(found)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the files that the guides have one write, and with the configs; what these register goes again."""
    registered = [(registry, dict(registry)) for registry in (COLUMN_RULES, PENALTIES)]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(plugins, "_functions", {})
    monkeypatch.setattr(SYSTEMS, "data", dict(SYSTEMS.data))
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    files = {
        "mine.py": block(README, "def cell"),
        "my_experiment.py": cells_of("own_experiment.py", "def draw(key, n").split("\ndataset =")[0],
        "my_system.py": "import jax\nimport jax.numpy as jnp\n"
        + cells_of("own_experiment.py", "class LeastSquares").split("\naxes =")[0],
        "my_rules.py": block(CONFIGS, "COLUMN_RULES"),
        "my_claim.py": block(CONFIGS, "def check"),
        "my_claim.yaml": block(CONFIGS, "claim:", "yaml"),
        "my.yaml": (ROOT / "configs" / "quickstart.yaml").read_text(encoding="utf-8"),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    yield tmp_path
    for registry, known in registered:
        registry.clear()
        registry.update(known)


def test_the_front_page_is_short_and_links_lead_somewhere() -> None:
    assert README.count("\n") <= 150
    for name, text in {**GUIDES, "CONTRIBUTING.md": TOLD[2]}.items():
        text = re.sub(r"```.*?```", "", text, flags=re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            there = (ROOT / name).parent / path if path else ROOT / name
            assert there.exists(), f"{name}: {target}"
            if anchor:
                titles = re.findall(r"(?m)^#+ (.*)$", there.read_text(encoding="utf-8"))
                assert anchor in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles], target
    linked = set(re.findall(r"notebooks/(\w+)\.ipynb", README))
    assert linked == {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize(("name", "words"), commands())
def test_every_command_that_is_given_is_understood(name: str, words: str, folder: Path) -> None:
    """Read by the parser that the command has; no field, option or name is out of date."""
    argv = [word for word in shlex.split(words.replace("$SLURM_ARRAY_TASK_ID", "3"))]
    if name == "reference":
        return
    assert name in COMMANDS
    if name == "grid":
        with contextlib.suppress(SystemExit):  # of --help and --systems
            parse(argv)
    elif name == "claims":
        arguments = claims._arguments(argv)
        assert arguments.write_tables or claims.chosen(arguments)
    elif name == "recover":
        recover._arguments(argv)
    elif name == "report":
        told = ended(report.main, *argv)
        assert told.code == 2
        assert not re.search(r"no such option|there is no|see --help", told.err), told.err
    else:
        assert name == "bench"
        assert bench.GROUPS


def test_there_are_commands_of_every_kind() -> None:
    assert {name for name, _ in commands()} >= {"grid", "claims", "recover", "report", "bench", "reference"}
    assert len(commands()) >= 25


def test_the_library_code_of_the_guides_is_valid_python() -> None:
    for text in GUIDES.values():
        for code in blocks(text, "python"):
            ast.parse(code)


def test_results_are_read_as_told(folder: Path) -> None:
    run = Path(next(iter(re.findall(r"runs/quickstart-\w+", README))))
    run.mkdir(parents=True)
    small = xr.Dataset({"error": (("seed", "penalty"), np.ones((2, 2)))}, {"penalty": [0.0, 0.2]})
    small.to_netcdf(run / "results.nc", engine="h5netcdf")
    exec(block(CONFIGS, "xr.open_dataset"), {})


def test_parts_of_the_library_are_used_as_told() -> None:
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(block(CONFIGS, "isometry_constant_bound"), {})
        known: dict[str, Any] = {"Sensing": gpsense.Sensing}
        exec(block(CONFIGS, "own = Sensing("), known)
    assert known["own"].rule(np.array([1.0, 0.1])).tolist() == [True, False]


@pytest.mark.slow
def test_the_script_runs_under_vmap_under_sweep_and_from_a_shell(folder: Path) -> None:
    """Without a penalty too many columns stay, with one the two of the truth, and fine-tuning gains by it."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        known: dict[str, Any] = {"__name__": "__main__"}
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(block(README, "def cell"), known)
        exec(block(README, "gpsense.sweep(cell"), known)
        told = ended(grid.main, "mine.py:cell", "--penalty", "0,0.1,0.2", "--seeds", "16", "--out", "run")
    medians = known["ds"].median("seed")
    assert medians["rank"].values[0] > 2
    assert medians["rank"].values[-1] == 2
    assert medians["error"].values[-1] < 0.8 * medians["error"].values[0]
    script = re.search(r"'error': Array\(\[(.*?)\]", printed.getvalue())
    assert script is not None
    np.testing.assert_allclose([float(each) for each in script[1].split(",")], medians["error"], rtol=1e-5)
    assert told.code == 0
    assert (folder / "run" / "report.html").is_file()
    stored = xr.open_dataset(folder / "run" / "results.nc", engine="h5netcdf")  # in float32, whose draws are others
    assert stored["rank"].median("seed").values[-1] == 2


TINY = 'kept=[0.1, 0.03], steps=5, seeds=1, rules=["iterative_magnitude"])'


@pytest.mark.slow
def test_estimators_take_data_as_told() -> None:
    import equinox
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(0)
    truth = rng.normal(size=(20, 1)) @ rng.normal(size=(1, 15))
    rows, cols = np.nonzero(rng.uniform(size=truth.shape) < 0.6)
    x, digits = rng.normal(size=(300, 10)), load_digits()
    known: dict[str, Any] = {"gpsense": gpsense, "equinox": equinox, "jax": jax, "x": x, "y": x[:, 3] ** 2}
    known |= {"rows": rows, "cols": cols, "stars": truth[rows, cols] + 0.01 * rng.normal(size=rows.size)}
    known |= {"images": digits.data[:200], "labels": digits.target[:200]}
    known |= {"images_test": digits.data[200:300], "labels_test": digits.target[200:300]}
    known |= {"optax": optax, "params": {"w": 0.3 * rng.normal(size=(10, 60)), "bias": np.zeros(60)}}
    known["params"]["v"] = 0.3 * rng.normal(size=(60, 2))
    known["params"] = jax.tree.map(jax.numpy.asarray, known["params"])
    known["batches"] = [(rows := rng.normal(size=(20, 10)), rows[:, :2]) for _ in range(1000)]
    known["loss"] = jax.jit(
        lambda params, batch: jax.numpy.mean(
            (jax.nn.relu(batch[0] @ params["w"] + params["bias"][None]) @ params["v"] - batch[1]) ** 2
        )
    )
    code = block(README, "gpsense.find_tickets").replace("kept=[0.1, 0.03], batch=50, seeds=4)", TINY)
    with jax.numpy_dtype_promotion("standard"):
        exec(code, known)
    assert known["found"].rank == 1
    np.testing.assert_allclose(known["found"].entries([0], [5]), truth[0, 5], atol=0.05)
    assert 3 in known["fit"].coordinates
    assert known["tickets"].results.sizes["kept"] == 2
    gone = [np.asarray(leaf == 0) for leaf in jax.tree.leaves(known["params"]) if leaf.ndim == 2]
    assert sum(int(leaf.sum()) for leaf in gone) == 720 - 36
    assert float(known["loss"](known["params"], known["batches"][-1])) < 0.9


@pytest.mark.slow
def test_the_grid_in_python_runs_as_told() -> None:
    known: dict[str, Any] = {}
    exec(block(CONFIGS, "Schedule(train_steps"), known)
    assert known["ds"]["rank"].sel(noise=0.3, penalty=0.2).median() == 2


@pytest.mark.slow
def test_a_rule_and_a_claim_of_ones_own_run_as_told(folder: Path) -> None:
    argv = ["--plugin", "my_rules.py", "--prune.rule", "half", "--train.steps", "200", "--run.seeds", "2"]
    assert ended(grid.main, *argv, "--out", "half").code == 0
    told = ended(claims.main, "my_claim.yaml", "--out", "claims")
    assert (told.code, sys.modules.get("my_claim")) == (0, None)
    assert "holds" in told.out
