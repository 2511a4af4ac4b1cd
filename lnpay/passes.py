"""What each worker does in one pass, and how a pass is repeated.

Every pass may overlap with itself, with the others, with the webhook and with any number of servers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from lnpay.backend import Backend
from lnpay.deliveries import send_due, send_due_and_wait
from lnpay.errors import LnpayError, Stopping, StrikeRejected
from lnpay.model import Heartbeat
from lnpay.refunds import STARTING, send_due_refunds
from lnpay.states import RefundState
from lnpay.sweeps import Sweep, expire_due, lapse_due, sweep

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """What a pass did. `trouble` is what a person should look at, in words, if anything."""

    counts: dict[str, int]
    trouble: str | None = None

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


def main_pass(backend: Backend, *, is_patient: bool = False) -> Summary:
    """Learn of payments, end what nobody paid, tell the shop what is due.

    Strike's time comes first, because it dates what a pass writes.
    is_patient: also see out the messages that another process is sending at this moment.
    """
    backend.strike.measure_time()
    found = sweep(backend.sweep_ledger, backend.sweep_budget.remaining)
    ended = _end_unpaid(backend, found)
    told = (send_due_and_wait if is_patient else send_due)(backend.outbox)
    counts = {**_sweep_counts(found), **ended, "delivered": told["delivered"], "refused": told["refused"]}
    return Summary(counts, _trouble(found))


def expired_pass(backend: Backend) -> Summary:
    """Look back as far as a payment can still come, end what nobody paid, start the refunds of what came too late."""
    backend.strike.measure_time()
    found = sweep(backend.sweep_ledger, backend.sweep_budget.remaining, is_deep=True)
    ended = _end_unpaid(backend, found)
    refunded = send_due_refunds(backend.refund_desk, STARTING)
    return Summary({**_sweep_counts(found), **ended, "refunded": refunded["sent"]}, _trouble(found))


def refund_pass(backend: Backend) -> Summary:
    """Ask what became of refunds in flight, send what is due, try again what failed."""
    backend.strike.measure_time()
    counts = send_due_refunds(backend.refund_desk)
    with backend.repository.reading() as tx:
        waiting = len(tx.refunds.in_states((RefundState.HELD,), limit=1_000))
        stuck = tx.refunds.count_stuck()
    trouble = None
    if waiting or stuck:
        trouble = f"{waiting} held and {stuck} unclear refunds wait for you: python main.py refunds list"
    return Summary({state: counts[state] for state in ("sent", "in_flight", "failed", "unanswered", "error")}, trouble)


def _end_unpaid(backend: Backend, found: Sweep) -> dict[str, int]:
    expired = expire_due(backend.sweep_ledger, found)
    return {"expired": expired, "lapsed": lapse_due(backend.sweep_ledger, found)}


def _sweep_counts(found: Sweep) -> dict[str, int]:
    return {"settled": found.settled, "paid_late": found.paid_late, "failed": found.failed}


def _trouble(found: Sweep) -> str | None:
    if isinstance(found.stopped_by, StrikeRejected) and found.stopped_by.status == 401:
        return "Strike does not accept STRIKE_API_KEY: put a valid key into config/.env"
    if isinstance(found.stopped_by, StrikeRejected):
        return f"{found.stopped_by.message}: look at the scopes of the key and at the log"
    if found.failed:
        return f"{found.failed} invoices could not be reconciled: see the log"
    return None


def make_pass(backend: Backend, worker: str, one_pass: Pass) -> Summary:
    """Make a pass and remember when it ended and what is wrong: a worker that is silent is noticed by that."""
    try:
        summary = one_pass(backend)
    except Stopping:
        raise
    except LnpayError as error:
        _remember(backend, worker, error.message)
        raise
    _remember(backend, worker, summary.trouble)
    return summary


def _remember(backend: Backend, worker: str, trouble: str | None) -> None:
    with backend.repository.transaction() as tx:
        tx.heartbeats.beat(Heartbeat(worker, backend.clock(), trouble))


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
            log.exception("pass failed, the next one tries again")
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
                log.error("strike's time could not be asked for error=%s", error.message)
            backend.stop.wait(TIME_EVERY_SECONDS)

    thread = threading.Thread(target=keep, name="timekeeper", daemon=True)
    thread.start()
    return thread


INSIDE_EVERY_SECONDS = {"main": (main_pass, 5.0), "expired": (expired_pass, 60.0), "refund": (refund_pass, 15.0)}
"""The passes of `python main.py --with-workers`, and their pace."""


def start_workers(backend: Backend) -> None:
    """Repeat every pass in threads of this process, until `backend.stop` is set."""
    for name, (one_pass, seconds) in INSIDE_EVERY_SECONDS.items():
        threading.Thread(
            target=repeat,
            args=(partial(make_pass, backend, name, one_pass), seconds, backend.stop),
            name=f"{name}-worker",
            daemon=True,
        ).start()
