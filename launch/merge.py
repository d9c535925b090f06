"""Merges run directories of one config into one: ``python -m launch.report --merge OUT DIR...``.

Chunks are copied unchanged, each after a check of its checksum, digest and number.
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
    """Copy the chunks of run directories into ``out``; returns a line that says how many are there now.

    Raises Refusal, before anything is written, unless all directories have the same config digest and division into
    chunks, and the run can be rebuilt from the manifest that ``out`` gets or has. ``out`` is new, empty, or a directory
    of the same run, whose chunks stay. A chunk that several directories hold is copied from the first of them.
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
            remedy = "run both with the same run.memory_gib on the same kind and number of devices"
            raise Refusal(f"{directory} is divided into other chunks than {first}; {remedy}")
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
    """Copy the chunks that ``out`` lacks, and their lines of metrics.jsonl."""
    copied = set()
    for path in sorted((directory / "chunks").glob("*.chunk")):
        place = out / "chunks" / path.name
        if place.exists():
            continue
        try:
            data = regular(path).read_bytes()
            facts, _ = chunkfile.decode(data)
            if facts["digest"] != digest or f"{facts['place'][0]:06d}.chunk" != path.name:
                raise ValueError("its digest or number is that of another chunk")
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
    """The number of the chunk in a line of a log; None for an incomplete line."""
    try:
        return parse_json(line)["chunk"]
    except (ValueError, KeyError, TypeError):
        return None


def _manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a run directory; raises Refusal if the directory is not a run."""
    try:
        return store.read(directory)
    except BadInput as error:
        raise Refusal(f"--merge: {error.problem}; {error.remedy}") from None
