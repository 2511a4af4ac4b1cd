"""What each worker does in one pass, and how a pass is repeated.

Every pass may overlap with itself, with the others, with the webhook and with any number of servers.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from lnpay.deliveries.send import send_due, send_due_and_wait
from lnpay.domain.errors import LnpayError, Stopping, StrikeRejected
from lnpay.domain.model import Heartbeat
from lnpay.domain.states import RefundState
from lnpay.domain.strike_time import CLOCK_FAIL
from lnpay.invoices.archive import archive
from lnpay.invoices.prune import prune
from lnpay.invoices.sweep import (
    Sweep,
    expire_due,
    lapse_due,
    sweep,
)
from lnpay.monitoring.stalled import StalledWork, find_stalled
from lnpay.refunds.merchant import withdraw_expired_claims
from lnpay.refunds.send import STARTING, send_due_refunds
from lnpay.runtime.backend import Backend

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """The result of a pass. `trouble` says what needs the operator, if anything.

    unreadable: rows of Strike's list that it passed over.
    """

    counts: dict[str, int]
    trouble: str | None = None
    unreadable: int = 0

    @property
    def is_eventful(self) -> bool:
        """Whether the pass did anything or found trouble."""
        return self.trouble is not None or any(self.counts.values())

    def __str__(self) -> str:
        return f"{self._done} trouble: {self.trouble}" if self.trouble else self._done

    @property
    def fields(self) -> str:
        """The same as key=value fields for the log."""
        return f"{self._done} trouble={self.trouble}" if self.trouble else self._done

    @property
    def _done(self) -> str:
        return " ".join(f"{name}={count}" for name, count in self.counts.items())


Pass = Callable[[Backend], Summary]


def main_pass(backend: Backend, *, waits_for_others: bool = False) -> Summary:
    """Detect payments, expire unpaid invoices, send the shop its due messages.

    Strike's time is measured first, because everything the pass writes is dated by it.
    waits_for_others: also wait for the messages that another process is sending.
    """
    backend.strike.measure_time()
    found = sweep(backend.sweep_settlement, backend.sweep_budget.remaining)
    ended = _end_unpaid(backend, found)
    told = (send_due_and_wait if waits_for_others else send_due)(backend.outbox)
    counts = {**_sweep_counts(found), **ended, "delivered": told["delivered"], "refused": told["refused"]}
    troubles = [*_sweep_troubles(found), *_stalled_troubles(backend, ended, "unpaid"), *_unreadable_rows(backend)]
    troubles += [*_stalled_troubles(backend, {}, "deliveries"), *_clock_troubles(backend, found)]
    return Summary(counts, _joined(troubles), found.unreadable)


def expired_pass(backend: Backend) -> Summary:
    """Sweep back as far as a payment can still arrive, expire and lapse invoices, start refunds of late payments.

    Also deletes orders that have been unpaid for long (PRUNE_AFTER_DAYS), and archives old ones (ARCHIVE_AFTER).
    """
    backend.strike.measure_time()
    found = sweep(backend.sweep_settlement, backend.sweep_budget.remaining, is_deep=True)
    ended = _end_unpaid(backend, found)
    refunded = send_due_refunds(backend.refund_sender, STARTING)
    stalled = _stalled_troubles(backend, ended, "unpaid", "expired")
    troubles = [*_sweep_troubles(found), *stalled, *_unreadable_rows(backend), *_clock_troubles(backend, found)]
    old = {
        "pruned": prune(backend.sweep_settlement, found.asked_at, backend.prune_after_days),
        "archived": archive(backend.sweep_settlement, found.asked_at, backend.archive_after_days),
    }
    counts = {**_sweep_counts(found), **ended, "refunded": refunded["sent"]}
    counts.update({name: count for name, count in old.items() if count})
    return Summary(counts, _joined(troubles), found.unreadable)


def refund_pass(backend: Backend) -> Summary:
    """Reconcile refunds in flight, send due ones, retry failed ones, withdraw unclaimed ones."""
    # A claim is not ended by a clock of ours alone: that cannot be undone.
    if backend.strike.measure_time():
        withdraw_expired_claims(backend.refund_issuer)
    counts = send_due_refunds(backend.refund_sender)
    with backend.repository.reading() as tx:
        waiting = len(tx.refunds.in_states((RefundState.HELD,), limit=1_000))
        stuck = tx.refunds.count_stuck()
    troubles = [*_refund_troubles(counts), *_unreadable_rows(backend)]
    if waiting or stuck:
        troubles.append(f"{waiting} held and {stuck} unclear refunds wait for you: python main.py refunds list")
    troubles += [*_stalled_troubles(backend, {}, "refunds"), *_clock_troubles(backend)]
    shown = {state: counts[state] for state in ("sent", "in_flight", "failed", "unanswered", "error")}
    return Summary(shown, _joined(troubles))


def _end_unpaid(backend: Backend, found: Sweep) -> dict[str, int]:
    expired = expire_due(backend.sweep_settlement, found)
    return {"expired": expired, "lapsed": lapse_due(backend.sweep_settlement, found)}


def _sweep_counts(found: Sweep) -> dict[str, int]:
    return {"settled": found.settled, "paid_late": found.paid_late, "failed": found.failed}


def _sweep_troubles(found: Sweep) -> Iterator[str]:
    """Why a sweep did not complete: payments may go unnoticed meanwhile."""
    if isinstance(found.stopped_by, StrikeRejected) and found.stopped_by.status == 401:
        yield "Strike rejects STRIKE_API_KEY: put a valid key into config/.env"
    elif isinstance(found.stopped_by, StrikeRejected):
        yield f"{found.stopped_by.message}: check the key's scopes and the log"
    elif found.stopped_by is not None:
        yield f"payments could not be checked at Strike: {found.stopped_by.message}"
    elif found.is_blind:
        yield "payments could not be checked: Strike's list cannot be read, and no calls are left for single invoices"
    elif found.failed:
        yield f"{found.failed} invoices could not be reconciled: see the log"
    if found.why_none_lapses is not None:
        yield (
            f"{found.why_none_lapses}, so no expired invoice lapses, in case the payment belongs to one: check the "
            "pending payments in Strike's dashboard"
        )


def _stalled_troubles(backend: Backend, ended: dict[str, int], *kinds: str) -> Iterator[str]:
    """Report stalled work. ended: what this pass has just completed, which no longer counts as stalled."""
    if any(ended.values()):
        return
    with backend.repository.reading() as tx:
        stalled = find_stalled(tx, backend.clock())
    yield from StalledWork(**{kind: getattr(stalled, kind) for kind in kinds}).in_words()


def _refund_troubles(counts: Counter[str]) -> Iterator[str]:
    if counts["unanswered"] and counts["unanswered"] + counts["error"] == counts.total():
        yield "refunds could not be worked on: Strike did not answer"
    if counts["error"]:
        yield f"{counts['error']} refunds could not be worked on: see the log"


def _clock_troubles(backend: Backend, found: Sweep | None = None) -> Iterator[str]:
    """Report a wrong local clock, or that Strike's time, which expiring invoices needs, is unknown."""
    offset = backend.strike.time.offset()
    if offset is not None and offset.least > CLOCK_FAIL:
        yield f"this machine's clock is {offset.in_words}: let the system set it"
    has_looked = found is not None and found.stopped_by is None and found.since is not None
    if has_looked and backend.strike.time.certain() is None:
        yield "Strike's answers do not give a consistent time, so no invoice expires"


def _unreadable_rows(backend: Backend) -> Iterator[str]:
    """Report unreadable rows of the database. Those in Strike's list usually belong to other programs."""
    words = backend.repository.unreadable.in_words()
    if words is not None:
        yield words


def _joined(troubles: Iterable[str]) -> str | None:
    return "; ".join(troubles) or None


def make_pass(backend: Backend, worker: str, one_pass: Pass) -> Summary:
    """Make a pass and store its heartbeat, by which a worker that stopped is noticed."""
    try:
        summary = one_pass(backend)
    except Stopping:
        raise
    except LnpayError as error:
        _remember(backend, worker, error.message, 0)
        raise
    _remember(backend, worker, summary.trouble, summary.unreadable)
    return summary


def _remember(backend: Backend, worker: str, trouble: str | None, unreadable: int) -> None:
    rows = unreadable + backend.repository.unreadable.count()
    with backend.repository.transaction() as tx:
        tx.heartbeats.beat(Heartbeat(worker, backend.clock(), trouble, unreadable=rows, host=backend.host))


def repeat(one_pass: Callable[[], Summary], seconds: float, stop: threading.Event) -> None:
    """Make a pass every `seconds` until `stop` is set; the pass in hand is finished. A pass that fails is logged."""
    while not stop.is_set():
        try:
            summary = one_pass()
            log.log(logging.INFO if summary.is_eventful else logging.DEBUG, "pass done %s", summary.fields)
        except Stopping:
            return
        except LnpayError as error:
            log.error("pass failed error=%s", error.message)
        except Exception:
            log.exception("pass failed unexpectedly")
        stop.wait(seconds)


TIME_EVERY_SECONDS = 60.0
"""How often a server checks that it knows Strike's time; it asks only if no recent answer gave it."""


def start_timekeeper(backend: Backend) -> threading.Thread:
    """Keep Strike's time known in a thread until `backend.stop` is set: pages need it even without sales."""

    def keep() -> None:
        while not backend.stop.is_set():
            try:
                backend.strike.measure_time()
            except LnpayError as error:
                log.error("strike's time is unknown error=%s", error.message)
            backend.stop.wait(TIME_EVERY_SECONDS)

    thread = threading.Thread(target=keep, name="timekeeper", daemon=True)
    thread.start()
    return thread


WORKER_INTERVALS = {"main": (main_pass, 5.0), "expired": (expired_pass, 60.0), "refund": (refund_pass, 15.0)}
"""The passes of `python main.py --with-workers`, and their pace."""


def start_workers(backend: Backend) -> None:
    """Repeat every pass in threads of this process, until `backend.stop` is set."""
    for name, (one_pass, seconds) in WORKER_INTERVALS.items():
        threading.Thread(
            target=repeat,
            args=(partial(make_pass, backend, name, one_pass), seconds, backend.stop),
            name=f"{name}-worker",
            daemon=True,
        ).start()
