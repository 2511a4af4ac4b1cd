"""A signal ends the process at any point of its work."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

PROGRAM = """
import signal, threading
from lnpay.runtime.signals import call_on_signals

stop = threading.Event()
call_on_signals(stop.set, second={second!r})
{body}
print(stop.wait(20), flush=True)
"""

WITHIN_WAIT = """
with stop._cond:  # as Event.wait() does before it sleeps
    signal.raise_signal(signal.{name})
"""

TWICE = """
signal.raise_signal(signal.SIGTERM)
signal.raise_signal(signal.{name})
"""


def run(body: str, second: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(body=body, second=second)
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_while_the_event_is_locked_ends_the_wait(name: str) -> None:
    done = run(WITHIN_WAIT.format(name=name), "kills")

    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="a process there has no signals to send to itself")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_second_signal_kills_where_it_should(name: str) -> None:
    assert run(TWICE.format(name=name), "kills").returncode == -getattr(signal, name)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_second_signal_is_ignored_where_it_should(name: str) -> None:
    done = run(TWICE.format(name=name), "is ignored")

    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
