"""Stop a process cleanly on SIGTERM or Ctrl-C, at any point of its work."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final, Literal

ENDING: Final = (signal.SIGTERM, signal.SIGINT)


def call_on_signals(end: Callable[[], None], *, second: Literal["kills", "is ignored"]) -> None:
    """Call `end` in a thread of its own at the first SIGTERM or Ctrl-C.

    second: whether another signal kills the process at once or is ignored.
    """
    # Python runs a handler at any point of the main thread. The main thread may hold the lock of the
    # very Event that `end` sets (Event.wait takes it), so the handler itself takes no lock: it writes a byte. Nor does
    # it raise: an exception inside a finalizer is lost, and the process would never end.
    reading, writing = os.pipe()
    again = signal.SIG_DFL if second == "kills" else signal.SIG_IGN

    def wait() -> None:
        os.read(reading, 1)
        end()

    def handle(_number: int, _frame: FrameType | None) -> None:
        for number in ENDING:
            signal.signal(number, again)
        os.write(writing, b"\0")

    threading.Thread(target=wait, name="signals", daemon=True).start()
    for number in ENDING:
        signal.signal(number, handle)
