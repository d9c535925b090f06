"""Several run directories of one config as one: ``python -m launch.report --merge OUT DIR...``.

Chunks are copied as they are, each after its checksum, digest and number were read.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpsense.errors import BadInput
from gpsense.grid import chunkfile, store
from gpsense.grid.files import LOG, atomic, naming, own, parse_json, regular, remove_left_over, write_json
from launch.shell import Refusal, notice
from launch.work import stored


def merge(out: Path, directories: Sequence[Path], allow_plugins: bool = False) -> str:
    """Copy the chunks of run directories into ``out``, and a line that says how many there are now.

    All belong to one config, by its digest, and are cut alike, and the manifest that ``out`` gets or has makes this run
    again; Refusal otherwise, before anything is written. ``out`` is new, empty, or such a directory itself; what it
    holds stays. Of a chunk that several hold the first is taken.
    """
    manifests = {directory: _manifest(directory) for directory in directories}
    first, ours = next(iter(manifests.items()))
    if out.is_file():
        raise Refusal(f"{out} is a file; choose a directory")
    own(out)
    if out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
        manifests[out] = _manifest(out)
    for directory, manifest in manifests.items():
        if manifest["digest"] != ours["digest"]:
            told = store.differing(ours, manifest, (f"in {first}", f"in {directory}"))
            raise Refusal(f"{directory} belongs to another run ({told}); merge parts of one run")
        if manifest["layouts"] != ours["layouts"]:
            remedy = "run them with one run.memory_gib on the same kind and number of devices"
            raise Refusal(f"{directory} is cut into other chunks than {first}; {remedy}")
    kept = out if out in manifests else first
    if "config" in manifests[kept]:  # a grid that was made in Python has none
        stored(kept, allow_plugins)
    if any(manifest.get(key) != ours.get(key) for manifest in manifests.values() for key in ("versions", "devices")):
        notice("these chunks were made with different versions or devices")
    (out / "chunks").mkdir(parents=True, exist_ok=True)
    remove_left_over(out)
    write_json(out / "manifest.json", ours, keep=True)
    for directory in manifests:
        if directory != out:
            _copy(directory, out, ours["digest"])
    count, total = len(list((out / "chunks").glob("*.chunk"))), ours.get("chunks")
    return f"{count}{f' of {total}' if isinstance(total, int) else ''} chunks are in {out}"


def _copy(directory: Path, out: Path, digest: str) -> None:
    """Copy the chunks that are not in ``out`` yet, and their lines of metrics.jsonl."""
    copied = set()
    for path in sorted((directory / "chunks").glob("*.chunk")):
        place = out / "chunks" / path.name
        if place.exists():
            continue
        try:
            data = regular(path).read_bytes()
            facts, _ = chunkfile.decode(data)
            if facts["digest"] != digest or f"{facts['place'][0]:06d}.chunk" != path.name:
                raise ValueError("it belongs elsewhere")
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            reason = str(error) if isinstance(error, ValueError | OSError) else "it cannot be read"
            notice(f"{path} was left out: {reason}")
            continue
        with atomic(place) as aside:
            aside.write_bytes(data)
        copied.add(facts["place"][0])
    log = directory / LOG
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    with naming(out / LOG), open(out / LOG, "a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines if _chunk_of(line) in copied)


def _chunk_of(line: str) -> Any:
    """The chunk that a line of a log is about; None for a torn one."""
    try:
        return parse_json(line)["chunk"]
    except (ValueError, KeyError, TypeError):
        return None


def _manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a run directory; Refusal for one that is none."""
    try:
        return store.read(directory)
    except BadInput as error:
        raise Refusal(f"--merge: {error.problem}; {error.remedy}") from None
