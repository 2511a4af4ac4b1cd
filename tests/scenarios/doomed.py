"""Run a program of ours and kill it, as a power cut would, at its N-th crash point.

Crash points are just before and just after each commit and each outgoing HTTP call. Each run is a process of
its own, forked from one that has the imports behind it, because a walk over all the points starts many.
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

import main  # noqa: F401 - what every program imports, so that a fork has it
from tests.scenarios.live import ROOT

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["__main__", __name__])


def start(
    program: str, environment: dict[str, str], folder: Path, *, fatal: int
) -> multiprocessing.process.BaseProcess:
    """Start a program that will be killed at crash point `fatal` (0: at none).

    In `folder`, the file "log" gets what it says, and "trace" a line for each crash point that it reaches.
    """
    process = _FORKS.Process(target=_run, args=(program, environment, folder, fatal), daemon=True)
    process.start()
    return process


def _run(program: str, environment: dict[str, str], folder: Path, fatal: int) -> None:
    """Surround every commit and every call, then run the program as if it had been called itself."""
    os.environ.clear()
    os.environ.update(environment)
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    doom = _Doom(fatal, folder / "trace")
    DefaultDialect.do_commit = doom.around(DefaultDialect.do_commit, _name_commit)  # type: ignore[method-assign]
    adapter = requests.adapters.HTTPAdapter
    adapter.send = doom.around(adapter.send, _name_call)  # type: ignore[method-assign]
    sys.argv = [program]
    runpy.run_path(str(ROOT / program), run_name="__main__")


class _Doom:
    """Counts crash points, and kills this process at one of them."""

    def __init__(self, fatal: int, trace: Path) -> None:
        self._fatal = fatal
        self._trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._reached = 0
        self._lock = threading.Lock()

    def reach(self, name: str) -> None:
        """Come to a crash point."""
        with self._lock:
            self._reached += 1
            os.write(self._trace, f"{name}\n".encode())
            if self._reached == self._fatal:
                os.kill(os.getpid(), signal.SIGKILL)

    def around(self, call: Callable[..., Any], name_of: Callable[..., str]) -> Callable[..., Any]:
        """`call`, with a crash point before and one after it."""

        def doomed(*arguments: Any, **options: Any) -> Any:
            name = name_of(*arguments)
            self.reach(f"before {name}")
            answer = call(*arguments, **options)
            self.reach(f"after {name}")
            return answer

        return doomed


def _name_commit(*_: object) -> str:
    return "commit"


def _name_call(_: object, request: requests.PreparedRequest, *__: object) -> str:
    """Method and path, without query and ids, so that the traces of two runs can be compared."""
    path = request.path_url.partition("?")[0]
    return f"{request.method} {re.sub(r'[0-9a-f]{8}-[0-9a-f-]{27}', '*', path)}"
