"""Run several tasks in parallel with a common deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence


def run_parallel(tasks: Sequence[Callable[[], object]], timeout_seconds: float) -> None:
    """Run every task in a separate thread. A task that misses the deadline is abandoned and ends with the process."""
    # Not a thread pool: its threads would keep the process alive until they finish.
    threads = [threading.Thread(target=task, name="doctor", daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    end = time.monotonic() + timeout_seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
