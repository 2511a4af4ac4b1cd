"""Run a program of ours and kill it, as a power cut would, at its N-th crash point.

Crash points are just before and just after each commit and each outgoing HTTP call. Each run is a process of
its own, forked from one that has already imported the program, because a test of every point starts many.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import runpy
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from sqlalchemy.engine.default import DefaultDialect

import main  # noqa: F401 - what every program imports, so that forks need not
from tests.scenarios.live import ROOT

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["__main__", __name__])


def start(
    program: str, environment: dict[str, str], folder: Path, *, crash_at: int
) -> multiprocessing.process.BaseProcess:
    """Start a program that is killed at its crash point number `crash_at` (0: at none).

    In `folder`, the file "log" gets its output, and "trace" a line for each crash point that it reaches.
    """
    process = _FORKS.Process(target=_run, args=(program, environment, folder, crash_at), daemon=True)
    process.start()
    return process


def _run(program: str, environment: dict[str, str], folder: Path, crash_at: int) -> None:
    """Put crash points around every commit and call, then run the program as its own command would."""
    os.environ.clear()
    os.environ.update(environment)
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    points = _CrashPoints(crash_at, folder / "trace")
    DefaultDialect.do_commit = points.around(DefaultDialect.do_commit, _name_commit)  # type: ignore[method-assign]
    adapter = requests.adapters.HTTPAdapter
    adapter.send = points.around(adapter.send, _name_call)  # type: ignore[method-assign]
    sys.argv = [program]
    runpy.run_path(str(ROOT / program), run_name="__main__")


class _CrashPoints:
    """Counts crash points, and kills this process at one of them."""

    def __init__(self, crash_at: int, trace: Path) -> None:
        self._crash_at = crash_at
        self._trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._reached = 0
        self._lock = threading.Lock()

    def reach(self, name: str) -> None:
        """Count a crash point, and kill this process if it is the one."""
        with self._lock:
            self._reached += 1
            os.write(self._trace, f"{name}\n".encode())
            if self._reached == self._crash_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def around(self, call: Callable[..., Any], name_of: Callable[..., str]) -> Callable[..., Any]:
        """Wrap `call` with a crash point before it and one after it."""

        def wrapped(*arguments: Any, **options: Any) -> Any:
            name = name_of(*arguments)
            self.reach(f"before {name}")
            answer = call(*arguments, **options)
            self.reach(f"after {name}")
            return answer

        return wrapped


def _name_commit(*_: object) -> str:
    return "commit"


def _name_call(_: object, request: requests.PreparedRequest, *__: object) -> str:
    """Method and path, without query and ids, so that the traces of two runs can be compared."""
    path = request.path_url.partition("?")[0]
    return f"{request.method} {re.sub(r'[0-9a-f]{8}-[0-9a-f-]{27}', '*', path)}"
