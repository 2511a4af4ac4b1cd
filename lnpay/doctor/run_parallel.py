"""Several things at the same time, none of them waited for longer than agreed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence


def run_at_once(tasks: Sequence[Callable[[], object]], seconds: float) -> None:
    """Run every task in a thread of its own. One that is not done in time is left behind, and dies with the process."""
    # Not a pool: a pool's threads keep the process alive until they are done.
    threads = [threading.Thread(target=task, name="doctor", daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
