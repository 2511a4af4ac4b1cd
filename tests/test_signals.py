"""A second signal while the first one is handled neither hangs the server nor a worker."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

PROGRAM = """
import signal, threading, types
import main
from workers import command

class Interrupted(threading.Event):
    # The second signal comes while set() holds its lock.
    def set(self):
        with self._cond:
            signal.raise_signal(signal.{second})
        super().set()

stop = Interrupted()
{install}
signal.raise_signal(signal.SIGTERM)
print(stop.is_set())
"""


def run(install: str, second: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(install=install, second=second)
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.skipif(sys.platform == "win32", reason="a process there has no signals to send to itself")
@pytest.mark.parametrize("second", ["SIGTERM", "SIGINT"])
def test_a_second_signal_ends_the_server_at_once(second: str) -> None:
    assert run("main._end_on_signals(stop)", second).returncode == -getattr(signal, second)


@pytest.mark.parametrize("second", ["SIGTERM", "SIGINT"])
def test_a_worker_that_is_ending_ignores_a_second_signal(second: str) -> None:
    done = run("command._end_on_signals(types.SimpleNamespace(stop=stop))", second)

    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
