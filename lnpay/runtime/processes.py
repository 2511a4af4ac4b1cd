"""Several server processes on one machine that share the listening sockets (WORKERS).

A parent opens the sockets and forks the processes, one after another. It holds no database connection and no thread, so
a process that ends unexpectedly can be replaced at any time; connections wait in the sockets' queue meanwhile. When the
parent is gone, even by SIGKILL, its processes finish what they have begun, and end.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from lnpay.runtime.signals import ENDING

log = logging.getLogger(__name__)

BACKLOG = 1_024
"""Connections that wait until a process accepts them."""

PAUSE_SECONDS = 1.0
"""How long the parent waits before it replaces a process, which may end again for the same reason."""

KILLED = 128
"""Added to the number of the signal that ended a process, as shells do."""

Serve = Callable[[int, Callable[[], None]], int]
"""Serves as the process of that number, the first is 0, until SIGTERM. Calls the function as soon as it can answer.
Returns the exit code."""


def can_fork() -> bool:
    """Whether this system can run several processes."""
    return hasattr(os, "fork")


def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of `host`, so that several processes can accept. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            sockets.append(socket.create_server(address[:2], family=family, backlog=BACKLOG))
    except OSError:
        close_all(sockets)
        raise
    return sockets


def close_all(sockets: Sequence[socket.socket]) -> None:
    """Close this process' copies."""
    for one in sockets:
        one.close()


class ServerProcesses:
    """Runs `count` processes, and replaces those that end unexpectedly, until SIGTERM or Ctrl-C.

    The first signal ends them after the requests in progress; another one kills them.
    sockets: they accept from these. on_ready: called once all of them can answer.
    """

    def __init__(
        self, count: int, serve: Serve, sockets: Sequence[socket.socket], on_ready: Callable[[], None]
    ) -> None:
        self._count, self._serve, self._sockets, self._on_ready = count, serve, sockets, on_ready
        self._numbers: dict[int, int] = {}
        self._is_stopping = False
        self._exit_code = 0
        # Only the parent holds the writing end: when it is gone, its processes read the end of the file.
        self._alive, self._kept = os.pipe()

    def run(self) -> int:
        """Run them. Returns the exit code: 0, or that of a process that could not start or stop as it should."""
        for ending in ENDING:
            signal.signal(ending, self._end)
        for number in range(self._count):
            # The first brings the database up to date, before another looks at it.
            code = self._start(number)
            if code is not None:
                self._exit_code = code
                self._stop()
                break
        if not self._is_stopping:
            self._on_ready()
        while self._numbers:
            self._wait_for_one()
        return self._exit_code

    def _start(self, number: int) -> int | None:
        """Start a process and wait until it can answer. Its exit code if it ended before; None otherwise."""
        if self._is_stopping:
            return None
        ready, is_ready = os.pipe()
        sys.stdout.flush()
        with _signals_blocked():
            pid = os.fork()
            if pid == 0:
                os.close(ready)
                os.close(self._kept)
                self._run_process(number, is_ready)
            self._numbers[pid] = number
        os.close(is_ready)
        has_started = os.read(ready, 1) != b""
        os.close(ready)
        if has_started:
            return None
        _, status = os.waitpid(pid, 0)
        del self._numbers[pid]
        return None if self._is_stopping else _exit_code(status) or 1

    def _run_process(self, number: int, is_ready: int) -> None:
        """The whole life of a process. Never returns."""
        code = 1
        try:
            for one in ENDING:
                signal.signal(one, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
            threading.Thread(target=self._end_with_parent, name="parent", daemon=True).start()
            code = self._serve(number, lambda: _close_with_a_byte(is_ready))
        except BaseException:
            log.exception("server process failed number=%d", number)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _end_with_parent(self) -> None:
        os.read(self._alive, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    def _wait_for_one(self) -> None:
        """Wait until a process ends, and replace it unless all of them are to end."""
        pid, status = os.waitpid(-1, 0)
        number, code = self._numbers.pop(pid, None), _exit_code(status)
        if number is None:  # not ours: in a container this may be process 1, which inherits those without a parent
            return
        if self._is_stopping:
            self._exit_code = max(self._exit_code, code)
            return
        ended: int | None = code
        while ended is not None and not self._is_stopping:
            log.error("server process ended, starting another number=%d exit_code=%d", number, ended)
            time.sleep(PAUSE_SECONDS)
            ended = self._start(number)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_stopping:
            self._signal_all(signal.SIGKILL)
        else:
            self._stop()

    def _stop(self) -> None:
        self._is_stopping = True
        self._signal_all(signal.SIGTERM)
        close_all(self._sockets)

    def _signal_all(self, number: int) -> None:
        for pid in list(self._numbers):
            # It may have ended a moment ago.
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else KILLED - code


def _close_with_a_byte(is_ready: int) -> None:
    os.write(is_ready, b"\0")
    os.close(is_ready)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Delay SIGTERM and Ctrl-C: one that came between the fork and the note of it would miss the new process."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
