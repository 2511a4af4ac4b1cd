"""What a comparison with Strike needs, and calls to Strike that wait for their turn.

The calls stay within a fraction of the budget that all processes share; when it is used up, they wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from lnpay.domain.errors import StrikeAmbiguous, StrikeRejected, StrikeUnavailable
from lnpay.domain.model import Clock
from lnpay.repository import Repository
from lnpay.strike.client import Strike

CALLS_SHARE = 0.5
"""The fraction of Strike's ten-minute budget that this may use. Sweeps may use more: sales have priority."""

BUDGET_PAUSE_SECONDS = 60
LONGEST_PAUSE_SECONDS = 900
"""Strike usually blocks for ten minutes. If it blocks for an hour, give up and report when to come back."""

PAUSES_AFTER_NO_ANSWER = (2, 10)
MOST_PAUSES = 30
"""Per call. Waiting longer does not help."""


class Progress(Protocol):
    """Receives progress; `total` if it is known."""

    def __call__(self, words: str, done: int, total: int | None = None) -> None: ...


def silent(words: str, done: int, total: int | None = None) -> None:
    """Discard progress messages."""


@dataclass(frozen=True)
class Auditor:
    """Everything needed for a comparison.

    events: the event types that the shop subscribes to. calls_left: how many calls may still be made now.
    pause: waits so many seconds. is_shared: other programs make invoices in the same account.
    is_thorough: read every payment by its id, one call each, which also compares the times.
    """

    repository: Repository
    strike: Strike
    clock: Clock
    events: frozenset[str]
    calls_left: Callable[[], int]
    pause: Callable[[float], object]
    progress: Progress = silent
    is_shared: bool = False
    is_thorough: bool = False


Item = TypeVar("Item")


class Page(Protocol):
    """One page of a list at Strike; see `InvoicePage`."""

    @property
    def is_last(self) -> bool: ...

    @property
    def next_skip(self) -> int: ...


SomePage = TypeVar("SomePage", bound=Page)


class ListRepeats(StrikeAmbiguous):
    """A page of Strike's list shows only rows of earlier pages, so the rest of the list cannot be reached."""


def read_pages(
    auditor: Auditor,
    words: str,
    read: Callable[[int], SomePage],
    ids_of: Callable[[SomePage], Iterable[str]],
) -> Iterator[SomePage]:
    """A list at Strike, page by page, to its end.

    words: of the progress. read: one page, from so many rows on. ids_of: the ids of a page's rows.
    Raises ListRepeats; StrikeError as `ask` does.
    """
    skip = 0
    known: set[str] = set()
    while True:
        page = ask(auditor, partial(read, skip))
        auditor.progress(words, page.next_skip)
        ids = set(ids_of(page))
        if skip and ids <= known and not page.is_last:
            raise ListRepeats("Strike's list repeats itself")
        known |= ids
        yield page
        if page.is_last:
            return
        skip = page.next_skip


def refuses_or_repeats(error: StrikeRejected | ListRepeats) -> str:
    """What Strike does with a list that cannot be read to its end, as a verb."""
    return "repeats rows of" if isinstance(error, ListRepeats) else "refuses"


def ask_for(auditor: Auditor, call: Callable[[], Item]) -> Item | None:
    """Strike's entity with that id; None if there is none. Raises as `ask` does."""
    try:
        return ask(auditor, call)
    except StrikeRejected as error:
        if error.status == 404:
            return None
        raise


def ask(auditor: Auditor, call: Callable[[], Item]) -> Item:
    """Make a call if the budget allows; wait if Strike asks for it, and retry if Strike is unavailable.

    Raises StrikeError if that does not help.
    """
    unanswered = iter(PAUSES_AFTER_NO_ANSWER)
    for _ in range(MOST_PAUSES):
        if auditor.calls_left() <= 0:
            _wait(auditor, BUDGET_PAUSE_SECONDS, "waiting: the remaining calls are reserved for sales")
            continue
        try:
            return call()
        except (StrikeUnavailable, StrikeAmbiguous) as error:
            seconds = error.retry_after_seconds or next(unanswered, None)
            if seconds is None or seconds > LONGEST_PAUSE_SECONDS:
                raise
            _wait(auditor, seconds, "waiting for Strike")
    raise StrikeUnavailable("the budget of calls is used up")


def _wait(auditor: Auditor, seconds: float, words: str) -> None:
    auditor.progress(f"{words}, {seconds:.0f} s", 0)
    auditor.pause(seconds)
