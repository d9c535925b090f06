"""One run by processes of jax.distributed: the bits of one process alone; what cannot be is refused in one line."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import numpy as np
import pytest
import xarray as xr

from launch import grid
from tests.commands import ended

pytestmark = pytest.mark.usefixtures("never_drawn")
OPTIONS = ["--problem.dim", "4", "--problem.n", "20", "--problem.rank", "1", "--problem.noise", "0,0.1"]
OPTIONS += ["--train.steps", "20", "--fine_tune.steps", "10", "--run.record_every", "10", "--run.precision", "float64"]
OPTIONS += ["--train.penalty", "0.1", "--run.seeds", "4", "--run.curvature_steps", "0"]
Start = Callable[[list[str], list[str], Path], "Popen[str]"]


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--distributed", "here", "--shard", "0/2"],
            "--distributed: 'here' is not an address; give auto, or HOST:PORT",
        ),
        (["--distributed", "a:b", "--shard", "0/2"], "--distributed: 'a:b' is not an address; give auto, or HOST:PORT"),
        (["--distributed", "a\x1b:1", "--shard", "0/2"], "--distributed: 'a\\x1b:1' is not an address"),
        (["--distributed", "127.0.0.1:1"], "--distributed: HOST:PORT does not say which process this is; add --shard"),
        (["--distributed", "auto", "--shard", "0/2"], "--shard: --distributed auto finds the process number; leave"),
    ],
)
def test_what_says_not_who_the_processes_are_is_refused(words: list[str], said: str, tmp_path: Path) -> None:
    refused = ended(grid.main, *OPTIONS, "--out", tmp_path / "out", *words)
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert refused.err.startswith(f"error: {said}")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_two_processes_fill_one_directory_with_the_bits_of_one(tmp_path: Path, process: Start) -> None:
    for part in (["--shard", "0/2"], []):
        assert ended(grid.main, *OPTIONS, "--out", tmp_path / "alone", *part).code == 0
    address = f"127.0.0.1:{free_port()}"
    words = [*OPTIONS, "--out", "out", "--distributed", address, "--shard"]
    both = [process(["-m", "launch.grid"], [*words, f"{index}/2"], tmp_path) for index in (0, 1)]
    (out, err), (other, other_err) = (each.communicate(timeout=300) for each in both)
    assert [each.returncode for each in both] == [0, 0]
    assert err == other_err == ""
    assert other == "process 1 of 2 is done; all chunks are in out; process 0 collects them\n"
    assert "8 cells in " in out
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert sorted(line["chunk"] for line in lines) == [0, 1]
    one, two = (xr.load_dataset(tmp_path / name / "results.nc", engine="h5netcdf") for name in ("alone", "out"))
    assert all(np.array_equal(one[name], two[name], equal_nan=True) for name in one.data_vars)
    left = [path.name for path in tmp_path.rglob(".*")]
    assert left == []


@pytest.mark.slow
def test_folders_that_the_others_do_not_see_are_refused(tmp_path: Path, process: Start) -> None:
    code = ["-c", "import sys; from launch import grid, processes; processes.SEEN = 1.0; sys.exit(grid.main())"]
    words = [*OPTIONS, "--out", "out", "--distributed", f"127.0.0.1:{free_port()}", "--shard"]
    for name in "01":
        (tmp_path / name).mkdir()
    both = [process(code, [*words, f"{name}/2"], tmp_path / name) for name in "01"]
    _, err = both[1].communicate(timeout=300)
    assert both[1].returncode == 2
    assert err == (
        f"error: --out: process 1 of 2 does not see the {tmp_path / '1'} of process 0; "
        "choose a directory that all processes see\n"
    )
    both[0].communicate(timeout=300)
    assert both[0].returncode == 0
    assert [path.name for path in tmp_path.glob("1/*")] == []


@pytest.mark.slow
def test_processes_that_do_not_come_are_given_up_in_one_line(tmp_path: Path, process: Start) -> None:
    code = ["-c", "import sys; from launch import grid, processes; processes.PATIENCE = 1.0; sys.exit(grid.main())"]
    address = f"127.0.0.1:{free_port()}"
    alone = process(code, [*OPTIONS, "--distributed", address, "--shard", "0/2"], tmp_path)
    out, err = alone.communicate(timeout=300)
    assert (alone.returncode, out) == (2, "")
    assert err == (
        f"error: --distributed: {address}: the processes do not find one another within 1 s; "
        "start all N with the same address\n"
    )
