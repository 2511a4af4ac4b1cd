"""A thread of the server that sends due messages and refunds: when woken, or when the next one is due."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from lnpay.domain.model import Clock

log = logging.getLogger(__name__)

LONGEST_SLEEP = timedelta(seconds=30)
"""A fallback: another process may have created work that is due, although it normally sends that itself."""

SHORTEST_SLEEP = timedelta(seconds=1)
"""Work still due right after a round was left on purpose: the other side rate-limits, or does not answer."""


class Dispatcher:
    """Calls `send` when woken and when `next_due_at` has come, until `stop` is set."""

    def __init__(
        self,
        name: str,
        send: Callable[[], object],
        next_due_at: Callable[[], datetime | None],
        clock: Clock,
        stop: threading.Event,
    ) -> None:
        self._send = send
        self._next_due_at = next_due_at
        self._clock = clock
        self._stop = stop
        self._awake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start, sending what is already due."""
        self._thread.start()

    def wake(self) -> None:
        """Announce new work."""
        self._awake.set()

    def join(self, timeout_seconds: float = 20) -> None:
        """Wait until the current work is finished; `stop` must be set."""
        self._awake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._send()
                pause = self._until_next()
            except Exception:  # a locked database must not end the only thread that sends
                log.exception("dispatch failed, retrying thread=%s", self._thread.name)
                pause = timedelta(seconds=1)
            self._awake.wait(max(SHORTEST_SLEEP, min(pause, LONGEST_SLEEP)).total_seconds())
            self._awake.clear()

    def _until_next(self) -> timedelta:
        due_at = self._next_due_at()
        return LONGEST_SLEEP if due_at is None else due_at - self._clock()
