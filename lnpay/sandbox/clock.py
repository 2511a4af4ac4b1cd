"""A clock that tests and the pages can move: real time plus an offset, or frozen."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

FROZEN_START = datetime(2026, 1, 1, tzinfo=UTC)


class VirtualClock:
    """The time of the whole sandbox.

    running=True follows real time, shifted; running=False stands still until `advance` moves it.
    """

    def __init__(self, start: datetime | None = None, running: bool = True) -> None:
        self.is_running = running
        self._lock = threading.Lock()
        self._frozen_at = start or FROZEN_START
        self._offset = start - datetime.now(UTC) if start and running else timedelta()

    def now(self) -> datetime:
        """The current time, UTC-aware."""
        if self.is_running:
            return datetime.now(UTC) + self._offset
        return self._frozen_at

    def advance(self, seconds: float) -> None:
        """Move forward. Moving back is refused, because recorded times would lie in the future."""
        if seconds < 0:
            raise ValueError("a clock cannot be moved back")
        with self._lock:
            if self.is_running:
                self._offset += timedelta(seconds=seconds)
            else:
                self._frozen_at += timedelta(seconds=seconds)
