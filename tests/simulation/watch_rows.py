"""Checks one database after each commit, and its count of calls against the provider's."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lnpay.domain.states import DELIVERY_MOVES, INVOICE_MOVES, REFUND_MOVES
from tests.simulation.scheduler import Scheduler, Task, Violation

if TYPE_CHECKING:
    from tests.simulation.watch import Watch

MOVES: dict[str, dict[str, set[str]]] = {
    "invoices": {str(old): {str(new) for new in moves} for old, moves in INVOICE_MOVES.items()},
    "refunds": {str(old): {str(new) for new in moves} for old, moves in REFUND_MOVES.items()},
    "deliveries": {str(old): {str(new) for new in moves} for old, moves in DELIVERY_MOVES.items()},
}
MOVES["refunds"]["in_flight"].add("requested")  # by hand, through "failed", in one commit
MOVES["refunds"]["requested"].add("in_flight")  # through "quoted", in one commit

QUERIES = {
    "invoices": "SELECT id, state, strike_invoice_id, marked_invalid_at, expires_at, accepted_by, accepted_price, "
    "rate_price, receive_with FROM invoices",
    "refunds": "SELECT id, state, claims, claimed_until, idempotency_key, payment_quote_id FROM refunds",
    "deliveries": "SELECT id, state, claims, claimed_until, webhook_id FROM deliveries",
}


def parse_time(text: str) -> datetime:
    """Parse a time as SQLite stores it."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


OWN_BUCKETS = ("/quote", "/execute", "/v1/invoices", "/lnurl")
"""The path endings of POST and PATCH calls that do not count as "others"."""


def is_other_call(method: str, path: str) -> bool:
    """Whether Strike counts a call as one of the "others": more than 1,000 in ten minutes cause an hour's lock-out."""
    is_own = method in ("POST", "PATCH") and path.endswith(OWN_BUCKETS)
    return path.startswith("/v1/") and not is_own and not path.startswith("/v1/rates/")


class RowWatch:
    """Watches one database through its own connection."""

    def __init__(self, name: str, eye: sqlite3.Connection, watch: Watch, scheduler: Scheduler) -> None:
        self.name = name
        self.eye = eye
        self._watch = watch
        self._scheduler = scheduler
        self._rows: dict[str, dict[int, sqlite3.Row]] = {name: {} for name in QUERIES}
        self._claims: set[tuple[Task | None, str, object]] = set()
        """The holder of each claim: on a message by its webhook-id, on a refund by its number."""
        self._claimed_as: dict[tuple[Task | None, str], int] = {}
        """The number of each claim of a message."""
        self._counted: dict[str, int] = {}
        self._calls_made = self._calls_counted = 0

    def query(self, query: str, *values: object) -> list[sqlite3.Row]:
        """Query the database."""
        return self.eye.execute(query, values).fetchall()

    def begin_again(self) -> None:
        """Start over from the current content, because the database was replaced."""
        self._rows = {name: {row[0]: row for row in self.eye.execute(query)} for name, query in QUERIES.items()}
        self._counted = {}
        self.count_calls()
        self._calls_made = self._calls_counted

    def check(self) -> None:
        """Rows never disappear, move backwards or contradict themselves, and no claim is taken twice."""
        for name, query in QUERIES.items():
            before = self._rows[name]
            now = self._rows[name] = {row[0]: row for row in self.eye.execute(query)}
            if before.keys() - now.keys():
                self._watch.check_vanished(name, [before[row_id] for row_id in before.keys() - now.keys()])
            for row_id, row in now.items():
                old = before.get(row_id)
                if old == row:
                    continue
                self._check_move(name, None if old is None else old["state"], row)
                if old is not None and name != "invoices":
                    self._check_claim(name, old, row)
        self.count_calls()

    def _check_move(self, name: str, old: str | None, row: sqlite3.Row) -> None:
        new = row["state"]
        if name == "invoices" and row["marked_invalid_at"] is not None and old == "unpaid":
            self._watch.mark_invalid(row["strike_invoice_id"], parse_time(row["expires_at"]))
        if old == new:
            return
        if old is not None and new not in MOVES[name][old]:
            raise Violation(f"{name} {row['id']}: {old} became {new}")
        if name == "invoices":
            if new == "cancelled" and row["receive_with"] == "receive-request":
                self._watch.call_off(row["strike_invoice_id"], parse_time(row["expires_at"]))
            if row["accepted_by"] is not None:
                self._watch.accept(self.name, row)
            self._watch.check_invoice(self.name, row["strike_invoice_id"], new)

    def _check_claim(self, name: str, old: sqlite3.Row, row: sqlite3.Row) -> None:
        until = row["claimed_until"]
        if until is None or until == old["claimed_until"]:
            return
        if row["claims"] <= old["claims"]:
            raise Violation(f"a claim of {name} {row['id']} was taken without incrementing its counter")
        self._claims.add((self._scheduler.current, name, row["webhook_id" if name == "deliveries" else "id"]))
        if name == "deliveries":
            self._claimed_as[self._scheduler.current, row["webhook_id"]] = row["claims"]

    def use_claim(self, webhook_id: str) -> None:
        """The current task sends a message: once per claim, and only while it holds that claim."""
        try:
            self._claims.remove((self._scheduler.current, "deliveries", webhook_id))
        except KeyError:
            raise Violation("a message was sent by a task that had not claimed it") from None
        row = self.eye.execute("SELECT state, claims FROM deliveries WHERE webhook_id = ?", (webhook_id,)).fetchone()
        if row["state"] != "pending" or row["claims"] != self._claimed_as[self._scheduler.current, webhook_id]:
            raise Violation("a message was sent by a task that had lost its claim")

    def _check_payout(self, path: str, key: str | None) -> None:
        quote_id = path.removesuffix("/execute").rpartition("/")[2]
        for row in self._rows["refunds"].values():
            is_this = row["idempotency_key"] == key if key is not None else row["payment_quote_id"] == quote_id
            if is_this and (self._scheduler.current, "refunds", row["id"]) not in self._claims:
                raise Violation(f"refund {row['id']} was processed by a task that had not claimed it")

    # The count of calls.

    def count_calls(self) -> None:
        """Record which calls the database has counted so far; it deletes them after an hour."""
        now = dict(self.eye.execute("SELECT slot_at, calls FROM provider_calls WHERE bucket = 'other'"))
        self._calls_counted += sum(max(0, calls - self._counted.get(slot, 0)) for slot, calls in now.items())
        self._counted = now

    def see_call(self, method: str, path: str, key: str | None) -> None:
        """A call goes to the provider: it must have been counted before, and a payout must be claimed."""
        if key is not None or path.endswith("/execute"):
            self._check_payout(path, key)
        if not is_other_call(method, path):
            return
        self._calls_made += 1
        if self._calls_made > self._calls_counted:
            raise Violation(f"{method} {path} was called without being counted in the database")
