"""Work for several receivers in parallel, so that a slow one does not delay the others."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

LOOK_SECONDS = 0.25
"""How soon new work in one lane starts while another lane is busy."""

FindDue = Callable[[], Mapping[int, int]]
"""Returns how many pieces of work wait in each lane."""

Work = Callable[[int, threading.Event], Counter[str]]
"""Works through a lane until nothing is due or the event is set. Returns counts of what was done."""


def run_lanes(find_due: FindDue, work: Work, *, workers: int, stop: threading.Event) -> Counter[str]:
    """Work through every lane, each with up to `workers` threads of its own, until nothing is due in any.

    Raises what `work` and `find_due` raise, after the current pieces are finished.
    """
    done: Counter[str] = Counter()
    leaving = threading.Event()
    running: dict[Future[Counter[str]], int] = {}
    # The pool starts threads only for submitted work.
    with ThreadPoolExecutor(max_workers=1_000, thread_name_prefix="delivery") as pool:
        try:
            while True:
                for lane in [] if stop.is_set() else _to_start(find_due(), running, workers):
                    running[pool.submit(work, lane, leaving)] = lane
                if not running:
                    return done
                for future in wait(running, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED).done:
                    del running[future]
                    done += future.result()
        finally:
            leaving.set()


def _to_start(due: Mapping[int, int], running: Mapping[Future[Counter[str]], int], workers: int) -> list[int]:
    """The lane of each thread to start now."""
    busy = Counter(running.values())
    return [lane for lane, count in due.items() for _ in range(min(count, workers - busy[lane]))]
