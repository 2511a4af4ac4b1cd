"""The time of a soak test, shared by all its processes through a small file, so that it advances for all at once."""

from __future__ import annotations

import mmap
import struct
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lnpay.sandbox.clock import VirtualClock

_NUMBER = struct.Struct("d")

SLOTS = 16
"""The first number is how far the time is ahead of this machine's; each other one, how far a process's clock is off."""


class SharedTime:
    """Seconds in a file, read and written by many processes."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_NUMBER.size * SLOTS))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _NUMBER.size * SLOTS)

    def read(self, slot: int) -> float:
        """The seconds in a slot."""
        return float(_NUMBER.unpack_from(self._memory, slot * _NUMBER.size)[0])

    def write(self, slot: int, seconds: float) -> None:
        """Put seconds into a slot."""
        _NUMBER.pack_into(self._memory, slot * _NUMBER.size, seconds)

    def now(self) -> datetime:
        """The true time."""
        return datetime.now(UTC) + timedelta(seconds=self.read(0))

    def now_in(self, slot: int) -> datetime:
        """The time by the clock of one process."""
        return self.now() + timedelta(seconds=self.read(slot))

    def steady(self) -> float:
        """Monotonic seconds, independent of changes to a process's clock."""
        return time.monotonic() + self.read(0)


class ProviderClock(VirtualClock):
    """The provider's clock: the true time. Advancing it advances the time of all processes."""

    def __init__(self, shared: SharedTime) -> None:
        super().__init__()
        self._shared = shared

    def now(self) -> datetime:
        """The moment."""
        return self._shared.now()

    def advance(self, seconds: float) -> None:
        """Move forward."""
        if seconds < 0:
            raise ValueError("a clock does not run backwards")
        self._shared.write(0, self._shared.read(0) + seconds)
