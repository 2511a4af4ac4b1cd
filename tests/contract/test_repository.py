"""One contract for both databases: what the repository keeps, refuses and decides between two that race."""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Table, delete, event, insert, inspect, make_url, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError

from lnpay.domain.errors import RefundExceedsReceived, SchemaTooNew, StorageUnavailable
from lnpay.domain.model import (
    Delivery,
    Draft,
    Hold,
    Invoice,
    Issue,
    Order,
    Rate,
    Refund,
    RefundKey,
)
from lnpay.domain.states import (
    UNWATCHED,
    DeliveryState,
    ForbiddenMove,
    HoldCause,
    InvoiceState,
    RefundState,
    RefundStep,
)
from lnpay.repository import Repository, Transaction
from lnpay.repository import repository as repository_module
from lnpay.repository.deliveries import Credible
from lnpay.repository.invoices import PENDING_FOR
from lnpay.repository.limits import COPIED, RESTORED
from lnpay.repository.maintenance.migrate import alembic_config
from lnpay.repository.repository import SCHEMA_VERSION
from lnpay.repository.tables import (
    deliveries,
    invoices,
    metadata,
    provider_blocks,
    provider_calls,
    refunds,
)
from tests.databases import fresh_postgres, migrated_postgres

NOW = datetime(2026, 5, 18, 12, 0, 30, 123_456, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
MANY_IDS = [f"strike-{number}" for number in range(100)]
HOUR = timedelta(hours=1)
ORDER = Order(Decimal("12.30"), "usd", "Zwei Kaffee ☕", "alice@example.com")
RATE = Rate(Decimal("103456.78901234567890123"), "usd", "coingecko", NOW - timedelta(seconds=30))

LIMIT = Hold(HoldCause.MAX_SATS, "above the limit")
ENGINES = ["sqlite", "postgresql"]

T = TypeVar("T")


@pytest.fixture(scope="module")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An up-to-date file, made once."""
    path = tmp_path_factory.mktemp("template") / "invoices.sqlite"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="module")
def postgres_database(postgres_server: str) -> Iterator[str]:
    """An up-to-date database, made once and emptied for each test."""
    with migrated_postgres(postgres_server) as url:
        yield url


@pytest.fixture(params=ENGINES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An up-to-date database of each engine with nothing in it."""
    if request.param == "sqlite":
        template: Path = request.getfixturevalue("sqlite_template")
        shutil.copy(template, tmp_path / "invoices.sqlite")
        yield f"sqlite:///{tmp_path}/invoices.sqlite"
        return
    url: str = request.getfixturevalue("postgres_database")
    empty(url)
    yield url


@pytest.fixture
def repository(database_url: str) -> Iterator[Repository]:
    with opened(database_url) as made:
        yield made


@pytest.fixture(params=ENGINES)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of each engine without any table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.sqlite"
        return
    with fresh_postgres(request.getfixturevalue("postgres_server")) as url:
        yield url


@pytest.fixture
def sqlite(sqlite_template: Path, tmp_path: Path) -> Iterator[Repository]:
    """An up-to-date SQLite file, for what only SQLite has."""
    shutil.copy(sqlite_template, tmp_path / "only.sqlite")
    with opened(f"sqlite:///{tmp_path}/only.sqlite") as made:
        yield made


class TestAttempts:
    ATTEMPT = replace(ORDER, order_id="1042")

    def test_the_attempts_of_an_order_are_those_that_name_it_and_the_one_named_as_it(
        self, repository: Repository
    ) -> None:
        add_invoice(repository, "1042")
        add_invoice(repository, "1042-2", order=self.ATTEMPT)
        add_invoice(repository, "1043")
        add_draft(repository, "1042-3", order=self.ATTEMPT)

        with repository.reading() as tx:
            assert [one.correlation_id for one in tx.attempts.of_order("1042")] == ["1042-2", "1042"]
            assert [one.correlation_id for one in tx.invoices.named("1042")] == ["1042", "1042-2"]
            assert tx.attempts.of_order("1042-2") == []

    @pytest.mark.parametrize("paid", ["1042", "1042-2"])
    def test_an_order_is_paid_when_one_of_its_attempts_is(self, repository: Repository, paid: str) -> None:
        for name, order in (("1042", ORDER), ("1042-2", self.ATTEMPT)):
            add_invoice(
                repository, name, order=order, state=InvoiceState.SETTLED if name == paid else InvoiceState.EXPIRED
            )

        with repository.reading() as tx:
            settled = tx.attempts.settled("1042")
            assert known(settled).correlation_id == paid
            assert tx.attempts.settled("1043") is None

    def test_an_order_that_was_paid_late_is_not_paid(self, repository: Repository) -> None:
        add_invoice(repository, "1042", state=InvoiceState.PAID_LATE)

        with repository.reading() as tx:
            assert tx.attempts.settled("1042") is None

    @pytest.mark.parametrize("text", ["a\0", "\ud83d", "x" * 5_000])
    def test_any_text_may_be_asked_for(self, repository: Repository, text: str) -> None:
        with repository.reading() as tx:
            assert tx.attempts.of_order(text) == []
            assert tx.invoices.find_invoice_by_correlation_id(text) is None


class TestPruning:
    BEFORE = NOW + timedelta(days=100)

    def prune(self, repository: Repository, before: datetime = BEFORE, limit: int = 10) -> int:
        with repository.transaction() as tx:
            return tx.pruned.prune(before, LATER, limit)

    def test_only_unpaid_invoices_are_deleted(self, repository: Repository) -> None:
        for state in InvoiceState:
            add_invoice(repository, f"order-{state}", state=state)
        add_draft(repository, "a-draft")

        assert self.prune(repository, NOW) == 0
        assert self.prune(repository) == 3
        assert self.prune(repository) == 0
        gone = [
            name for name in (*(f"order-{one}" for one in InvoiceState), "a-draft") if found(repository, name) is None
        ]
        assert gone == ["order-lapsed", "order-cancelled", "a-draft"]

    def test_a_batch_has_its_bound(self, repository: Repository) -> None:
        for number in range(5):
            add_invoice(repository, f"order-{number}", state=InvoiceState.LAPSED)

        assert [self.prune(repository, limit=2) for _ in range(4)] == [2, 2, 1, 0]
        with repository.reading() as tx:
            (total,) = tx.pruned.totals(NOW.date(), NOW.date())
            assert (total.invoices, total.amount_sats, total.amount_fiat) == (5, 5 * 11_889, 5 * ORDER.amount_fiat)
            assert tx.pruned.count(InvoiceState.LAPSED) == 5
            assert tx.pruned.totals(NOW.date() + timedelta(days=1), NOW.date() + timedelta(days=9)) == []

    def test_sums_of_all_the_money_in_the_world_are_kept(self, repository: Repository) -> None:
        most = 21_000_000 * 10**8
        with repository.transaction() as tx:
            for number in range(5):
                tx.invoices.add_draft(f"o-{number}", f"o-{number}", f"t-{number}", ORDER, most * 1000, RATE, NOW)

        assert self.prune(repository) == 5
        with repository.reading() as tx:
            assert tx.pruned.totals(NOW.date(), NOW.date())[0].amount_sats == 5_000 * most

    def test_messages_that_were_told_go_with_it_and_others_keep_it(self, repository: Repository) -> None:
        told, waiting = (add_invoice(repository, name, state=InvoiceState.LAPSED) for name in ("told", "waiting"))
        with repository.transaction() as tx:
            for invoice in (told, waiting):
                tx.deliveries.add(invoice.id, "invoice.expired", f"msg_{invoice.correlation_id}", "{}", NOW)
        with repository.engine.begin() as connection:
            change = deliveries.update().where(deliveries.c.invoice_id == told.id)
            connection.execute(change.values(state=DeliveryState.ABANDONED))

        assert self.prune(repository) == 1
        assert found(repository, "told") is None
        assert found(repository, "waiting") is not None

    def test_a_payment_of_a_deleted_invoice_is_noted_once(self, repository: Repository) -> None:
        add_invoice(repository, "order-1", state=InvoiceState.LAPSED)
        self.prune(repository)

        with repository.transaction() as tx:
            assert tx.pruned.unpaid_among(["strike-order-1", "another"]) == ["strike-order-1"]
            assert not tx.pruned.mark_paid("another", received_sats=5, at=LATER)
            assert tx.pruned.mark_paid("strike-order-1", received_sats=5, at=LATER)
            assert not tx.pruned.mark_paid("strike-order-1", received_sats=6, at=LATER)
            assert tx.pruned.unpaid_among(["strike-order-1"]) == []
            (paid,) = tx.pruned.found_paid(NOW, 10)
            assert (paid.correlation_id, paid.received_sats, paid.found_paid_at) == ("order-1", 5, LATER)

    def test_a_row_that_cannot_be_read_stays_and_keeps_no_other(self, repository: Repository) -> None:
        for name in ("odd", "fine"):
            add_invoice(repository, name, state=InvoiceState.LAPSED)
        with repository.engine.begin() as connection:
            connection.execute(text("UPDATE invoices SET amount_fiat = 'a lot' WHERE correlation_id = 'odd'"))

        assert [self.prune(repository, limit=1) for _ in range(2)] == [1, 0]
        assert found(repository, "fine") is None

    def test_two_workers_at_once_delete_each_invoice_once(self, repository: Repository) -> None:
        for number in range(40):
            add_invoice(repository, f"order-{number}", state=InvoiceState.LAPSED)

        with ThreadPoolExecutor(4) as pool:
            done = list(pool.map(lambda _: self.prune(repository, limit=7), range(24)))

        assert sum(done) == 40
        with repository.reading() as tx:
            assert tx.pruned.count(InvoiceState.LAPSED) == 40


class TestDrafts:
    def test_a_draft_comes_back_as_it_was_stored(self, repository: Repository) -> None:
        draft = add_draft(repository)

        assert found(repository, "order-1") == draft
        assert draft == Draft(draft.id, "order-1", "order-1", "token-order-1", ORDER, 11_889, RATE, NOW)

    def test_an_order_without_words_and_address_comes_back_without_them(self, repository: Repository) -> None:
        order = Order(Decimal("0.001"), "kwd", None, None)

        add_draft(repository, order=order)

        assert known(found(repository, "order-1")).order == order

    def test_the_second_draft_of_an_order_is_none_and_changes_nothing(self, repository: Repository) -> None:
        draft = add_draft(repository)

        with repository.transaction() as tx:
            again = tx.invoices.add_draft("order-1", "order-1", "another-token", ORDER, 5, RATE, LATER)

        assert again is None
        assert found(repository, "order-1") == draft

    def test_a_token_that_is_taken_makes_no_second_draft(self, repository: Repository) -> None:
        add_draft(repository)

        with repository.transaction() as tx:
            assert tx.invoices.add_draft("order-2", "order-2", "token-order-1", ORDER, 5, RATE, NOW) is None

    def test_a_draft_is_no_invoice_yet(self, repository: Repository) -> None:
        draft = add_draft(repository)

        with repository.reading() as tx:
            assert tx.invoices.find(draft.id) is None
            assert tx.invoices.find_by_token(draft.token) is None

    def test_a_renewed_draft_keeps_its_place_and_gets_a_new_price(self, repository: Repository) -> None:
        draft, order = add_draft(repository), replace(ORDER, amount_fiat=Decimal("20.00"))

        with repository.transaction() as tx:
            renewed = tx.invoices.renew_draft(draft, "order-1-b", order, 20_000, RATE, LATER)

        assert renewed == found(repository, "order-1")
        assert renewed == replace(
            draft, strike_correlation_id="order-1-b", order=order, amount_sats=20_000, created_at=LATER
        )

    def test_only_the_first_of_two_renewals_counts(self, repository: Repository) -> None:
        draft = add_draft(repository)

        with repository.transaction() as tx:
            first = tx.invoices.renew_draft(draft, "order-1-b", ORDER, 5, RATE, LATER)
            second = tx.invoices.renew_draft(draft, "order-1-c", ORDER, 6, RATE, LATER)

        assert second is None
        assert found(repository, "order-1") == first

    def test_an_issued_draft_can_neither_be_renewed_nor_issued_again(self, repository: Repository) -> None:
        draft = add_draft(repository)

        with repository.transaction() as tx:
            assert tx.invoices.issue(draft, issue_of("order-1"))
            assert not tx.invoices.issue(draft, issue_of("another"))
            assert tx.invoices.renew_draft(draft, "order-1-b", ORDER, 5, RATE, LATER) is None

        assert known(invoice_of(repository, "order-1")).issue == issue_of("order-1")

    def test_what_was_issued_for_an_old_price_is_refused(self, repository: Repository) -> None:
        draft = add_draft(repository)
        with repository.transaction() as tx:
            tx.invoices.renew_draft(draft, "order-1-b", ORDER, 5, RATE, LATER)

        with repository.transaction() as tx:
            assert not tx.invoices.issue(draft, issue_of("order-1"))


class TestInvoices:
    def test_an_invoice_comes_back_with_all_that_was_issued(self, repository: Repository) -> None:
        draft = add_draft(repository)
        issue = issue_of("order-1")

        with repository.transaction() as tx:
            tx.invoices.issue(draft, issue)

        expected = Invoice(
            **vars(draft), issue=issue, state=InvoiceState.UNPAID, paid_at=None, received_sats=None, settled_at=None
        )
        assert found(repository, "order-1") == expected

    def test_it_is_found_by_each_of_its_names(self, repository: Repository) -> None:
        invoice = add_invoice(repository)

        with repository.reading() as tx:
            assert tx.invoices.find(invoice.id) == invoice
            assert tx.invoices.find_by_strike_id("strike-order-1") == invoice
            assert tx.invoices.find_by_token("token-order-1") == invoice
            assert tx.invoices.find_by_correlation_id("order-1") == invoice
            assert tx.invoices.named("order-1") == tx.invoices.named("STRIKE-order-1") == [invoice]

    def test_a_name_of_several_finds_them_all_and_no_draft(self, repository: Repository) -> None:
        first = add_invoice(repository)
        second = add_invoice(repository, "strike-order-1")
        add_draft(repository, "draft")

        with repository.reading() as tx:
            assert tx.invoices.named("strike-order-1") == [first, second]
            assert tx.invoices.named("draft") == []

    @pytest.mark.parametrize("name", ["", "unknown", "a\x00b", "'; DROP TABLE invoices", "é", "\ud800", "x" * 5_000])
    def test_an_unknown_name_finds_nothing(self, repository: Repository, name: str) -> None:
        add_invoice(repository)

        with repository.reading() as tx:
            assert tx.invoices.find_by_strike_id(name) is None
            assert tx.invoices.find_by_token(name) is None
            assert tx.invoices.named(name) == []
            assert tx.invoices.find(10**9) is None

    @pytest.mark.parametrize("state", [InvoiceState.SETTLED, InvoiceState.PAID_LATE])
    @pytest.mark.parametrize("old", [InvoiceState.UNPAID, InvoiceState.EXPIRED])
    def test_a_watched_invoice_becomes_paid_once(
        self, repository: Repository, old: InvoiceState, state: InvoiceState
    ) -> None:
        invoice = add_invoice(repository, state=old)

        assert mark_paid(repository, invoice, state)
        assert not mark_paid(repository, invoice, state)

        paid = invoice_of(repository, "order-1")
        assert (paid.state, paid.paid_at, paid.received_sats) == (state, NOW, 11_889)
        assert paid.settled_at == (LATER if state is InvoiceState.SETTLED else None)

    @pytest.mark.parametrize("old", [InvoiceState.SETTLED, InvoiceState.PAID_LATE])
    def test_a_final_invoice_does_not_become_paid(self, repository: Repository, old: InvoiceState) -> None:
        invoice = add_invoice(repository, state=old)

        assert not mark_paid(repository, invoice, InvoiceState.SETTLED)
        assert not mark_paid(repository, invoice, InvoiceState.PAID_LATE)
        assert invoice_of(repository, "order-1").state is old

    def test_money_that_was_seen_is_remembered_while_the_invoice_is_watched(self, repository: Repository) -> None:
        watched, final = add_invoice(repository), add_invoice(repository, "order-2", state=InvoiceState.SETTLED)

        with repository.transaction() as tx:
            for invoice in [watched, final]:
                tx.invoices.mark_seen(invoice.id, NOW)
        with repository.engine.connect() as connection:
            seen = connection.execute(select(invoices.c.seen_at).order_by(invoices.c.id)).scalars().all()

        assert seen == [NOW, None]

    def test_a_move_counts_only_from_the_state_it_names(self, repository: Repository) -> None:
        invoice = add_invoice(repository)

        with repository.transaction() as tx:
            assert not tx.invoices.move(invoice.id, InvoiceState.EXPIRED, InvoiceState.LAPSED)
            assert tx.invoices.move(invoice.id, InvoiceState.UNPAID, InvoiceState.EXPIRED)
            assert not tx.invoices.move(invoice.id, InvoiceState.UNPAID, InvoiceState.EXPIRED)
            assert tx.invoices.move(invoice.id, InvoiceState.EXPIRED, InvoiceState.LAPSED)
            assert not tx.invoices.move(10**9, InvoiceState.UNPAID, InvoiceState.EXPIRED)

    def test_a_move_that_no_table_permits_raises(self, repository: Repository) -> None:
        invoice = add_invoice(repository)

        with pytest.raises(ForbiddenMove), repository.transaction() as tx:
            tx.invoices.move(invoice.id, InvoiceState.SETTLED, InvoiceState.UNPAID)

    @pytest.mark.parametrize("new", [InvoiceState.SETTLED, InvoiceState.PAID_LATE])
    @pytest.mark.parametrize("old", [InvoiceState.UNPAID, InvoiceState.EXPIRED, InvoiceState.LAPSED])
    def test_a_payment_counts_until_one_has_counted(
        self, repository: Repository, old: InvoiceState, new: InvoiceState
    ) -> None:
        invoice = add_invoice(repository, state=old)

        assert mark_paid(repository, invoice, new)
        assert not mark_paid(repository, invoice, new)
        assert invoice_of(repository, "order-1").state is new

    def test_only_invoices_of_ours_in_which_a_payment_counts_are_worth_a_look(self, repository: Repository) -> None:
        for state in InvoiceState:
            add_invoice(repository, state.value, state=state)

        with repository.reading() as tx:
            payable = tx.invoices.payable_among(
                [*(f"strike-{state}" for state in InvoiceState), "strange", "strike-unpaid"]
            )
            nothing = tx.invoices.payable_among([])

        assert sorted(payable) == ["strike-cancelled", "strike-expired", "strike-lapsed", "strike-unpaid"]
        assert nothing == []

    def test_payments_that_could_not_be_settled_are_kept_until_they_are(self, repository: Repository) -> None:
        for name, state in [
            ("a", InvoiceState.UNPAID),
            ("b", InvoiceState.EXPIRED),
            ("c", InvoiceState.LAPSED),
            ("d", InvoiceState.SETTLED),
            ("e", InvoiceState.UNPAID),
        ]:
            add_invoice(repository, name, state=state)
        with repository.transaction() as tx:
            tx.invoices.mark_listed_paid(["strike-c", "strike-strange"], NOW)
            tx.invoices.mark_listed_paid([f"strike-{name}" for name in "abcd"], LATER)
            tx.invoices.mark_listed_paid([], LATER)

        with repository.reading() as tx:
            assert [one.correlation_id for one in tx.invoices.unsettled(LATER, 10)] == ["c", "a", "b"]
            assert [one.correlation_id for one in tx.invoices.unsettled(NOW, 10)] == ["c"]
            assert len(tx.invoices.unsettled(LATER, 2)) == 2
            assert tx.figures.unsettled() == 3

        assert mark_paid(repository, invoice_of(repository, "c"), InvoiceState.SETTLED)
        with repository.reading() as tx:
            assert [one.correlation_id for one in tx.invoices.unsettled(LATER, 10)] == ["a", "b"]
            assert tx.figures.unsettled() == 2

    def test_the_oldest_unwatched_invoice_is_found_among_those_that_ended_lately(self, repository: Repository) -> None:
        for number, state in enumerate(
            [InvoiceState.LAPSED, InvoiceState.CANCELLED, InvoiceState.LAPSED, InvoiceState.EXPIRED]
        ):
            made_at = NOW + timedelta(seconds=number)
            add_invoice(repository, f"order-{number}", state=state, opened_at=made_at, ends_at=made_at + HOUR)

        with repository.reading() as tx:
            assert tx.invoices.oldest_unwatched_opened_at(NOW) == NOW
            assert tx.invoices.oldest_unwatched_opened_at(NOW + HOUR) == NOW + timedelta(seconds=1)
            assert tx.invoices.oldest_unwatched_opened_at(NOW + 2 * HOUR) is None

    def test_unwatched_ones_with_a_pending_payment_are_looked_for_a_week_longer(self, repository: Repository) -> None:
        states = [InvoiceState.LAPSED, InvoiceState.CANCELLED, InvoiceState.CANCELLED, InvoiceState.EXPIRED]
        for name, state in zip("abcd", states, strict=True):
            add_invoice(repository, name, state=state, ends_at=NOW)
        with repository.transaction() as tx:
            tx.invoices.mark_pending(["strike-a", "strike-b", "strike-d"], NOW)
            tx.invoices.keep_pending(["strike-b"], NOW - HOUR)
            tx.invoices.mark_pending(["strike-b", "strike-c", "strike-d"], NOW + HOUR)
            tx.invoices.keep_pending(["strike-b", "strike-c", "strike-d"], NOW + HOUR)

        with repository.reading() as tx:
            seen = {name: tx.invoices.find_by_strike_id(f"strike-{name}") for name in "abcd"}
            assert {name: one.seen_at for name, one in seen.items() if one is not None} == {
                "a": None, "b": NOW, "c": NOW + HOUR, "d": None,
            }  # fmt: skip
            assert tx.invoices.unwatched_least_recently_checked(NOW + HOUR, 10) == ["strike-b", "strike-c"]
            assert tx.invoices.oldest_unwatched_opened_at(NOW + HOUR) is not None
            assert tx.invoices.unwatched_least_recently_checked(NOW + PENDING_FOR, 10) == []
            assert tx.invoices.oldest_unwatched_opened_at(NOW + PENDING_FOR) is None

    def test_the_oldest_invoice_is_the_one_that_the_provider_made_first(self, repository: Repository) -> None:
        for number, state in enumerate(
            [InvoiceState.SETTLED, InvoiceState.EXPIRED, InvoiceState.EXPIRED, InvoiceState.UNPAID]
        ):
            add_invoice(repository, f"order-{number}", state=state, opened_at=NOW + timedelta(seconds=number))
        add_draft(repository, "draft")

        with repository.reading() as tx:
            assert tx.invoices.oldest_opened_at([InvoiceState.UNPAID]) == NOW + timedelta(seconds=3)
            assert tx.invoices.oldest_opened_at([InvoiceState.UNPAID, InvoiceState.EXPIRED]) == NOW + timedelta(
                seconds=1
            )
            assert tx.invoices.oldest_opened_at([InvoiceState.LAPSED]) is None
            assert tx.invoices.oldest_opened_at([]) is None

    def test_those_asked_about_least_recently_come_first(self, repository: Repository) -> None:
        for name, state in [
            ("a", InvoiceState.UNPAID),
            ("b", InvoiceState.EXPIRED),
            ("c", InvoiceState.UNPAID),
            ("d", InvoiceState.EXPIRED),
            ("e", InvoiceState.SETTLED),
        ]:
            add_invoice(repository, name, state=state)
        add_draft(repository, "draft")
        with repository.transaction() as tx:
            tx.invoices.mark_checked(["strike-a", "strike-e"], NOW)
            tx.invoices.mark_checked(["strike-d"], NOW - timedelta(seconds=1))

        with repository.reading() as tx:
            assert tx.invoices.least_recently_checked(10) == ["strike-b", "strike-c", "strike-d", "strike-a"]
            assert tx.invoices.least_recently_checked(3) == ["strike-b", "strike-c", "strike-d"]

    def test_unwatched_ones_are_asked_about_while_they_were_payable_lately(self, repository: Repository) -> None:
        states = [InvoiceState.LAPSED, InvoiceState.CANCELLED, InvoiceState.UNPAID, InvoiceState.LAPSED]
        for name, state in zip("abcd", states, strict=True):
            add_invoice(repository, name, state=state, ends_at=NOW if name == "d" else NOW + HOUR)
        with repository.transaction() as tx:
            tx.invoices.mark_checked(["strike-a"], NOW)

        with repository.reading() as tx:
            assert tx.invoices.unwatched_least_recently_checked(NOW, 10) == ["strike-b", "strike-a"]
            assert tx.invoices.unwatched_least_recently_checked(NOW, 1) == ["strike-b"]
            assert tx.invoices.unwatched_least_recently_checked(NOW + HOUR, 10) == []

    @pytest.mark.parametrize(
        ("question", "state"), [("to_expire", InvoiceState.UNPAID), ("to_lapse", InvoiceState.EXPIRED)]
    )
    def test_what_has_ended_is_named_oldest_first_and_no_more_than_asked(
        self, repository: Repository, question: str, state: InvoiceState
    ) -> None:
        for name, seconds in [("late", 3), ("early", 1), ("middle", 2), ("open", 10)]:
            add_invoice(repository, name, state=state, ends_at=NOW + timedelta(seconds=seconds))
        add_invoice(repository, "settled", state=InvoiceState.SETTLED, ends_at=NOW)
        add_draft(repository, "draft")

        with repository.reading() as tx:
            ended = getattr(tx.invoices, question)(NOW + timedelta(seconds=10), 10)
            two = getattr(tx.invoices, question)(NOW + timedelta(seconds=10), 2)

        assert [one.correlation_id for one in ended] == ["early", "middle", "late"]
        assert two == ended[:2]

    def test_issued_invoices_are_counted_by_state(self, repository: Repository) -> None:
        for name, state in [("a", InvoiceState.UNPAID), ("b", InvoiceState.UNPAID), ("c", InvoiceState.SETTLED)]:
            add_invoice(repository, name, state=state)
        add_draft(repository, "draft")

        with repository.reading() as tx:
            counts = tx.invoices.counts()

        assert counts == {**dict.fromkeys(InvoiceState, 0), InvoiceState.UNPAID: 2, InvoiceState.SETTLED: 1}


class TestRefunds:
    def test_a_refund_comes_back_as_it_was_owed(self, repository: Repository) -> None:
        invoice = add_invoice(repository, state=InvoiceState.PAID_LATE)

        refund = owe_refund(repository, invoice)

        assert (refund.invoice_id, refund.state, refund.amount_sats) == (invoice.id, RefundState.REQUESTED, 11_889)
        assert (refund.address, refund.idempotency_key) == ("alice@example.com", "key-1")
        assert refund.created_at == NOW

    def test_one_invoice_is_refunded_once(self, repository: Repository) -> None:
        invoice = add_invoice(repository, state=InvoiceState.PAID_LATE)
        first = owe_refund(repository, invoice)

        with repository.transaction() as tx:
            again = tx.refunds.add(
                invoice.id, received_sats=5, address="b@x.io", token="t2", key=RefundKey("key-2", 1), created_at=LATER
            )

        assert not again
        assert refund_of(repository, invoice) == first

    def test_more_than_was_received_is_not_reserved(self, repository: Repository) -> None:
        """The last guard, for a caller who has not compared the sums first."""
        invoice = add_invoice(repository, state=InvoiceState.PAID_LATE)

        with pytest.raises(RefundExceedsReceived):
            owe_refund(repository, invoice, received_sats=11_890)

        with repository.reading() as tx:
            assert tx.refund_requests.of_invoice(invoice.id) == []
            assert tx.refund_requests.left_sats(invoice.id) == 11_889

    @pytest.mark.parametrize("address", [None, ""])
    def test_without_an_address_it_waits_for_one(self, repository: Repository, address: str | None) -> None:
        refund = owe_refund(repository, add_invoice(repository, state=InvoiceState.PAID_LATE), address=address)

        assert refund.state is RefundState.NEEDS_ADDRESS

    def test_it_is_found_by_each_of_its_names(self, repository: Repository) -> None:
        refund = in_flight_refund(repository)

        with repository.transaction() as tx:
            tx.refunds.see_payment(refund, "payment-1")

            expected = replace(refund, payment_id="payment-1")
            assert tx.refunds.find(refund.id) == expected
            assert tx.refunds.find_by_token("refund-token") == expected
            assert tx.refunds.find_by_payment("payment-1") == expected

    @pytest.mark.parametrize("name", ["", "unknown", "a\x00b", "é", "\ud800"])
    def test_an_unknown_name_finds_no_refund(self, repository: Repository, name: str) -> None:
        in_flight_refund(repository)

        with repository.reading() as tx:
            assert tx.refunds.find_by_token(name) is None
            assert tx.refunds.find_by_payment(name) is None
            assert tx.refunds.find(10**9) is None

    def test_a_claimed_refund_is_not_claimed_again_until_the_claim_expires(self, repository: Repository) -> None:
        refund = owe_refund(repository, add_invoice(repository, state=InvoiceState.PAID_LATE))
        with repository.transaction() as tx:
            claimed = known(tx.refunds.claim(refund, LATER))
            assert tx.refunds.claim(refund, LATER) is None

        with repository.reading() as tx:
            assert tx.refunds.due([RefundState.REQUESTED], LATER - timedelta(seconds=1), 10) == []
            assert tx.refunds.due([RefundState.REQUESTED], LATER, 10) == [claimed]
            assert tx.refunds.due([RefundState.FAILED], LATER, 10) == []
            assert tx.refunds.next_due_at([RefundState.REQUESTED]) == LATER
            assert tx.refunds.next_due_at([RefundState.FAILED]) is None

    def test_who_lost_the_claim_neither_changes_nor_moves_it(self, repository: Repository) -> None:
        refund = owe_refund(repository, add_invoice(repository, state=InvoiceState.PAID_LATE))
        with repository.transaction() as tx:
            old = known(tx.refunds.claim(refund, NOW))
            new = known(tx.refunds.claim(old, LATER))

            assert tx.refunds.release(old) is None
            assert tx.refunds.hold(old, LIMIT) is None
            assert known(tx.refunds.hold(new, LIMIT)).state is RefundState.HELD

        held = refund_of(repository, known(invoice_of(repository, "order-1")))
        assert (held.held_because, held.reason) == (LIMIT.cause, LIMIT.reason)

    def test_a_refund_makes_no_move_that_its_table_forbids(self, repository: Repository) -> None:
        refund = owe_refund(repository, add_invoice(repository, state=InvoiceState.PAID_LATE))

        with pytest.raises(ForbiddenMove), repository.transaction() as tx:
            tx.refunds.start_over(replace(refund, state=RefundState.SENT), RefundKey("key-2", 1))

    def test_it_is_sent_once_no_matter_who_holds_the_claim(self, repository: Repository) -> None:
        refund = in_flight_refund(repository)
        with repository.transaction() as tx:
            tx.refunds.claim(refund, LATER)

        with repository.transaction() as tx:
            assert tx.refunds.mark_sent(refund, NOW, "payment-1")
            assert not tx.refunds.mark_sent(refund, LATER, "payment-2")

            sent = known(tx.refunds.find(refund.id))
        assert (sent.state, sent.sent_at, sent.payment_id, sent.claimed_until) == (
            RefundState.SENT,
            NOW,
            "payment-1",
            None,
        )

    def test_evidence_about_another_quote_sends_nothing(self, repository: Repository) -> None:
        refund = in_flight_refund(repository)
        other = replace(refund, payment_quote_id="another-quote")

        with repository.transaction() as tx:
            tx.refunds.see_payment(other, "payment-9")
            assert not tx.refunds.mark_sent(other, NOW, "payment-9")
            assert tx.refunds.find(refund.id) == refund

    def test_a_known_payment_is_not_forgotten_when_it_is_sent(self, repository: Repository) -> None:
        refund = in_flight_refund(repository)

        with repository.transaction() as tx:
            tx.refunds.see_payment(refund, "payment-1")
            assert tx.refunds.mark_sent(refund, NOW, None)
            assert known(tx.refunds.find(refund.id)).payment_id == "payment-1"

    def test_what_was_started_since_is_summed_while_it_may_have_been_sent(self, repository: Repository) -> None:
        refund = in_flight_refund(repository)

        with repository.transaction() as tx:
            assert tx.refunds.started_sats(NOW) == 11_889 + 11
            assert tx.refunds.started_sats(LATER) == 0
            tx.refunds.mark_sent(refund, LATER, "payment-1")
            assert tx.refunds.started_sats(NOW) == 11_889 + 11

    def test_unclear_is_what_is_stuck_or_was_executed_long_ago(self, repository: Repository) -> None:
        refund = in_flight_refund(repository)

        with repository.transaction() as tx:
            assert tx.refunds.unclear(NOW - timedelta(seconds=1), 10) == []
            assert tx.refunds.count_stuck() == 0
            assert tx.refunds.unclear(NOW, 10) == [refund]
            again = known(tx.refunds.doubt(refund, LATER))
            assert tx.refunds.unclear(NOW, 10) == []
            stuck = known(
                tx.refunds.put_off(again, LATER, looks=1, reason="for people", is_in_doubt=True, stuck_at=LATER)
            )
            assert tx.refunds.unclear(NOW, 10) == [stuck]
            assert tx.refunds.count_stuck() == 1

            assert tx.refunds.mark_sent(stuck, LATER, None)
            assert (tx.refunds.unclear(LATER, 10), tx.refunds.count_stuck()) == ([], 0)

    def test_its_history_is_kept_in_order(self, repository: Repository) -> None:
        refund = in_flight_refund(repository)

        with repository.transaction() as tx:
            tx.refunds.note(refund, NOW, RefundStep.QUOTE, "priced")
            tx.refunds.note(refund, LATER, RefundStep.EXECUTE, "no answer", strike_code="CODE", trace_id="trace")
            first, second = tx.refunds.history(refund)

        assert (first.at, first.step, first.outcome, first.strike_code) == (NOW, "quote", "priced", None)
        assert (second.at, second.strike_code, second.trace_id) == (LATER, "CODE", "trace")
        assert (second.idempotency_key, second.payment_quote_id, second.fee_sats) == ("key-1", "quote-1", 11)

    def test_refunds_are_listed_by_state_the_oldest_first(self, repository: Repository) -> None:
        refund = in_flight_refund(repository)

        with repository.reading() as tx:
            assert tx.refunds.in_states([RefundState.IN_FLIGHT, RefundState.SENT], 10) == [refund]
            assert tx.refunds.in_states([RefundState.REQUESTED], 10) == []

    def test_an_invoice_without_a_refund_has_none(self, repository: Repository) -> None:
        invoice = add_invoice(repository)

        with repository.reading() as tx:
            assert tx.refunds.find_by_invoice(invoice.id) is None


class TestDeliveries:
    def test_a_delivery_comes_back_as_it_was_owed_and_is_due_at_once(self, repository: Repository) -> None:
        invoice = add_invoice(repository)
        with repository.transaction() as tx:
            assert tx.deliveries.add(invoice.id, "invoice.settled", "msg_1", '{"a":"ä ☕"}', NOW)

        [delivery] = due(repository, NOW)

        assert delivery == Delivery(
            delivery.id, "msg_1", invoice.id, "invoice.settled", '{"a":"ä ☕"}', DeliveryState.PENDING, 0, 0,
            None, NOW, NOW, None, None,
        )  # fmt: skip

    def test_one_event_of_an_invoice_is_owed_once(self, repository: Repository) -> None:
        first = owe_delivery(repository)

        with repository.transaction() as tx:
            assert not tx.deliveries.add(first.invoice_id, first.event_type, "msg_again", "{}", LATER)
            assert tx.deliveries.add(first.invoice_id, "invoice.expired", "msg_other", "{}", LATER)

        assert [one.webhook_id for one in deliveries_of(repository, first)] == ["msg_order-1", "msg_other"]

    def test_the_least_tried_is_due_first_then_the_oldest(self, repository: Repository) -> None:
        for number, name in enumerate(["tried", "second", "first"]):
            owe_delivery(repository, name, NOW - timedelta(seconds=number))
        [tried] = [one for one in due(repository, NOW) if one.webhook_id == "msg_tried"]
        claim_and_put_off(repository, tried, NOW - timedelta(days=1))

        assert [one.webhook_id for one in due(repository, NOW)] == ["msg_first", "msg_second", "msg_tried"]
        assert [one.webhook_id for one in due(repository, NOW, limit=1)] == ["msg_first"]

    def test_nothing_is_due_before_its_time(self, repository: Repository) -> None:
        owe_delivery(repository, at=NOW)

        assert due(repository, NOW - timedelta(microseconds=1)) == []

    def test_a_claimed_delivery_is_not_claimed_again_until_the_claim_expires(self, repository: Repository) -> None:
        delivery = owe_delivery(repository)

        assert claim(repository, delivery, LATER)
        assert not claim(repository, delivery, LATER)
        assert due(repository, LATER - timedelta(seconds=1)) == []
        assert [one.claims for one in due(repository, LATER)] == [1]

    def test_a_claim_that_no_right_clock_has_written_is_none(self, repository: Repository) -> None:
        delivery = owe_delivery(repository)
        assert claim(repository, delivery, NOW + 2 * HOUR)

        with repository.reading() as tx:
            assert tx.deliveries.due(NOW, 10) == []
            assert tx.deliveries.due(NOW, 10, Credible(NOW + 2 * HOUR, [LATER])) == []
            assert len(tx.deliveries.due(NOW, 10, Credible(NOW + HOUR, [LATER]))) == 1

    @pytest.mark.parametrize(("attempts", "is_due"), [(0, True), (1, False), (2, True), (3, True)])
    def test_a_next_attempt_that_no_right_clock_has_written_has_come(
        self, repository: Repository, attempts: int, is_due: bool
    ) -> None:
        delivery = owe_delivery(repository)
        with repository.engine.begin() as connection:
            changed = update(deliveries).values(attempts=attempts, next_attempt_at=NOW + 2 * HOUR)
            connection.execute(changed.where(deliveries.c.id == delivery.id))
        latest = [NOW + HOUR, NOW + 3 * HOUR, NOW + HOUR]

        with repository.reading() as tx:
            assert bool(tx.deliveries.due(NOW, 10, Credible(LATER, latest))) is is_due

    def test_a_delivered_message_is_done_with(self, repository: Repository) -> None:
        delivery = owe_delivery(repository)
        claim(repository, delivery, LATER)

        with repository.transaction() as tx:
            assert tx.deliveries.mark_delivered(delivery, NOW)
            assert not tx.deliveries.mark_delivered(delivery, LATER)

        [done] = deliveries_of(repository, delivery)
        assert (done.state, done.delivered_at, done.attempts, done.claimed_until) == (
            DeliveryState.DELIVERED,
            NOW,
            1,
            None,
        )
        assert not claim(repository, done, LATER)

    def test_a_delivered_message_counts_also_after_the_claim_was_lost(self, repository: Repository) -> None:
        delivery = owe_delivery(repository)
        claim(repository, delivery, NOW)
        [again] = due(repository, NOW)
        claim(repository, again, LATER)

        with repository.transaction() as tx:
            assert tx.deliveries.mark_delivered(delivery, NOW)
            assert not tx.deliveries.put_off(again, LATER, "no answer")

    def test_who_lost_the_claim_neither_puts_off_nor_abandons(self, repository: Repository) -> None:
        delivery = owe_delivery(repository)
        claim(repository, delivery, NOW)
        [again] = due(repository, NOW)
        claim(repository, again, LATER)

        with repository.transaction() as tx:
            assert not tx.deliveries.put_off(delivery, LATER, "no answer")
            assert not tx.deliveries.abandon(delivery, "410")
            assert tx.deliveries.put_off(again, LATER, "no answer")

    def test_what_is_put_off_is_due_again_later_with_the_reason_kept(self, repository: Repository) -> None:
        delivery = owe_delivery(repository)

        claim_and_put_off(repository, delivery, LATER)

        assert due(repository, LATER - timedelta(seconds=1)) == []
        [again] = due(repository, LATER)
        assert (again.attempts, again.claims, again.last_error, again.webhook_id) == (1, 1, "no answer", "msg_order-1")

    def test_what_is_abandoned_is_never_due_by_itself(self, repository: Repository) -> None:
        delivery = owe_delivery(repository)
        claim(repository, delivery, LATER)

        with repository.transaction() as tx:
            assert tx.deliveries.abandon(delivery, "410")

        [done] = deliveries_of(repository, delivery)
        assert (done.state, done.attempts, done.last_error) == (DeliveryState.ABANDONED, 1, "410")
        assert due(repository, LATER + timedelta(days=30)) == []

    @pytest.mark.parametrize("end", ["abandon", "mark_delivered"])
    def test_a_person_can_have_a_finished_message_sent_again_with_all_its_attempts(
        self, repository: Repository, end: str
    ) -> None:
        delivery = owe_delivery(repository)
        claim(repository, delivery, LATER)
        with repository.transaction() as tx:
            tx.deliveries.abandon(delivery, "410") if end == "abandon" else tx.deliveries.mark_delivered(delivery, NOW)
        [done] = deliveries_of(repository, delivery)

        with repository.transaction() as tx:
            assert tx.deliveries.send_again(done, LATER)
            assert not tx.deliveries.send_again(done, LATER)

        [again] = due(repository, LATER)
        assert (again.state, again.attempts, again.delivered_at) == (DeliveryState.PENDING, 0, None)
        assert again.webhook_id == delivery.webhook_id

    def test_the_next_due_moment_is_the_earliest_of_what_is_owed(self, repository: Repository) -> None:
        assert next_due_at(repository) is None

        owe_delivery(repository, "a", LATER)
        delivery = owe_delivery(repository, "b", NOW)
        assert next_due_at(repository) == NOW

        claim(repository, delivery, LATER + timedelta(seconds=5))
        assert next_due_at(repository) == LATER

    def test_the_end_of_a_claim_is_a_due_moment_too(self, repository: Repository) -> None:
        delivery = owe_delivery(repository)

        claim(repository, delivery, LATER)

        assert next_due_at(repository) == LATER

    def test_it_is_known_whether_a_message_is_being_sent(self, repository: Repository) -> None:
        delivery = owe_delivery(repository)
        assert not is_any_claimed(repository)

        claim(repository, delivery, LATER)
        assert is_any_claimed(repository)

        with repository.transaction() as tx:
            tx.deliveries.mark_delivered(delivery, NOW)
        assert not is_any_claimed(repository)

    def test_a_person_can_have_a_waiting_message_sent_now(self, repository: Repository) -> None:
        delivery = owe_delivery(repository, at=LATER)

        with repository.transaction() as tx:
            assert tx.deliveries.send_again(delivery, NOW)

        assert [one.webhook_id for one in due(repository, NOW)] == [delivery.webhook_id]


class TestBackupsOfAWrongClock:
    @pytest.mark.parametrize("hours", [-72, -2, 0, 2, 72])
    def test_a_backup_is_new_even_if_the_clock_was_wrong_at_the_last_restore(
        self, repository: Repository, hours: int
    ) -> None:
        with repository.transaction() as tx:
            tx.limits.reach_milestone(RESTORED, NOW + hours * HOUR)
            tx.limits.mark_copied(NOW)

        with repository.reading() as tx:
            copied_at = tx.limits.milestone(COPIED)
            assert tx.limits.is_new_copy()
        assert copied_at == (NOW if hours < 0 else NOW + hours * HOUR + timedelta(microseconds=1))

    def test_the_first_backup_is_marked_with_its_time(self, repository: Repository) -> None:
        with repository.transaction() as tx:
            tx.limits.mark_copied(NOW)
            assert tx.limits.milestone(COPIED) == NOW
            assert tx.limits.is_new_copy()


class TestRefundsOfAWrongClock:
    def test_a_claim_and_a_rest_that_no_right_clock_has_written_are_over(self, repository: Repository) -> None:
        refund = owe_refund(repository, add_invoice(repository, state=InvoiceState.PAID_LATE))
        with repository.transaction() as tx:
            assert tx.refunds.claim(refund, until=NOW + 2 * HOUR)
        far = {"claims_end_by": NOW + 2 * HOUR, "rests_end_by": NOW + 2 * HOUR}

        with repository.reading() as tx:
            assert tx.refunds.due([RefundState.REQUESTED], NOW, 10, **far) == []
            assert len(tx.refunds.due([RefundState.REQUESTED], NOW, 10, claims_end_by=NOW + HOUR)) == 1

        with repository.engine.begin() as connection:
            connection.execute(update(refunds).values(claimed_until=None, next_attempt_at=NOW + 2 * HOUR))
        with repository.reading() as tx:
            assert tx.refunds.due([RefundState.REQUESTED], NOW, 10, **far) == []
            assert len(tx.refunds.due([RefundState.REQUESTED], NOW, 10, rests_end_by=NOW + HOUR)) == 1

    @pytest.mark.parametrize(("payment_id", "count"), [(None, 0), ("payment-1", 1)])
    def test_a_quote_is_never_executed_again_before_its_time(
        self, repository: Repository, payment_id: str | None, count: int
    ) -> None:
        in_flight_refund(repository)
        with repository.engine.begin() as connection:
            connection.execute(update(refunds).values(payment_id=payment_id, next_attempt_at=NOW + 2 * HOUR))

        with repository.reading() as tx:
            assert len(tx.refunds.due([RefundState.IN_FLIGHT], NOW, 10, rests_end_by=NOW + HOUR)) == count


class TestLimits:
    def test_a_block_is_kept_for_each_bucket_and_never_shortened(self, repository: Repository) -> None:
        with repository.reading() as tx:
            now = tx.limits.now()
        for minutes in [10, 30, 20]:
            with repository.transaction() as tx:
                tx.limits.block("other", now + timedelta(minutes=minutes))

        with repository.reading() as tx:
            assert tx.limits.blocked_until("other") == now + timedelta(minutes=30)
            assert timedelta(minutes=25) < tx.limits.blocked_for("other") <= timedelta(minutes=30)
            assert tx.limits.blocked_until("rates") is None
            assert tx.limits.blocked_for("rates") == timedelta()

    def test_a_block_that_ends_later_than_any_can_is_none_and_is_replaced(self, repository: Repository) -> None:
        with repository.transaction() as tx:
            now = tx.limits.now()
            tx.limits.block("other", now + 3 * HOUR)
            assert tx.limits.blocked_for("other") == timedelta()
            tx.limits.block("other", now + HOUR / 2)

        with repository.reading() as tx:
            assert tx.limits.blocked_until("other") == now + HOUR / 2

    def test_calls_of_a_window_end_with_now(self, repository: Repository) -> None:
        with repository.reading() as tx:
            now = tx.limits.now()
        away = [-2 * HOUR, -HOUR / 4, -HOUR / 12, 0 * HOUR, 2 * HOUR]
        with repository.engine.begin() as connection:
            for one in away:
                connection.execute(insert(provider_calls).values(bucket="other", slot_at=now + one, calls=1))

        with repository.reading() as tx:
            assert tx.limits.calls_within("other", HOUR / 6, 60) == 2
            assert tx.limits.calls_within("rates", HOUR / 6, 60) == 0

    def test_calls_are_counted_by_bucket_and_slot(self, repository: Repository) -> None:
        with repository.transaction() as tx:
            for bucket, seconds in [("other", 0), ("other", 1), ("other", 60), ("rates", 0)]:
                tx.limits.count_call(bucket, NOW + timedelta(seconds=seconds), 60)

        with repository.reading() as tx:
            assert tx.limits.calls_since("other", NOW, 60) == 3
            assert tx.limits.calls_since("other", NOW + timedelta(seconds=60), 60) == 1
            assert tx.limits.calls_since("other", LATER, 60) == 0
            assert tx.limits.calls_since("rates", NOW, 60) == 1

    def test_a_milestone_is_the_last_time(self, repository: Repository) -> None:
        with repository.transaction() as tx:
            assert tx.limits.milestone("sweep") is None
            tx.limits.reach_milestone("sweep", NOW)
            tx.limits.reach_milestone("sweep", LATER)

        with repository.reading() as tx:
            assert tx.limits.milestone("sweep") == LATER


class TestValues:
    @pytest.mark.parametrize(
        "amount", ["0.01", "12.30", "9007199254740993.01", "0.1", "100", "123456789012345678901234567890.123456789"]
    )
    def test_decimals_come_back_digit_for_digit(self, repository: Repository, amount: str) -> None:
        order = replace(ORDER, amount_fiat=Decimal(amount))

        add_draft(repository, order=order)

        assert str(known(found(repository, "order-1")).order.amount_fiat) == amount

    @pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(hours=-9))])
    @pytest.mark.parametrize("microsecond", [0, 1, 123_456, 999_999])
    def test_times_come_back_exact_and_in_utc(self, repository: Repository, zone: timezone, microsecond: int) -> None:
        moment = NOW.replace(microsecond=microsecond)

        draft = add_draft(repository, created_at=moment.astimezone(zone))

        stored = known(found(repository, draft.correlation_id)).created_at
        assert stored == moment
        assert stored.utcoffset() == timedelta(0)

    def test_all_the_bitcoin_there_is_fits_into_an_amount(self, repository: Repository) -> None:
        add_draft(repository, amount_sats=2_100_000_000_000_000)

        assert known(found(repository, "order-1")).amount_sats == 2_100_000_000_000_000

    def test_what_the_provider_said_comes_back_whole(self, repository: Repository) -> None:
        said = {"amount": {"amount": "0.00011889"}, "none": None, "text": "ä☕\x00\ud800", "list": [1, True], "n": 117}

        invoice = add_invoice(repository, strike_invoice=said)

        assert invoice.issue.strike_invoice == said

    def test_a_naive_time_is_refused(self, repository: Repository) -> None:
        with pytest.raises(StatementError, match="UTC-aware"):
            add_draft(repository, created_at=NOW.replace(tzinfo=None))

    @pytest.mark.parametrize("amount", [12.3, 12, "12.30"])
    def test_fiat_that_is_no_decimal_is_refused(self, repository: Repository, amount: Any) -> None:
        with pytest.raises(StatementError, match="are Decimal"):
            add_draft(repository, order=replace(ORDER, amount_fiat=amount))

    @pytest.mark.parametrize("amount", [1.0, 1.5, "1", Decimal(1), True])
    def test_sats_that_are_no_whole_number_are_refused(self, repository: Repository, amount: Any) -> None:
        with pytest.raises(StatementError, match="whole numbers"):
            add_draft(repository, amount_sats=amount)

    @pytest.mark.parametrize("amount", [1.5, Decimal(1)])
    def test_a_refund_of_no_whole_number_is_refused(self, repository: Repository, amount: Any) -> None:
        invoice = add_invoice(repository, state=InvoiceState.PAID_LATE)

        with pytest.raises(StatementError, match="whole numbers"):
            owe_refund(repository, invoice, received_sats=amount)


class TestGuards:
    """What the database itself refuses, even if the code is wrong."""

    @pytest.mark.parametrize("amount", [0, -1])
    def test_an_invoice_asks_for_something(self, repository: Repository, amount: int) -> None:
        with pytest.raises(IntegrityError, match="ck_invoices_amount_positive"):
            add_draft(repository, amount_sats=amount)

    @pytest.mark.parametrize("column", ["amount_fiat", "amount_sats", "rate_price", "state", "created_at"])
    def test_an_invoice_has_its_price_and_state(self, repository: Repository, column: str) -> None:
        assert_refused(repository, invoices, f"(?i)not.null.*{column}|{column}.*not-null", **{column: None})

    def test_an_invoice_is_in_a_known_state(self, repository: Repository) -> None:
        assert_refused(repository, invoices, "ck_invoices_state_known", state="lost")

    @pytest.mark.parametrize("sats", [0, -1])
    def test_what_was_received_is_something(self, repository: Repository, sats: int) -> None:
        assert_refused(
            repository, invoices, "ck_invoices_received_positive",
            state="settled", paid_at=NOW, settled_at=NOW, received_sats=sats,
        )  # fmt: skip

    @pytest.mark.parametrize(
        "column",
        ["bolt11", "payment_hash", "strike_invoice", "strike_quote", "opened_at", "expires_at", "payable_until"],
    )
    def test_an_invoice_is_issued_at_once_or_not_at_all(self, repository: Repository, column: str) -> None:
        assert_refused(repository, invoices, "ck_invoices_issued_at_once", **{column: None})

    def test_a_draft_is_unpaid(self, repository: Repository) -> None:
        draft = add_draft(repository)

        with pytest.raises(IntegrityError, match="ck_invoices_draft_unpaid"), repository.transaction() as tx:
            tx.invoices.move(draft.id, InvoiceState.UNPAID, InvoiceState.EXPIRED)

    @pytest.mark.parametrize(
        ("state", "paid_at", "received_sats", "settled_at"),
        [
            ("settled", None, None, None),
            ("settled", NOW, None, NOW),
            ("settled", NOW, 5, None),
            ("paid_late", NOW, 5, NOW),
            ("paid_late", None, 5, None),
            ("unpaid", NOW, 5, None),
            ("lapsed", None, 5, None),
            ("expired", None, None, NOW),
        ],
    )
    def test_a_paid_invoice_and_no_other_has_time_and_amount(
        self, repository: Repository, state: str, paid_at: Any, received_sats: Any, settled_at: Any
    ) -> None:
        assert_refused(
            repository, invoices, "ck_invoices_paid_has",
            state=state, paid_at=paid_at, received_sats=received_sats, settled_at=settled_at,
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("column", "value"),
        [("correlation_id", "order-1"), ("token", "token-order-1"), ("strike_invoice_id", "strike-order-1")],
    )
    def test_each_name_of_an_invoice_is_its_own(self, repository: Repository, column: str, value: str) -> None:
        add_invoice(repository)
        other = add_invoice(repository, "order-2")

        with pytest.raises(IntegrityError), repository.engine.begin() as connection:
            connection.execute(update(invoices).where(invoices.c.id == other.id).values({column: value}))

    def test_one_invoice_has_one_refund_even_when_the_code_forgets(self, repository: Repository) -> None:
        refund = owe_refund(repository, add_invoice(repository, state=InvoiceState.PAID_LATE))
        copy = {**vars(refund), "id": refund.id + 1, "token": "other", "idempotency_key": "other"}

        with pytest.raises(IntegrityError), repository.engine.begin() as connection:
            connection.execute(insert(refunds).values(copy))

    def test_a_refund_is_never_more_than_was_received(self, repository: Repository) -> None:
        assert_refused(repository, refunds, "ck_refunds_never_more_than_received", amount_sats=11_890)

    @pytest.mark.parametrize("amount", [0, -1])
    def test_a_refund_is_something(self, repository: Repository, amount: int) -> None:
        assert_refused(repository, refunds, "ck_refunds_amount_positive", amount_sats=amount)

    def test_a_refund_is_in_a_known_state(self, repository: Repository) -> None:
        assert_refused(repository, refunds, "ck_refunds_state_known", state="lost")

    @pytest.mark.parametrize("state", ["quoted", "in_flight"])
    def test_a_refund_is_quoted_before_it_is_executed(self, repository: Repository, state: str) -> None:
        assert_refused(repository, refunds, "ck_refunds_quote_before_execute", state=state)

    @pytest.mark.parametrize(("state", "sent_at"), [("sent", None), ("requested", NOW)])
    def test_a_sent_refund_and_no_other_has_its_time(self, repository: Repository, state: str, sent_at: Any) -> None:
        assert_refused(repository, refunds, "ck_refunds_sent_at", state=state, sent_at=sent_at)

    def test_a_fee_is_not_negative(self, repository: Repository) -> None:
        assert_refused(repository, refunds, "ck_refunds_fee_not_negative", fee_sats=-1)

    def test_a_refund_has_somewhere_to_go(self, repository: Repository) -> None:
        assert_refused(repository, refunds, "ck_refunds_has_address", address=None)

    def test_a_delivery_is_in_a_known_state(self, repository: Repository) -> None:
        assert_refused(repository, deliveries, "ck_deliveries_state_known", state="lost")

    @pytest.mark.parametrize(("state", "delivered_at"), [("delivered", None), ("pending", NOW), ("abandoned", NOW)])
    def test_a_delivered_message_and_no_other_has_its_time(
        self, repository: Repository, state: str, delivered_at: Any
    ) -> None:
        assert_refused(repository, deliveries, "ck_deliveries_delivered_at", state=state, delivered_at=delivered_at)

    @pytest.mark.parametrize("table", [refunds, deliveries])
    def test_nothing_is_owed_for_an_invoice_that_is_not_there(self, repository: Repository, table: Table) -> None:
        add_one_of_each(repository)

        with pytest.raises(IntegrityError), repository.engine.begin() as connection:
            connection.execute(update(table).values(invoice_id=10**9))


A_DELIVERY = Delivery(
    1, "msg_1", 1, "InvoiceSettled", "{}", DeliveryState.DELIVERED, 1, 1, None, NOW, NOW, NOW, None, 1
)  # fmt: skip
"""One to a webhook endpoint, to ask about others like it."""


class TestTransactions:
    def test_an_error_takes_everything_back(self, repository: Repository) -> None:
        invoice = add_invoice(repository)

        with contextlib.suppress(ZeroDivisionError), repository.transaction() as tx:
            assert tx.invoices.move(invoice.id, InvoiceState.UNPAID, InvoiceState.EXPIRED)
            assert tx.deliveries.add(invoice.id, "invoice.expired", "msg_1", "{}", NOW)
            raise ZeroDivisionError

        assert invoice_of(repository, "order-1") == invoice
        assert due(repository, LATER) == []

    def test_a_refused_row_takes_everything_back(self, repository: Repository) -> None:
        add_draft(repository)

        with contextlib.suppress(IntegrityError), repository.transaction() as tx:
            assert tx.invoices.add_draft("order-2", "order-2", "token-2", ORDER, 5, RATE, NOW)
            tx.invoices.add_draft("order-3", "order-3", "token-3", ORDER, 0, RATE, NOW)

        assert found(repository, "order-2") is None

    def test_after_an_error_the_next_transaction_goes_well(self, repository: Repository) -> None:
        for _ in range(50):
            with contextlib.suppress(ZeroDivisionError), repository.transaction() as tx:
                tx.limits.reach_milestone("sweep", NOW)
                raise ZeroDivisionError

        add_draft(repository)
        assert repository.engine.pool.checkedout() == 0  # type: ignore[attr-defined]

    def test_nothing_is_visible_before_the_commit_and_everything_after_it(
        self, database_url: str, repository: Repository
    ) -> None:
        with opened(database_url) as other:
            with repository.transaction() as tx:
                tx.limits.reach_milestone("sweep", NOW)
                assert milestone(other) is None
            assert milestone(other) == NOW

    def test_each_query_of_a_reading_sees_the_newest_commit(self, repository: Repository) -> None:
        with repository.reading() as reading:
            assert reading.limits.milestone("sweep") is None
            with repository.transaction() as tx:
                tx.limits.reach_milestone("sweep", NOW)
            assert reading.limits.milestone("sweep") == NOW

    def test_writing_works_after_reading_on_the_same_connection(self, repository: Repository) -> None:
        for number in range(3):
            assert found(repository, f"order-{number}") is None
            with contextlib.suppress(ZeroDivisionError), repository.transaction() as tx:
                tx.invoices.add_draft(f"lost-{number}", f"lost-{number}", f"lost-{number}", ORDER, 5, RATE, NOW)
                raise ZeroDivisionError
            add_draft(repository, f"order-{number}")

            assert found(repository, f"lost-{number}") is None
            assert found(repository, f"order-{number}") is not None


class TestRaces:
    def test_of_two_processes_one_claims_a_delivery(self, database_url: str, repository: Repository) -> None:
        delivery = owe_delivery(repository)

        won = race(database_url, lambda tx: tx.deliveries.claim(delivery, LATER))

        assert sorted(won) == [False] * 7 + [True]

    def test_a_row_that_another_process_is_claiming_is_not_waited_for(self, postgres_database: str) -> None:
        empty(postgres_database)
        with opened(postgres_database) as repository, opened(postgres_database) as other:
            delivery = owe_delivery(repository)
            refund = owe_refund(repository, add_invoice(repository, "order-2", state=InvoiceState.PAID_LATE))
            with repository.transaction() as slow:
                assert slow.deliveries.claim(delivery, LATER)
                assert slow.refunds.claim(refund, LATER) is not None

                with other.transaction() as tx:
                    tx.deliveries._connection.execute(text("SET LOCAL lock_timeout = '1ms'"))
                    assert not tx.deliveries.claim(delivery, LATER)
                    assert tx.refunds.claim(refund, LATER) is None

            assert [one.claims for one in due(repository, LATER)] == [1]

    def test_of_two_processes_one_settles_an_invoice_and_owes_one_message(
        self, database_url: str, repository: Repository
    ) -> None:
        invoice = add_invoice(repository)

        def settle(tx: Transaction) -> bool:
            is_first = tx.invoices.mark_paid(invoice.id, InvoiceState.SETTLED, paid_at=NOW, received_sats=5, at=NOW)
            return is_first and tx.deliveries.add(invoice.id, "invoice.settled", "msg_1", "{}", NOW)

        assert sorted(race(database_url, settle)) == [False] * 7 + [True]
        assert len(due(repository, NOW)) == 1

    def test_an_invoice_that_expires_while_it_is_paid_is_paid(self, database_url: str, repository: Repository) -> None:
        for number in range(4):
            invoice = add_invoice(repository, f"order-{number}")

            def pay_or_expire(tx: Transaction, invoice: Invoice = invoice) -> bool:
                if threading.current_thread().name.endswith(("0", "1")):
                    return tx.invoices.mark_paid(invoice.id, InvoiceState.SETTLED, paid_at=NOW, received_sats=5, at=NOW)
                tx.invoices.move(invoice.id, InvoiceState.UNPAID, InvoiceState.EXPIRED)
                return False

            assert sum(race(database_url, pay_or_expire)) == 1
            assert invoice_of(repository, f"order-{number}").state is InvoiceState.SETTLED

    def test_of_two_processes_one_owes_the_refund(self, database_url: str, repository: Repository) -> None:
        invoice = add_invoice(repository, state=InvoiceState.PAID_LATE)

        def owe(tx: Transaction) -> bool:
            name = threading.current_thread().name
            return tx.refunds.add(
                invoice.id, received_sats=5, address="a@b.io", token=name, key=RefundKey(name, 1), created_at=NOW
            )

        assert sorted(race(database_url, owe)) == [False] * 7 + [True]

    def test_of_two_processes_one_stores_an_order(self, database_url: str, repository: Repository) -> None:
        def add(tx: Transaction) -> bool:
            name = threading.current_thread().name
            return tx.invoices.add_draft("order-1", "order-1", name, ORDER, 5, RATE, NOW) is not None

        assert sorted(race(database_url, add)) == [False] * 7 + [True]
        assert found(repository, "order-1") is not None

    def test_of_two_processes_each_gets_the_same_name_of_the_installation(
        self, database_url: str, repository: Repository
    ) -> None:
        names: list[str] = []

        def name(tx: Transaction) -> bool:
            names.append(tx.installation.make_name())
            return True

        race(database_url, name)

        with repository.reading() as tx:
            assert set(names) == {tx.installation.name()}

    def test_no_counted_call_is_lost(self, database_url: str, repository: Repository) -> None:
        def count(tx: Transaction) -> bool:
            for _ in range(5):
                tx.limits.count_call("other", NOW, 60)
            return True

        race(database_url, count)

        with repository.reading() as tx:
            assert tx.limits.calls_since("other", NOW, 60) == 40

    def test_the_longest_of_several_blocks_stays(self, database_url: str, repository: Repository) -> None:
        with repository.reading() as tx:
            now = tx.limits.now()

        def block(tx: Transaction) -> bool:
            tx.limits.block("other", now + timedelta(seconds=60 * int(threading.current_thread().name[-1])))
            return True

        race(database_url, block)

        with repository.reading() as tx:
            assert tx.limits.blocked_until("other") == now + timedelta(seconds=60 * 7)


class TestSchema:
    def test_the_version_is_the_newest_migration(self) -> None:
        assert ScriptDirectory.from_config(alembic_config()).get_current_head() == SCHEMA_VERSION

    def test_the_migrations_make_exactly_the_tables(self, repository: Repository) -> None:
        with repository.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, metadata) == []

    def test_the_migrations_make_exactly_the_guards(self, empty_url: str) -> None:
        indexes = [index for table in metadata.tables.values() for index in table.indexes]
        for index in indexes:
            index.dialect_options["postgresql"]["where"] = index.dialect_options["sqlite"]["where"]
        with opened(empty_url) as repository:
            metadata.create_all(repository.engine)
            wanted = guards_of(repository)
            metadata.drop_all(repository.engine)

            repository.upgrade()

            assert guards_of(repository) == wanted

    def test_an_empty_database_is_made_ready(self, empty_url: str) -> None:
        with opened(empty_url) as repository:
            with pytest.raises(SchemaTooNew, match="version None"):
                repository.ping()

            repository.upgrade()
            repository.upgrade()

            repository.ping()
            add_invoice(repository)

    def test_several_threads_may_make_it_ready_at_once(self, empty_url: str) -> None:
        with opened(empty_url) as repository, ThreadPoolExecutor(6) as threads:
            for done in [threads.submit(repository.upgrade) for _ in range(6)]:
                done.result()

            with repository.reading() as tx:
                assert sum(tx.invoices.counts().values()) == 0
            repository.ping()

    def test_several_processes_may_make_it_ready_at_once(self, empty_url: str) -> None:
        program = f"from lnpay.repository import Repository; Repository({empty_url!r}).upgrade()"

        processes = [
            subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) for _ in range(4)
        ]
        complaints = [process.communicate()[1] for process in processes]

        assert [process.returncode for process in processes] == [0] * 4, complaints
        with opened(empty_url) as repository:
            repository.ping()

    def test_an_up_to_date_database_costs_no_import_of_the_migrations(self, database_url: str) -> None:
        program = (
            "import sys; from lnpay.repository import Repository; "
            f"Repository({database_url!r}).upgrade(); print(sorted(n for n in sys.modules if 'alembic' in n))"
        )

        answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

        assert answer.stdout.strip() == "[]"

    def test_an_sqlite_database_costs_no_import_of_postgresqls_drivers(self, tmp_path: Path) -> None:
        program = (
            "import sys; from lnpay.repository import Repository; "
            f"Repository('sqlite:///{tmp_path}/invoices.sqlite').engine.connect().close(); "
            "print(sorted(n for n in sys.modules if 'postgresql' in n or 'psycopg' in n))"
        )

        answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

        assert answer.stdout.strip() == "[]"

    def test_a_database_of_a_newer_lnpay_is_refused_with_clear_words(self, repository: Repository) -> None:
        with repository.engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

        with pytest.raises(SchemaTooNew, match=r"version 9999.*newer LNPay.*backup"):
            repository.upgrade()
        with pytest.raises(SchemaTooNew, match="version 9999"):
            repository.ping()


class TestUnavailable:
    def test_a_database_that_is_not_there_is_unavailable(self, tmp_path: Path, postgres_server: str) -> None:
        gone = make_url(postgres_server).set(database="no_such_database").render_as_string(False)
        for url in [f"sqlite:///{tmp_path}/no/such/folder/invoices.sqlite", gone]:
            for call in [Repository.upgrade, Repository.ping, milestone]:
                with opened(url) as repository, pytest.raises(StorageUnavailable, match="not available right now"):
                    call(repository)

    @pytest.mark.parametrize(
        ("name", "reason"), [("note.txt", "file is not a database"), ("", "unable to open database file")]
    )
    def test_a_file_that_is_no_database_is_unavailable_for_a_reason(
        self, tmp_path: Path, name: str, reason: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "note.txt").write_bytes(b"this is not a database at all\n" * 100)

        with opened(f"sqlite:///{tmp_path}/{name}") as repository, pytest.raises(StorageUnavailable):
            repository.upgrade()

        [logged] = [one for one in caplog.records if one.levelname == "ERROR"]
        assert logged.getMessage().endswith(f"reason={reason}")
        assert logged.exc_info is None

    def test_a_file_locked_past_the_timeout_is_unavailable_and_loses_nothing(
        self, sqlite: Repository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(repository_module, "BUSY_TIMEOUT_MS", 20)
        with opened(str(sqlite.engine.url)) as other, sqlite.transaction() as tx:
            tx.limits.reach_milestone("sweep", NOW)
            with pytest.raises(StorageUnavailable), other.transaction():
                pass
            assert milestone(other) is None
        assert milestone(sqlite) == NOW

    def test_a_file_locked_for_a_moment_is_waited_for(self, sqlite: Repository) -> None:
        is_locked = threading.Event()
        with opened(str(sqlite.engine.url)) as other, ThreadPoolExecutor(1) as threads:

            def write_and_linger() -> None:
                with sqlite.transaction() as tx:
                    is_locked.set()
                    tx.limits.reach_milestone("first", NOW)

            first = threads.submit(write_and_linger)
            is_locked.wait()
            with other.transaction() as tx:
                tx.limits.reach_milestone("sweep", NOW)
            first.result()
        assert milestone(sqlite) == NOW

    def test_a_full_file_is_unavailable_and_works_again_with_room(self, sqlite: Repository) -> None:
        def limit_pages(pages: int) -> None:
            with sqlite.engine.connect() as connection:
                connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

        limit_pages(1)
        with pytest.raises(StorageUnavailable):
            add_draft(sqlite, order=replace(ORDER, description="x" * 20_000))

        limit_pages(1_000_000)
        add_draft(sqlite)

    def test_a_server_that_throws_us_out_costs_one_transaction(self, postgres_database: str) -> None:
        with opened(postgres_database) as repository, opened(postgres_database) as admin:
            assert milestone(repository) is None

            with pytest.raises(StorageUnavailable):
                write_while_thrown_out(repository, admin)

            assert milestone(repository) is None

    def test_a_mistake_of_ours_is_not_called_unavailable(self, repository: Repository) -> None:
        with pytest.raises(IntegrityError), repository.transaction() as tx:
            tx.invoices.add_draft("order-1", "order-1", "token", ORDER, -1, RATE, NOW)

    def test_the_address_and_password_of_the_database_are_not_in_the_error(self) -> None:
        url = "postgresql+psycopg://me:hunter2@127.0.0.1:1/shop"
        with opened(url) as repository, pytest.raises(StorageUnavailable) as refusal:
            repository.ping()

        assert "hunter2" not in f"{refusal.value!r} {refusal.value.__cause__!r}"


class TestSqlite:
    def test_every_pooled_connection_has_what_safety_needs(self, sqlite: Repository) -> None:
        engine = sqlite.engine.execution_options(isolation_level="AUTOCOMMIT")
        connections = [engine.connect() for _ in range(5)]

        for connection in connections:
            pragmas = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ["journal_mode", "synchronous", "foreign_keys", "busy_timeout"]
            }
            assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}
        for connection in connections:
            connection.close()

    def test_they_still_have_it_after_reading_and_writing(self, sqlite: Repository) -> None:
        add_invoice(sqlite)
        milestone(sqlite)

        with sqlite.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1

    def test_one_that_need_not_wait_for_the_disk_leaves_the_next_durable(self, sqlite: Repository) -> None:
        levels = []
        event.listen(
            sqlite.engine,
            "commit",
            lambda connection: levels.append(connection.exec_driver_sql("PRAGMA synchronous").scalar()),
        )

        for is_durable in (False, True, False, True):
            with sqlite.transaction(is_durable=is_durable) as tx:
                tx.limits.reach_milestone("sweep", NOW)

        assert levels == [1, 2, 1, 2]

    def test_a_transaction_takes_the_write_lock_at_its_beginning(self, sqlite: Repository) -> None:
        milestone(sqlite)
        database = str(sqlite.engine.url.database)

        with sqlite.transaction() as tx, contextlib.closing(sqlite3.connect(database, timeout=0)) as other:
            tx.limits.milestone("sweep")
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")

    def test_readers_are_not_held_up_by_a_writer(self, sqlite: Repository) -> None:
        with sqlite.transaction() as tx:
            tx.limits.reach_milestone("sweep", NOW)
            assert milestone(sqlite) is None

    @pytest.mark.parametrize(
        "question",
        [
            lambda tx: tx.invoices.to_expire(NOW, 100),
            lambda tx: tx.invoices.to_lapse(NOW, 100),
            lambda tx: tx.invoices.oldest_opened_at([InvoiceState.UNPAID, InvoiceState.EXPIRED]),
            lambda tx: tx.invoices.least_recently_checked(100),
            lambda tx: tx.invoices.payable_among([f"strike-{number}" for number in range(100)]),
            lambda tx: tx.invoices.oldest_unwatched_opened_at(NOW),
            lambda tx: tx.invoices.mark_listed_paid([f"strike-{number}" for number in range(100)], NOW),
            lambda tx: tx.invoices.unsettled(NOW, 100),
            lambda tx: tx.figures.unsettled(),
            lambda tx: tx.invoices.find(1),
            lambda tx: tx.invoices.find_by_strike_id("strike-1"),
            lambda tx: tx.invoices.find_by_token("token-1"),
            lambda tx: tx.invoices.find_by_correlation_id("order-1"),
            lambda tx: tx.invoices.mark_checked(["strike-1", "strike-2"], NOW),
            lambda tx: tx.invoices.move(1, InvoiceState.UNPAID, InvoiceState.EXPIRED),
            lambda tx: tx.deliveries.due(NOW, 100),
            lambda tx: tx.deliveries.due(NOW, 100, Credible(LATER, [LATER, LATER])),
            lambda tx: tx.deliveries.due(NOW, 100, None, 1),
            lambda tx: tx.deliveries.lanes_due(NOW, Credible(LATER, [LATER, LATER])),
            lambda tx: tx.deliveries.is_owed(1, "InvoiceInvalid", 1),
            lambda tx: tx.deliveries.next_due_at(),
            lambda tx: tx.deliveries.is_any_claimed(),
            lambda tx: tx.deliveries.of_invoice(1),
            lambda tx: tx.deliveries.newest_of_endpoint(1, 100),
            lambda tx: tx.deliveries.find_of_endpoint(1, "msg_1"),
            lambda tx: tx.deliveries.same_as(A_DELIVERY),
            lambda tx: tx.deliveries.lock_invoice(1),
            lambda tx: tx.refunds.find_by_invoice(1),
            lambda tx: tx.refunds.find_by_token("token-1"),
            lambda tx: tx.refunds.find_by_payment("payment-1"),
            lambda tx: tx.refunds.due([RefundState.REQUESTED, RefundState.IN_FLIGHT], NOW, 100),
            lambda tx: tx.refunds.due([RefundState.REQUESTED], NOW, 100, claims_end_by=LATER, rests_end_by=LATER),
            lambda tx: tx.refunds.next_due_at([RefundState.REQUESTED]),
            lambda tx: tx.refunds.started_sats(NOW),
            lambda tx: tx.limits.blocked_until("other"),
            lambda tx: tx.limits.calls_since("other", NOW, 60),
        ],
    )
    def test_a_question_of_every_day_reads_an_index_and_no_whole_table(
        self, sqlite: Repository, question: Callable[[Transaction], object]
    ) -> None:
        fill(sqlite)

        plans = plans_of(sqlite, question)

        assert plans
        for plan in plans:
            assert not re.search(r"\bSCAN\b", plan), plan
            # What is due is little, and may be sorted; of invoices there may be a million.
            assert "TEMP B-TREE FOR ORDER BY" not in plan or "invoices" not in plan, plan

    @pytest.mark.parametrize(
        "question",
        [
            lambda tx: tx.invoices.payable_among(MANY_IDS),
            lambda tx: tx.invoices.mark_listed_paid(MANY_IDS, NOW),
            lambda tx: tx.invoices.mark_pending(MANY_IDS, NOW),
        ],
    )
    def test_invoices_of_a_page_of_strikes_list_are_found_by_their_ids(
        self, sqlite: Repository, question: Callable[[Transaction], object]
    ) -> None:
        (plan,) = plans_of(sqlite, question)

        assert "SEARCH invoices USING INDEX sqlite_autoindex_invoices_" in plan, plan
        assert "(strike_invoice_id=?)" in plan, plan

    def test_of_unwatched_invoices_only_those_payable_lately_are_read_and_sorted(self, sqlite: Repository) -> None:
        """An index in the order of the answer would make it read every invoice that ever lapsed."""
        fill(sqlite)

        plans = plans_of(sqlite, lambda tx: tx.invoices.unwatched_least_recently_checked(NOW, 100))

        assert len(plans) == len(UNWATCHED)
        for plan in plans:
            assert "USING INDEX ix_invoices_state_payable_until (state=? AND payable_until>?)" in plan, plan
            assert not re.search(r"\bSCAN\b", plan), plan


def empty(url: str) -> None:
    with opened(url) as repository, repository.engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))
        connection.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": SCHEMA_VERSION})


def upgrade(url: str) -> None:
    with opened(url) as repository:
        repository.upgrade()


@contextmanager
def opened(url: str) -> Iterator[Repository]:
    repository = Repository(url)
    try:
        yield repository
    finally:
        repository.close()


def add_draft(
    repository: Repository,
    name: str = "order-1",
    *,
    order: Order = ORDER,
    amount_sats: int = 11_889,
    created_at: datetime = NOW,
) -> Draft:
    with repository.transaction() as tx:
        return known(tx.invoices.add_draft(name, name, f"token-{name}", order, amount_sats, RATE, created_at))


def issue_of(
    name: str,
    *,
    opened_at: datetime = NOW,
    ends_at: datetime = NOW + timedelta(seconds=120),
    strike_invoice: dict[str, Any] | None = None,
) -> Issue:
    return Issue(
        strike_invoice_id=f"strike-{name}",
        bolt11=f"lnbc{name.encode().hex()}",
        payment_hash="00" * 32,
        strike_invoice=strike_invoice or {"invoiceId": f"strike-{name}"},
        strike_quote={"quoteId": f"quote-{name}", "expirationInSec": 117},
        opened_at=opened_at,
        expires_at=ends_at,
        payable_until=ends_at,
    )


def add_invoice(
    repository: Repository,
    name: str = "order-1",
    *,
    state: InvoiceState = InvoiceState.UNPAID,
    order: Order = ORDER,
    **issue: Any,
) -> Invoice:
    """An invoice in any state, brought there over permitted moves."""
    draft = add_draft(repository, name, order=order)
    with repository.transaction() as tx:
        assert tx.invoices.issue(draft, issue_of(name, **issue))
        if state in (InvoiceState.EXPIRED, InvoiceState.LAPSED):
            assert tx.invoices.move(draft.id, InvoiceState.UNPAID, InvoiceState.EXPIRED)
        if state is InvoiceState.LAPSED:
            assert tx.invoices.move(draft.id, InvoiceState.EXPIRED, InvoiceState.LAPSED)
        if state is InvoiceState.CANCELLED:
            assert tx.invoices.cancel(draft.id, InvoiceState.UNPAID)
    if state in (InvoiceState.SETTLED, InvoiceState.PAID_LATE):
        assert mark_paid(repository, draft, state)
    return invoice_of(repository, name)


def mark_paid(repository: Repository, invoice: Draft, state: InvoiceState) -> bool:
    with repository.transaction() as tx:
        return tx.invoices.mark_paid(invoice.id, state, paid_at=NOW, received_sats=11_889, at=LATER)


def found(repository: Repository, name: str) -> Draft | Invoice | None:
    with repository.reading() as tx:
        return tx.invoices.find_by_correlation_id(name)


def invoice_of(repository: Repository, name: str) -> Invoice:
    invoice = found(repository, name)
    assert isinstance(invoice, Invoice)
    return invoice


def owe_refund(
    repository: Repository, invoice: Invoice, *, address: str | None = "alice@example.com", received_sats: int = 11_889
) -> Refund:
    with repository.transaction() as tx:
        assert tx.refunds.add(
            invoice.id,
            received_sats=received_sats,
            address=address,
            token="refund-token",
            key=RefundKey("key-1", 1),
            created_at=NOW,
        )
    return refund_of(repository, invoice)


def in_flight_refund(repository: Repository) -> Refund:
    refund = owe_refund(repository, add_invoice(repository, state=InvoiceState.PAID_LATE))
    with repository.transaction() as tx:
        quoted = known(tx.refunds.store_quote(refund, "quote-1", 11))
        return known(tx.refunds.start(quoted, NOW))


def refund_of(repository: Repository, invoice: Invoice) -> Refund:
    with repository.reading() as tx:
        return known(tx.refunds.find_by_invoice(invoice.id))


def owe_delivery(repository: Repository, name: str = "order-1", at: datetime = NOW) -> Delivery:
    invoice = add_invoice(repository, name)
    with repository.transaction() as tx:
        assert tx.deliveries.add(invoice.id, "invoice.settled", f"msg_{name}", "{}", at)
        return tx.deliveries.of_invoice(invoice.id)[0]


def due(repository: Repository, at: datetime, limit: int = 100) -> list[Delivery]:
    with repository.reading() as tx:
        return tx.deliveries.due(at, limit)


def claim(repository: Repository, delivery: Delivery, until: datetime) -> bool:
    with repository.transaction() as tx:
        return tx.deliveries.claim(delivery, until)


def claim_and_put_off(repository: Repository, delivery: Delivery, until: datetime) -> None:
    with repository.transaction() as tx:
        assert tx.deliveries.claim(delivery, LATER)
        assert tx.deliveries.put_off(delivery, until, "no answer")


def deliveries_of(repository: Repository, delivery: Delivery) -> list[Delivery]:
    with repository.reading() as tx:
        return tx.deliveries.of_invoice(delivery.invoice_id)


def next_due_at(repository: Repository) -> datetime | None:
    with repository.reading() as tx:
        return tx.deliveries.next_due_at()


def is_any_claimed(repository: Repository) -> bool:
    with repository.reading() as tx:
        return tx.deliveries.is_any_claimed()


def milestone(repository: Repository) -> datetime | None:
    with repository.reading() as tx:
        return tx.limits.milestone("sweep")


def known(value: T | None) -> T:
    assert value is not None
    return value


def write_while_thrown_out(repository: Repository, admin: Repository) -> None:
    others = "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    with repository.transaction() as tx, admin.engine.connect() as connection:
        tx.limits.reach_milestone("sweep", NOW)
        connection.execute(text(f"{others} AND datname = current_database()"))
        tx.limits.reach_milestone("sweep", LATER)


def add_one_of_each(repository: Repository) -> None:
    invoice = add_invoice(repository, "refunded", state=InvoiceState.PAID_LATE)
    owe_refund(repository, invoice)
    owe_delivery(repository)


def assert_refused(repository: Repository, table: Table, guard: str, **values: Any) -> None:
    """A row that was fine is refused, by the guard of that name, once these columns are changed."""
    add_one_of_each(repository)
    statement = update(table).values(values)
    if table is invoices:
        statement = statement.where(table.c.correlation_id == "order-1")
    with pytest.raises(DBAPIError, match=guard), repository.engine.begin() as connection:
        connection.execute(statement)


def race(database_url: str, action: Callable[[Transaction], bool]) -> list[bool]:
    """Eight threads, half of them of another process as far as the database can tell, do the same at once."""
    answers: list[bool] = []
    start = threading.Barrier(8)

    def act(repository: Repository) -> None:
        start.wait()
        with repository.transaction() as tx:
            answer = action(tx)
        answers.append(answer)

    with opened(database_url) as first, opened(database_url) as second:
        threads = [
            threading.Thread(target=act, args=([first, second][number % 2],), name=f"racer-{number}")
            for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 8
    return answers


def guards_of(repository: Repository) -> dict[str, set[tuple[str, str]]]:
    """Names and texts of the checks of every table, and its unique columns and foreign keys."""
    inspector = inspect(repository.engine)
    return {
        table: {(str(check["name"]), check["sqltext"]) for check in inspector.get_check_constraints(table)}
        | {
            ("unique", str(sorted(map(str, unique["column_names"]))))
            for unique in inspector.get_unique_constraints(table)
        }
        | {
            ("foreign", f"{key['constrained_columns']}{key['referred_table']}")
            for key in inspector.get_foreign_keys(table)
        }
        for table in metadata.tables
    }


def fill(repository: Repository) -> None:
    """So many old rows that reading them all would be the wrong plan, and what SQLite needs to know that."""
    add_one_of_each(repository)
    add_invoice(repository, "old", state=InvoiceState.SETTLED)
    with repository.engine.connect() as connection:
        old = connection.execute(select(invoices).where(invoices.c.correlation_id == "old")).one()._asdict()
    names = ["correlation_id", "token", "strike_invoice_id"]
    rows = [{**old, "id": 1_000 + number, **dict.fromkeys(names, f"old-{number}")} for number in range(300)]
    with repository.engine.begin() as connection:
        connection.execute(insert(invoices), rows)
        connection.execute(insert(provider_blocks), {"bucket": "rates", "blocked_until": NOW})


def plans_of(repository: Repository, question: Callable[[Transaction], object]) -> list[str]:
    """How SQLite means to answer each statement of `question`."""
    statements: list[tuple[str, Any]] = []

    def remember(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith(("SELECT", "UPDATE")):
            statements.append((statement, parameters))

    event.listen(repository.engine, "before_cursor_execute", remember)
    with repository.transaction() as tx:
        question(tx)
    event.remove(repository.engine, "before_cursor_execute", remember)
    with repository.engine.connect() as connection:
        return [
            "\n".join(str(row) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters))
            for statement, parameters in statements
        ]
