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
    """What a pass did. `trouble` is what a person should look at, in words, if anything.

    unreadable: rows of Strike's list that it passed over.
    """

    counts: dict[str, int]
    trouble: str | None = None
    unreadable: int = 0

    @property
    def is_eventful(self) -> bool:
        """Whether anything was done or is wrong."""
        return self.trouble is not None or any(self.counts.values())

    def __str__(self) -> str:
        return f"{self._done} trouble: {self.trouble}" if self.trouble else self._done

    @property
    def fields(self) -> str:
        """The same for the log, where all is key=value."""
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
    """Look back as far as a payment can still arrive, end unpaid invoices, start the refunds of late payments.

    What was not paid for a long time is deleted.
    """
    backend.strike.measure_time()
    found = sweep(backend.sweep_settlement, backend.sweep_budget.remaining, is_deep=True)
    ended = _end_unpaid(backend, found)
    refunded = send_due_refunds(backend.refund_sender, STARTING)
    stalled = _stalled_troubles(backend, ended, "unpaid", "expired")
    troubles = [*_sweep_troubles(found), *stalled, *_unreadable_rows(backend), *_clock_troubles(backend, found)]
    pruned = prune(backend.sweep_settlement, found.asked_at, backend.prune_after_days)
    counts = {**_sweep_counts(found), **ended, "refunded": refunded["sent"]}
    return Summary({**counts, "pruned": pruned} if pruned else counts, _joined(troubles), found.unreadable)


def refund_pass(backend: Backend) -> Summary:
    """Ask what became of refunds in flight, send what is due, try again what failed, withdraw unclaimed ones."""
    backend.strike.measure_time()
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
    """What kept a look at Strike from its end, even for once: payments may be unnoticed meanwhile."""
    if isinstance(found.stopped_by, StrikeRejected) and found.stopped_by.status == 401:
        yield "Strike rejects STRIKE_API_KEY: put a valid key into config/.env"
    elif isinstance(found.stopped_by, StrikeRejected):
        yield f"{found.stopped_by.message}: look at the scopes of the key and at the log"
    elif found.stopped_by is not None:
        yield f"payments could not be looked up at Strike: {found.stopped_by.message}"
    elif found.is_blind:
        yield "payments could not be looked up: Strike's list cannot be read, and no calls are left for single invoices"
    elif found.failed:
        yield f"{found.failed} invoices could not be reconciled: see the log"
    if found.why_none_lapses is not None:
        yield (
            f"{found.why_none_lapses}, so no expired invoice lapses, in case the payment is one of theirs: look at the "
            "pending payments in Strike's dashboard"
        )


def _stalled_troubles(backend: Backend, ended: dict[str, int], *kinds: str) -> Iterator[str]:
    """Work of some kinds that does not move. ended: what the pass has ended: after days without one, that moves."""
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
    """A clock of this machine that is wrong, or a time of Strike's that a look at it (None: without one) needs."""
    offset = backend.strike.time.offset()
    if offset is not None and offset.least > CLOCK_FAIL:
        yield f"this machine's clock is {offset.in_words}: let the system set it"
    has_looked = found is not None and found.stopped_by is None and found.since is not None
    if has_looked and backend.strike.time.certain() is None:
        yield "Strike's answers do not agree on its time, or do not say it, so no invoice is ended"


def _unreadable_rows(backend: Backend) -> Iterator[str]:
    """Odd rows of Strike's list are other programs' as a rule; those of the database are ours."""
    words = backend.repository.unreadable.in_words()
    if words is not None:
        yield words


def _joined(troubles: Iterable[str]) -> str | None:
    return "; ".join(troubles) or None


def make_pass(backend: Backend, worker: str, one_pass: Pass) -> Summary:
    """Make a pass and remember when it ended and what is wrong: a worker that is silent is noticed by that."""
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
        tx.heartbeats.beat(Heartbeat(worker, backend.clock(), trouble, unreadable=rows))


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
"""How often a server makes sure that it knows Strike's time; it asks only where no answer has told it lately."""


def start_timekeeper(backend: Backend) -> threading.Thread:
    """Know Strike's time in a thread of this process, until `backend.stop` is set: pages show it, sales or none."""

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
