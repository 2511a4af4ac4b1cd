"""The operator's list of refunds: filtered, in order, and from an index however many refunds there are."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event, insert, select

from lnpay.domain.states import RefundKind, RefundState
from lnpay.repository import Repository
from lnpay.repository.queries.refund_list import RefundFilter, RefundList
from lnpay.repository.tables import invoices, refunds
from tests.contract.test_repository import add_one_of_each

MANY = 600
STATES = [RefundState.HELD, RefundState.REQUESTED, RefundState.FAILED]


@pytest.fixture
def filled(repository: Repository) -> Repository:
    """Refunds of three states and all kinds in turn; a single one, an old one, waits for an address."""
    add_one_of_each(repository)
    with repository.engine.begin() as connection:
        invoice = connection.execute(select(invoices).where(invoices.c.correlation_id == "refunded")).one()._asdict()
        refund = connection.execute(select(refunds)).one()._asdict()
        unique = ("correlation_id", "token", "strike_invoice_id", "payment_hash")
        names: list[dict[str, Any]] = [
            {"id": 1_000 + number, **{name: f"{name}-{number}" for name in unique}} for number in range(MANY)
        ]
        connection.execute(insert(invoices), [{**invoice, **one} for one in names])
        rows = [
            {
                **refund, "id": one["id"], "invoice_id": one["id"],
                "token": f"its-token-{number}", "idempotency_key": f"its-key-{number}",
                "state": STATES[number % 3], "kind": list(RefundKind)[number % 2],
            }
            for number, one in enumerate(names)
        ]  # fmt: skip
        rows[0] |= {"state": RefundState.NEEDS_ADDRESS, "kind": RefundKind.OVERPAID}
        connection.execute(insert(refunds), rows)
        connection.exec_driver_sql("ANALYZE")
    return repository


RARE = [
    RefundFilter(state=RefundState.NEEDS_ADDRESS),
    RefundFilter(kind=RefundKind.OVERPAID),
    RefundFilter(state=RefundState.SENT, kind=RefundKind.LATE),
]
FILTERS = [
    *RARE,
    RefundFilter(state=RefundState.HELD),
    RefundFilter(kind=RefundKind.LATE),
    RefundFilter(state=RefundState.FAILED, kind=RefundKind.MERCHANT),
]


def test_its_pages_are_all_that_is_wanted_the_newest_first(filled: Repository) -> None:
    with filled.engine.connect() as connection:
        columns = (refunds.c.id, refunds.c.state, refunds.c.kind)
        rows = connection.execute(select(*columns).order_by(refunds.c.id.desc())).all()

    for wanted in [RefundFilter(), *FILTERS]:
        listed, before = [], None
        with filled.reading() as tx:
            while page := tx.refund_list.newest(wanted, 70, before):
                listed += [one.id for one in page]
                before = page[-1].id

        assert listed == [
            id for id, state, kind in rows if state == (wanted.state or state) and kind == (wanted.kind or kind)
        ]


def test_a_filtered_page_is_found_in_an_index(filled: Repository) -> None:
    """To walk a million refunds to the few of a rare kind, or to sort those of one state, takes seconds."""
    # PostgreSQL knows which are common, and may walk the primary key to those.
    is_postgres = filled.engine.dialect.name == "postgresql"
    for wanted in RARE if is_postgres else FILTERS:
        for before in (None, 1_300):
            ids, rows = plans_of(filled, wanted, before)

            assert "ix_refunds_state_kind_id" in ids
            assert not any(word in ids for word in ("next_attempt_at", "Filter:", "SCAN refunds")), ids
            assert not any(word in rows for word in ("ix_refunds", "SCAN refunds")), rows


def test_the_refunds_of_an_order_are_found_by_its_name(filled: Repository) -> None:
    for state in (None, RefundState.HELD):
        for plan in plans_of(filled, RefundFilter("order-7", state, RefundKind.LATE), None):
            assert not any(name in plan for name in ("ix_refunds_state", "SCAN refunds")), plan


def plans_of(repository: Repository, wanted: RefundFilter, before: int | None) -> list[str]:
    """How the database means to answer each query of a page of the list."""
    is_sqlite = repository.engine.dialect.name == "sqlite"
    plans: list[str] = []

    def explain(_: object, cursor: Any, statement: str, parameters: Any, *__: object) -> None:
        if statement.startswith("SELECT"):
            cursor.execute(f"EXPLAIN {'QUERY PLAN ' if is_sqlite else ''}{statement}", parameters)
            plans.append("\n".join(str(row[-1]) for row in cursor.fetchall()))

    with repository.engine.connect() as connection:
        if not is_sqlite:  # To sort the one row of a rare state costs nothing.
            connection.exec_driver_sql("SET enable_sort = off")
        event.listen(connection, "before_cursor_execute", explain)
        RefundList(connection).newest(wanted, 20, before)
    assert plans
    return plans
