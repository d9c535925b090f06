"""Ctrl-C and SIGTERM end a command in one line, at whatever moment they come."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from launch import interrupt

START = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # a process that a shell started in the background ignores it
os.execv(sys.executable, [sys.executable, "-m", "launch.grid", "--dry-run", "--out", sys.argv[1]])
"""


def until_installed(process: subprocess.Popen[str]) -> None:
    """Wait until the process handles SIGTERM, which Python alone does not."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        time.sleep(2)
        return
    for _ in range(3000):
        caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt"))
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.01)
    raise AssertionError("it never handled SIGTERM")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_a_signal_ends_a_command_while_it_imports(tmp_path: Path, number: signal.Signals, seconds: float) -> None:
    command = [sys.executable, "-c", START, tmp_path / "run"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until_installed(process)
    time.sleep(seconds)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "interrupted: what was finished is kept; rerun to resume\n"


def test_code_that_holds_the_main_thread_up_is_ended_too(tmp_path: Path) -> None:
    """A lock that is never free, and a library that swallows the exception."""
    code = """
import threading
from launch import interrupt
interrupt.install()
with interrupt.telling(lambda: "told"):
    print("ready", flush=True)
    while True:
        try:
            threading.Lock().acquire() and threading.Event().wait(0.01)
            lock = threading.Lock(); lock.acquire(); lock.acquire()
        except BaseException:
            pass
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "told\n")


LEAVE = """
import atexit, sys, threading, time
from launch import interrupt
from launch.shell import leave

interrupt.install()

class Last:
    def __del__(self):
        print("taken apart")

last = Last()
atexit.register(print, "at its end")
threading.Thread(target=time.sleep, args=(60,)).start()
print("said")
leave(int(sys.argv[1]))
"""


@pytest.mark.parametrize(("code", "said"), [(0, "said\nat its end\n"), (2, "said\nat its end\n"), (130, "said\n")])
def test_a_command_that_is_done_ends_before_python_hears_no_signals(code: int, said: str) -> None:
    command = [sys.executable, "-c", LEAVE, str(code)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (code, said, "")


def test_output_that_nobody_reads_at_the_end_is_no_traceback() -> None:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", LEAVE, "0"]
    with subprocess.Popen(command, env=kept, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_other_processes_keep_their_signals() -> None:
    assert not interrupt.is_command()
    assert "interrupt" not in {thread.name for thread in threading.enumerate()}
