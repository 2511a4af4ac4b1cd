"""Key figures of the installation, to warn the operator before money is stuck.

Everything in `Snapshot` comes from the database, so every process that shares it reports the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from lnpay.domain.events import EventType
from lnpay.domain.model import Clock
from lnpay.domain.states import (
    OPEN_REFUNDS,
    UNWATCHED,
    WATCHED,
    DeliveryState,
    InvoiceState,
    RefundState,
)
from lnpay.monitoring.stalled import find_stalled
from lnpay.repository import Repository, Transaction
from lnpay.repository.queries.archiving import ArchiveTotals
from lnpay.repository.queries.figures import Waiting
from lnpay.strike.buckets import Bucket
from lnpay.strike.budget import DEFAULT_SHARE, LIMITS

WORKERS = ("main", "expired", "refund")
"""The workers that are expected to run."""


RECOUNT_SECONDS = 60.0
"""How long a count of finished rows is reused: counting a million takes most of a second."""


@dataclass(frozen=True)
class Calls:
    """Calls to Strike in the current window: made by all processes, and left."""

    made: int
    left: int


@dataclass(frozen=True)
class WorkerStatus:
    """age_seconds: since its last pass ended; None when there was none yet.

    trouble_seconds: for how long its passes have been in trouble; 0 when the last one was not. unreadable: rows that
    the last one skipped because it could not read them.
    """

    age_seconds: float | None
    is_in_trouble: bool
    trouble_seconds: float = 0.0
    unreadable: int = 0


@dataclass(frozen=True)
class Snapshot:
    """The figures at one moment. Ages are 0 if nothing waits; every state, type and bucket is present.

    undelivered_seconds: since the oldest message of each type is owed to the shop.
    unsettled: payments that Strike lists and that could not be settled.
    refund_seconds: since the oldest refund of each open state is owed, or in flight.
    blocked_seconds: how long Strike still refuses calls of a bucket.
    workers: by worker and host; a worker that has never run is there without a host.
    stalled: how much work of each kind has not moved for an hour; see `lnpay.monitoring.stalled`.
    archived: what ARCHIVE_AFTER has archived so far.
    """

    schema_version: str
    invoices: Mapping[InvoiceState, int]
    refunds: Mapping[RefundState, int]
    refund_seconds: Mapping[RefundState, float]
    deliveries: Mapping[DeliveryState, int]
    undelivered_seconds: Mapping[EventType, float]
    unsettled: int
    calls: Mapping[Bucket, Calls]
    blocked_seconds: Mapping[Bucket, float]
    workers: Mapping[tuple[str, str], WorkerStatus]
    stalled: Mapping[str, int]
    archived: ArchiveTotals


@dataclass(frozen=True)
class _Done:
    """Counts of finished rows, which change only by the operator's action."""

    invoices: Mapping[InvoiceState, int]
    refunds: Mapping[RefundState, int]
    deliveries: Mapping[DeliveryState, int]


class FiguresReader:
    """Reads the figures. Thread-safe.

    Open work is counted every time. Finished work, possibly millions of rows, is counted once a minute.
    monotonic: a monotonic clock in seconds; an argument so that a test can move it.
    """

    def __init__(self, repository: Repository, clock: Clock, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._repository = repository
        self._clock = clock
        self._monotonic = monotonic
        self._counting = threading.Lock()
        self._done: _Done | None = None
        self._counted_at = 0.0

    def read(self) -> Snapshot:
        """The figures now. Raises StorageUnavailable."""
        now = self._clock()
        with self._repository.reading() as tx:
            done = self._count_done(tx)
            waiting_refunds = tx.figures.waiting_refunds(OPEN_REFUNDS)
            pending = tx.figures.pending_deliveries()
            open_invoices = tx.figures.invoices(WATCHED)
            return Snapshot(
                schema_version=tx.figures.schema_version(),
                invoices=_every(InvoiceState, {**done.invoices, **open_invoices}),
                refunds=_every(RefundState, {**done.refunds, **_counts(waiting_refunds)}),
                refund_seconds={state: _age(waiting_refunds.get(state), now) for state in OPEN_REFUNDS},
                deliveries=_every(
                    DeliveryState,
                    {**done.deliveries, DeliveryState.PENDING: sum(one.count for one in pending.values())},
                ),
                undelivered_seconds={one: _age(pending.get(one), now) for one in EventType},
                unsettled=tx.figures.unsettled(),
                calls={bucket: _calls(tx, bucket) for bucket in LIMITS},
                blocked_seconds={bucket: tx.limits.blocked_for(bucket).total_seconds() for bucket in Bucket},
                workers=_workers(tx, now),
                stalled=find_stalled(tx, now).counts(),
                archived=tx.archive.totals(),
            )

    def _count_done(self, tx: Transaction) -> _Done:
        with self._counting:
            now = self._monotonic()
            if self._done is None or now - self._counted_at >= RECOUNT_SECONDS:
                invoices = tx.figures.invoices([state for state in InvoiceState if state not in WATCHED])
                pruned = {state: tx.pruned.count(state) for state in UNWATCHED}
                self._done = _Done(
                    {**invoices, **{state: invoices.get(state, 0) + count for state, count in pruned.items()}},
                    tx.figures.refunds([state for state in RefundState if state not in OPEN_REFUNDS]),
                    tx.figures.deliveries([state for state in DeliveryState if state is not DeliveryState.PENDING]),
                )
                self._counted_at = now
            return self._done


_Name = TypeVar("_Name", bound=StrEnum)


def _every(names: type[_Name], counted: Mapping[_Name, int]) -> dict[_Name, int]:
    return {name: counted.get(name, 0) for name in names}


def _counts(waiting: Mapping[_Name, Waiting]) -> dict[_Name, int]:
    return {name: one.count for name, one in waiting.items()}


def _age(waiting: Waiting | None, now: datetime) -> float:
    return 0.0 if waiting is None else max(0.0, (now - waiting.since).total_seconds())


def _calls(tx: Transaction, bucket: Bucket) -> Calls:
    limit = LIMITS[bucket]
    made = tx.limits.calls_within(bucket, limit.window, limit.slot_seconds)
    return Calls(made, max(0, int(limit.calls * DEFAULT_SHARE) - made))


def _workers(tx: Transaction, now: datetime) -> dict[tuple[str, str], WorkerStatus]:
    found = {
        (one.worker, one.host): WorkerStatus(
            age_seconds=(now - one.ended_at).total_seconds(),
            is_in_trouble=one.trouble is not None,
            trouble_seconds=0.0 if one.troubled_since is None else (now - one.troubled_since).total_seconds(),
            unreadable=one.unreadable,
        )
        for one in tx.heartbeats.every()
        if one.worker in WORKERS
    }
    silent = set(WORKERS) - {worker for worker, _ in found}
    return {**found, **{(worker, ""): WorkerStatus(None, is_in_trouble=False) for worker in silent}}
