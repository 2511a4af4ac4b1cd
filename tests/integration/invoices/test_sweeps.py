"""Sweeps: every payment is found, even if the provider refuses calls; nothing ends before the provider was asked."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from lnpay.domain.errors import Stopping, StrikeRejected, StrikeUnavailable
from lnpay.domain.model import Invoice
from lnpay.domain.states import EXPIRE_MARGIN, LAPSE_MARGIN, InvoiceState
from lnpay.invoices.sweep import (
    DEEP_SWEEP_EVERY,
    LAPSED_SWEEP_EVERY,
    MAX_CONSECUTIVE_FAILURES,
    Sweep,
    expire_due,
    lapse_due,
    sweep,
)
from lnpay.sandbox.config import SimulatorConfig
from lnpay.sandbox.strike.models import Money
from lnpay.strike.reading import PAGE_SIZE
from tests.world import World

LIST = "/v1/invoices"
ONE = "/v1/invoices/*"
EXPIRED_AFTER = 120 + EXPIRE_MARGIN.total_seconds()
LAPSED_AFTER = 3600 + LAPSE_MARGIN.total_seconds()


def look(world: World, *, calls_left: int = 1000, is_deep: bool | None = None) -> Sweep:
    return sweep(world.backend.sweep_settlement, lambda: calls_left, is_deep=is_deep)


def end(world: World, found: Sweep) -> tuple[int, int]:
    """How many expired and lapsed."""
    return expire_due(world.backend.sweep_settlement, found), lapse_due(world.backend.sweep_settlement, found)


def state(world: World, invoice: Invoice) -> InvoiceState:
    return world.invoice(invoice.strike_invoice_id).state


def lists(world: World) -> list[str]:
    return world.calls("GET /v1/invoices?")


def single_reads(world: World) -> list[str]:
    return world.calls("GET /v1/invoices/")


def others_sell_and_are_paid(world: World, count: int, *, seconds: float = 0) -> None:
    """Paid invoices of the same account that are none of ours, one every so many seconds."""
    for _ in range(count):
        world.wait(seconds)
        world.simulator.invoices.create(Money(100, "BTC"), None, None).state = "PAID"


@pytest.fixture
def roomy(make_world: Callable[..., World]) -> World:
    """A world whose provider never asks to wait."""
    return make_world(config=SimulatorConfig(rate_limits="off"))


def failed_ids(world: World) -> set[str]:
    """The invoices that were read one by one so far."""
    return {call.split("?")[0].rpartition("/")[2] for call in world.calls("GET /v1/invoices/")}


class TestTheList:
    def test_one_page_tells_of_every_payment(self, world: World) -> None:
        invoices = [world.sell() for _ in range(3)]
        world.pay(invoices[0])
        world.pay(invoices[2])

        found = look(world)

        assert (found.settled, found.failed) == (2, 0)
        assert [state(world, invoice) for invoice in invoices] == ["settled", "unpaid", "settled"]
        assert (len(lists(world)), len(single_reads(world))) == (1, 2)

    def test_the_filter_is_a_lone_comparison_over_the_newest_hundred(self, world: World) -> None:
        world.sell()

        look(world)

        (call,) = lists(world)
        assert call.replace("+", " ") == (
            "GET /v1/invoices?$filter=state eq 'PAID'&$orderby=created desc&$top=100&$skip=0"
        )

    def test_nothing_is_asked_where_nothing_is_watched(self, world: World) -> None:
        found = look(world)

        assert (found.since, world.calls()) == (None, [])

    def test_what_is_settled_is_not_read_again(self, world: World) -> None:
        world.sell()
        world.pay(world.sell())
        look(world)

        look(world)

        assert (len(lists(world)), len(single_reads(world))) == (2, 1)

    def test_a_late_payment_is_counted_as_such(self, world: World) -> None:
        invoice = world.sell()
        world.pay(invoice, late_seconds=300)

        found = look(world)

        assert (found.settled, found.paid_late) == (0, 1)
        assert state(world, invoice) is InvoiceState.PAID_LATE

    @pytest.mark.parametrize(("others", "pages"), [(98, 1), (99, 2), (198, 2), (199, 3), (230, 3)])
    def test_pages_are_read_back_to_our_oldest_invoice(self, roomy: World, others: int, pages: int) -> None:
        invoice = roomy.sell()
        roomy.pay(invoice)
        others_sell_and_are_paid(roomy, others)

        found = look(roomy)

        assert (found.settled, state(roomy, invoice)) == (1, "settled")
        assert len(lists(roomy)) == pages

    def test_pages_older_than_our_oldest_invoice_are_not_read(self, roomy: World) -> None:
        others_sell_and_are_paid(roomy, 2 * PAGE_SIZE)
        roomy.wait(60)
        roomy.pay(roomy.sell())

        assert look(roomy).settled == 1
        assert len(lists(roomy)) == 1

    def test_the_page_after_one_that_ends_at_our_oldest_invoice_is_read(self, roomy: World) -> None:
        """The clock stands still: every invoice is as old as ours."""
        roomy.sell()
        others_sell_and_are_paid(roomy, PAGE_SIZE)

        look(roomy)

        assert len(lists(roomy)) == 2

    def test_an_account_without_a_count_is_read_the_same(self, make_world: Callable[..., World]) -> None:
        world = make_world(config=SimulatorConfig(is_count_unknown=True))
        world.pay(world.sell())

        assert look(world).settled == 1

    def test_the_call_of_many_processes_is_counted_together(self, world: World) -> None:
        world.sell()
        before = world.backend.sweep_budget.remaining()

        look(world)
        world.restart()

        assert world.backend.sweep_budget.remaining() == before - 1


class TestHowDeep:
    def expire(self, world: World, invoice: Invoice) -> None:
        with world.backend.repository.transaction() as tx:
            assert tx.invoices.move(invoice.id, InvoiceState.UNPAID, InvoiceState.EXPIRED)

    def old_and_new(self, world: World) -> tuple[Invoice, Invoice]:
        """An expired invoice that is then paid late, and a newer one that is not paid; many of others between them."""
        old = world.sell()
        self.expire(world, old)
        world.pay(old, late_seconds=200)
        others_sell_and_are_paid(world, PAGE_SIZE)
        world.wait(1)
        return old, world.sell()

    def test_a_shallow_sweep_reads_back_to_the_oldest_unpaid(self, roomy: World) -> None:
        old, new = self.old_and_new(roomy)

        found = look(roomy, is_deep=False)

        assert (found.since, found.paid_late) == (new.issue.opened_at, 0)
        assert (len(lists(roomy)), state(roomy, old)) == (1, "expired")

    def test_a_deep_sweep_reads_back_to_the_oldest_expired(self, roomy: World) -> None:
        old, _ = self.old_and_new(roomy)

        found = look(roomy, is_deep=True)

        assert (found.since, found.paid_late) == (old.issue.opened_at, 1)
        assert (len(lists(roomy)), state(roomy, old)) == (2, "paid_late")

    def test_only_a_deep_sweep_looks_where_nothing_is_unpaid(self, world: World) -> None:
        old = world.sell()
        self.expire(world, old)
        world.pay(old)

        assert look(world, is_deep=False).since is None
        assert look(world, is_deep=True).settled == 1

    def test_deep_sweeps_come_once_a_minute_across_all_processes(self, world: World) -> None:
        self.expire(world, world.sell())
        pause = DEEP_SWEEP_EVERY.total_seconds()

        calls = []
        for seconds in (0, pause - 1, 1, pause / 2, pause / 2):
            world.wait(seconds)
            world.restart()
            look(world)
            calls.append(len(lists(world)))

        assert calls == [1, 1, 2, 2, 3]

    def test_a_deep_sweep_that_did_not_end_is_made_again(self, world: World) -> None:
        self.expire(world, world.sell())
        world.fault("GET", LIST, "unreachable")

        look(world)
        look(world)
        look(world)

        assert len(lists(world)) == 2


class TestWithoutTheList:
    @pytest.mark.parametrize(
        "fault",
        [
            {"kind": "html403"},
            {"kind": "error", "status": 400, "code": "INVALID_DATA_QUERY"},
            {"kind": "error", "status": 500},
            {"kind": "error", "status": 503, "code": "SERVICE_UNAVAILABLE"},
            {"kind": "garbage"},
            {"kind": "truncated"},
            {"kind": "field_missing", "field": "items"},
            {"kind": "field_changed", "field": "items", "value": {}},
        ],
    )
    def test_invoices_are_asked_about_one_by_one(self, world: World, fault: dict[str, Any]) -> None:
        paid, unpaid = world.sell(), world.sell()
        world.pay(paid)
        world.fault("GET", LIST, times=None, **fault)

        found = look(world)

        assert (found.settled, found.looked_at) == (1, {paid.strike_invoice_id, unpaid.strike_invoice_id})
        assert (state(world, paid), found.stopped_by) == ("settled", None)

    def test_an_account_whose_filters_are_all_blocked_still_settles(self, make_world: Callable[..., World]) -> None:
        world = make_world(config=SimulatorConfig(filter_policy="block_all"))
        world.pay(world.sell())

        assert look(world).settled == 1

    def test_a_payment_of_a_cancelled_invoice_is_found_though_filters_are_blocked(
        self, make_world: Callable[..., World]
    ) -> None:
        world = make_world(config=SimulatorConfig(filter_policy="block_all", is_payable_after_cancel=True))
        invoice = world.sell()
        assert look(world, is_deep=True).settled == 0
        world.client.post(f"/invoices/{invoice.strike_invoice_id}/cancel")
        world.pay(invoice)
        other = world.sell()

        assert look(world, is_deep=True).looked_at == {other.strike_invoice_id}
        world.wait(LAPSED_SWEEP_EVERY.total_seconds())
        assert look(world, is_deep=True).settled == 1

    def test_a_pass_uses_a_tenth_of_the_calls_left(self, world: World) -> None:
        for _ in range(7):
            world.sell()
        world.fault("GET", LIST, "html403", times=None)

        found = look(world, calls_left=50)

        assert len(found.looked_at) == len(single_reads(world)) == 5

    def test_the_next_pass_asks_about_the_others(self, world: World) -> None:
        invoices = {world.sell().strike_invoice_id for _ in range(5)}
        world.fault("GET", LIST, "html403", times=None)

        first, second = look(world, calls_left=30), look(world, calls_left=30)

        assert len(first.looked_at) == 3
        assert first.looked_at | second.looked_at == invoices

    def test_without_calls_left_nothing_is_asked(self, world: World) -> None:
        world.sell()
        world.fault("GET", LIST, "html403", times=None)

        found = look(world, calls_left=9)

        assert (found.looked_at, single_reads(world)) == (set(), [])

    def test_an_invoice_that_was_read_alone_may_expire(self, world: World) -> None:
        invoices = [world.sell() for _ in range(3)]
        world.wait(EXPIRED_AFTER + 1)
        world.fault("GET", LIST, "html403", times=None)

        assert end(world, look(world, calls_left=20)) == (2, 0)
        assert sorted(state(world, invoice) for invoice in invoices) == ["expired", "expired", "unpaid"]

    def test_three_that_fail_do_not_hide_the_others_forever(self, world: World) -> None:
        bad = [world.sell() for _ in range(MAX_CONSECUTIVE_FAILURES)]
        good = world.sell()
        world.pay(good)
        world.fault("GET", LIST, "html403", times=None)
        for invoice in bad:
            world.fault("GET", f"/v1/invoices/{invoice.strike_invoice_id}", "error", status=500, times=None)

        first, second = look(world), look(world)

        assert isinstance(first.stopped_by, StrikeUnavailable)
        assert (second.settled, state(world, good)) == (1, "settled")

    def test_a_list_that_ends_before_its_count_clears_nothing(self, roomy: World) -> None:
        oldest = roomy.sell()
        roomy.pay(oldest)
        others_sell_and_are_paid(roomy, PAGE_SIZE)
        roomy.fault("GET", LIST, "field_changed", field="items", value=[], skip=1, times=None)

        found = look(roomy)

        assert (found.since, found.settled, state(roomy, oldest)) == (None, 1, "settled")

    def test_a_wrong_key_is_not_tried_one_by_one(self, world: World) -> None:
        world.sell()
        world.simulator.config.api_keys = {"another": ["*"]}

        found = look(world)

        assert isinstance(found.stopped_by, StrikeRejected)
        assert (found.stopped_by.status, single_reads(world)) == (401, [])

    @pytest.mark.parametrize("kind", ["lost_answer", "timeout_after"])
    def test_a_list_that_does_not_arrive_is_replaced_by_single_reads(self, world: World, kind: str) -> None:
        paid, unpaid = world.sell(), world.sell()
        world.pay(paid)
        world.fault("GET", LIST, kind, times=None)

        found = look(world)

        assert (found.settled, found.since, found.stopped_by) == (1, None, None)
        assert [state(world, one) for one in (paid, unpaid)] == ["settled", "unpaid"]

    def test_a_row_of_ten_megabytes_hides_no_payment(self, world: World) -> None:
        """Another program's row makes each answer larger than LNPay reads."""
        paid = world.sell()
        world.pay(paid)
        world.fault("GET", LIST, "field_changed", field="items.0.description", value="x" * 10_000_000, times=None)

        found = look(world)

        assert (found.settled, found.since, found.stopped_by) == (1, None, None)
        assert state(world, paid) is InvoiceState.SETTLED

    def test_where_nothing_is_answered_one_single_read_shows_it(self, world: World) -> None:
        for _ in range(MAX_CONSECUTIVE_FAILURES + 1):
            world.sell()
        world.fault("GET", "/v1/invoices*", "timeout_after", times=None)

        found = look(world)

        assert isinstance(found.stopped_by, StrikeUnavailable)
        assert (len(lists(world)), len(single_reads(world))) == (1, 1)

    def test_a_provider_that_is_not_reached_is_not_asked_one_by_one(self, world: World) -> None:
        world.sell()
        world.fault("GET", LIST, "unreachable")

        found = look(world)

        assert isinstance(found.stopped_by, StrikeUnavailable)
        assert single_reads(world) == []


ODD_ROWS: list[object] = [
    None,
    "PAID",
    7,
    [],
    {},
    {"amount": {"currency": "BTC"}},
    {"invoiceId": None, "state": "PAID"},
    {"invoiceId": 5, "state": "PAID", "created": "2026-01-01T00:00:00Z"},
    {"invoiceId": "\x00", "state": "PAID", "created": "2026-01-01T00:00:00Z"},
    {"invoiceId": "\ud800"},
    {"invoiceId": "i" * 100_000},
    {"invoiceId": "x", "state": "SHIPPED", "created": "2026-01-01T00:00:00Z"},
    {"invoiceId": "x", "state": ["PAID"], "created": "2026-01-01T00:00:00Z"},
    {"invoiceId": "x", "state": "PAID", "created": "0001-01-01T00:00:00+05:00"},
    {"invoiceId": "x", "state": "PAID", "created": "9999-12-31T23:59:59-05:00"},
    {"invoiceId": "x", "state": "PAID", "created": 10**30},
    {"invoiceId": "x", "state": "PAID", "amount": {"amount": "1e999999999", "currency": "BTC"}},
    {"invoiceId": "x", "state": "PAID", "amount": {"amount": 10**400, "currency": "BTC"}},
]


class TestOddRows:
    """Rows of other programs on the account, or of a version of Strike that we do not know."""

    def with_rows(self, world: World, *rows: object, own: Callable[[dict[str, Any]], object] | None = None) -> None:
        """Put `rows` before those of Strike's list, and change its own rows by `own`."""
        real = world.backend.sweep_settlement.strike._call

        def call(method: str, path: str, *more: Any, **options: Any) -> object:
            answer = real(method, path, *more, **options)
            if path != "/invoices" or not isinstance(answer, dict):
                return answer
            items = answer["items"] if own is None else [own(one) for one in answer["items"]]
            return {**answer, "items": [*rows, *items]}

        world.backend.sweep_settlement.strike._call = call  # type: ignore[method-assign]

    @pytest.mark.parametrize("row", ODD_ROWS)
    def test_an_odd_row_stops_no_payment(self, world: World, row: object) -> None:
        invoices = [world.sell() for _ in range(3)]
        for invoice in invoices:
            world.pay(invoice)
        self.with_rows(world, row)

        found = look(world)

        assert (found.settled, found.failed, found.unreadable, found.stopped_by) == (3, 0, 1, None)

    def test_an_odd_row_of_another_program_lets_unpaid_invoices_expire(self, world: World) -> None:
        invoice = world.sell()
        world.wait(EXPIRED_AFTER + 1)
        self.with_rows(world, {"invoiceId": "x", "amount": {"currency": "BTC"}})

        assert end(world, look(world)) == (1, 0)
        assert single_reads(world) == []
        assert state(world, invoice) is InvoiceState.EXPIRED

    @pytest.mark.parametrize(
        "changes", [{"amount": {"currency": "BTC"}}, {"state": "SHIPPED"}, {"created": "soon"}, {"state": None}]
    )
    def test_an_odd_row_of_ours_is_read_by_its_id(self, world: World, changes: dict[str, Any]) -> None:
        invoice = world.sell()
        world.pay(invoice)
        self.with_rows(world, own=lambda row: {**row, **changes})

        assert look(world).settled == 1
        assert state(world, invoice) is InvoiceState.SETTLED

    def test_a_row_without_an_id_may_be_ours_and_ends_nothing_unread(self, world: World) -> None:
        """Strike shows nothing of our paid row but that there is one."""
        paid, others = world.sell(), [world.sell() for _ in range(2)]
        world.pay(paid)
        world.wait(EXPIRED_AFTER + 1)
        self.with_rows(world, own=lambda row: None)

        found = look(world, calls_left=20)

        assert found.since is None
        assert (found.settled, len(single_reads(world))) == (1, 2)
        assert end(world, found) == (1, 0)
        assert sorted(state(world, one) for one in (paid, *others)) == ["expired", "settled", "unpaid"]

    @pytest.mark.parametrize("created", ["0001-01-01T00:00:00Z", "2020-01-01T00:00:00Z", "soon", None])
    def test_odd_dates_do_not_end_the_list_before_our_payment(self, roomy: World, created: object) -> None:
        """Our payment is on the second page."""
        invoice = roomy.sell()
        roomy.pay(invoice)
        others_sell_and_are_paid(roomy, PAGE_SIZE + 20)
        odd = iter(range(PAGE_SIZE))
        self.with_rows(roomy, own=lambda row: {**row, "created": created} if next(odd, 99) < 40 else row)

        assert look(roomy).settled == 1
        assert state(roomy, invoice) is InvoiceState.SETTLED

    def test_a_page_of_nothing_but_odd_rows_is_not_the_last(self, roomy: World) -> None:
        invoice = roomy.sell()
        roomy.pay(invoice)
        others_sell_and_are_paid(roomy, PAGE_SIZE)
        odd = iter(range(PAGE_SIZE))
        self.with_rows(roomy, own=lambda row: {"invoiceId": row["invoiceId"]} if next(odd, None) is not None else row)

        found = look(roomy)

        assert (found.settled, found.unreadable, len(lists(roomy))) == (1, PAGE_SIZE, 2)

    def test_a_list_that_is_oldest_first_is_read_to_its_end(self, roomy: World) -> None:
        """A provider, or a proxy before it, that takes no notice of $orderby: our payment is on the last page."""
        others_sell_and_are_paid(roomy, PAGE_SIZE + 20, seconds=1)
        invoice = roomy.sell()
        roomy.pay(invoice)
        self.change_list(roomy, **{"$orderby": "created asc"})

        found = look(roomy)

        assert (found.settled, len(lists(roomy)), single_reads(roomy)[1:]) == (1, 2, [])
        assert state(roomy, invoice) is InvoiceState.SETTLED

    def test_a_list_of_short_pages_without_a_count_is_read_to_its_end(self, roomy: World) -> None:
        """A provider that returns fewer rows than asked for, and does not say how many there are."""
        roomy.simulator.config.is_count_unknown = True
        invoice = roomy.sell()
        roomy.pay(invoice)
        others_sell_and_are_paid(roomy, 60, seconds=1)
        self.change_list(roomy, **{"$top": "50"})

        found = look(roomy)

        assert (found.settled, found.since is not None, single_reads(roomy)[1:]) == (1, True, [])
        assert state(roomy, invoice) is InvoiceState.SETTLED

    def test_a_list_in_no_order_is_read_to_its_end(self, roomy: World) -> None:
        others_sell_and_are_paid(roomy, PAGE_SIZE + 20, seconds=1)
        invoice = roomy.sell()
        roomy.pay(invoice)
        real = roomy.backend.sweep_settlement.strike._call

        def call(method: str, path: str, *more: Any, **options: Any) -> object:
            if path != "/invoices":
                return real(method, path, *more, **options)
            pages = [real(method, path, *more, params={**options["params"], "$skip": skip}) for skip in ("0", "100")]
            rows = [row for page in pages if isinstance(page, dict) for row in page["items"]]
            start = int(options["params"]["$skip"])
            # Ours is the newest; 70 has no divisor in common with the number of rows, so each stands there once.
            mixed = [rows[(number + 1) * 70 % len(rows)] for number in range(len(rows))]
            return {"items": mixed[start : start + PAGE_SIZE], "count": len(rows)}

        roomy.backend.sweep_settlement.strike._call = call  # type: ignore[method-assign]

        found = look(roomy)

        assert (found.settled, found.since is not None) == (1, True)
        assert state(roomy, invoice) is InvoiceState.SETTLED

    @pytest.mark.parametrize("most", [1, 40, 99])
    def test_pages_may_be_shorter_than_asked_for(self, roomy: World, most: int) -> None:
        """Strike's largest page has become smaller, so a short page is not the last."""
        invoice = roomy.sell()
        roomy.pay(invoice)
        others_sell_and_are_paid(roomy, 3 if most == 1 else PAGE_SIZE)
        self.change_list(roomy, **{"$top": str(most)})

        found = look(roomy)

        assert (found.settled, found.since is not None, found.stopped_by) == (1, True, None)
        assert state(roomy, invoice) is InvoiceState.SETTLED

    @pytest.mark.parametrize("count", [0, -1, 3, 10**30, "many", None, True, 2.5])
    def test_a_count_that_is_wrong_hides_no_payment(self, roomy: World, count: object) -> None:
        invoice = roomy.sell()
        roomy.pay(invoice)
        others_sell_and_are_paid(roomy, PAGE_SIZE)
        roomy.fault("GET", LIST, "field_changed", field="count", value=count, times=None)

        found = look(roomy)

        assert (found.settled, found.since is not None, found.stopped_by) == (1, True, None)
        assert state(roomy, invoice) is InvoiceState.SETTLED

    def change_list(self, world: World, **params: str) -> None:
        """Have Strike take no notice of what is asked of its list, but do `params`."""
        real = world.backend.sweep_settlement.strike._call

        def call(method: str, path: str, *more: Any, **options: Any) -> object:
            if path == "/invoices":
                options["params"] = {**options["params"], **params}
            return real(method, path, *more, **options)

        world.backend.sweep_settlement.strike._call = call  # type: ignore[method-assign]

    def test_a_list_without_an_end_is_replaced_by_single_reads(
        self, roomy: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every page is full of invoices that are new to LNPay."""
        monkeypatch.setattr("lnpay.invoices.sweep.MOST_PAGES", 3)
        invoice = roomy.sell()
        roomy.pay(invoice)
        numbers = count()
        real = roomy.backend.sweep_settlement.strike._call

        def call(method: str, path: str, *more: Any, **options: Any) -> object:
            answer = real(method, path, *more, **options)
            rows = [{"invoiceId": f"foreign-{next(numbers)}"} for _ in range(PAGE_SIZE)]
            return {"items": rows} if path == "/invoices" else answer

        roomy.backend.sweep_settlement.strike._call = call  # type: ignore[method-assign]

        found = look(roomy)

        assert (found.settled, len(lists(roomy)), found.since) == (1, 3, None)
        assert state(roomy, invoice) is InvoiceState.SETTLED

    def test_a_list_that_repeats_itself_is_replaced_by_single_reads(self, roomy: World) -> None:
        """A provider, or a cache before it, that takes no notice of $skip."""
        invoice = roomy.sell()
        roomy.pay(invoice)
        others_sell_and_are_paid(roomy, PAGE_SIZE)
        real = roomy.backend.sweep_settlement.strike.list_invoices
        roomy.backend.sweep_settlement.strike.list_invoices = (  # type: ignore[method-assign]
            lambda status, skip: real(status, 0 * skip)
        )

        found = look(roomy)

        assert (found.settled, len(lists(roomy)), found.since) == (1, 2, None)

    def test_a_later_page_that_cannot_be_read_is_replaced_by_single_reads(self, roomy: World) -> None:
        invoice = roomy.sell()
        roomy.pay(invoice)
        others_sell_and_are_paid(roomy, PAGE_SIZE)
        roomy.fault("GET", LIST, "garbage", skip=1)

        found = look(roomy)

        assert (found.settled, found.since, found.stopped_by) == (1, None, None)

    def test_pending_rows_without_an_id_keep_what_was_not_read_alone(self, roomy: World) -> None:
        invoice = roomy.sell()
        roomy.wait(EXPIRED_AFTER + 1)
        end(roomy, look(roomy))
        roomy.wait(LAPSED_AFTER)
        pages = iter([[None]])
        real = roomy.backend.sweep_settlement.strike._call

        def call(*arguments: Any, **options: Any) -> object:
            answer = real(*arguments, **options)
            extra = next(pages, []) if arguments[1] == "/invoices" else []
            return {**answer, "items": [*extra, *answer["items"]]} if extra and isinstance(answer, dict) else answer

        roomy.backend.sweep_settlement.strike._call = call  # type: ignore[method-assign]

        assert end(roomy, look(roomy, is_deep=True)) == (0, 0)
        assert end(roomy, look(roomy, is_deep=True)) == (0, 1)
        assert state(roomy, invoice) is InvoiceState.LAPSED


class TestTrouble:
    @pytest.mark.parametrize("kind", ["error", "garbage", "truncated", "unreachable", "timeout_after"])
    def test_one_bad_invoice_does_not_stop_the_rest(self, world: World, kind: str) -> None:
        invoices = [world.sell() for _ in range(4)]
        for invoice in invoices:
            world.pay(invoice)
        bad = invoices[1]
        world.fault("GET", f"/v1/invoices/{bad.strike_invoice_id}", kind)

        found = look(world)

        assert (found.settled, found.failed, found.unclear) == (3, 1, {bad.strike_invoice_id})
        assert look(world).settled == 1

    def test_three_on_the_list_that_fail_do_not_hide_the_others_forever(self, world: World) -> None:
        sold = [world.sell() for _ in range(MAX_CONSECUTIVE_FAILURES + 3)]
        for invoice in sold:
            world.pay(invoice)
        # Those that are read first keep failing, in any order of reading.
        tried = world.fault("GET", ONE, "error", status=500, times=MAX_CONSECUTIVE_FAILURES)
        first = look(world)
        bad = failed_ids(world)
        for one in bad:
            world.fault("GET", f"/v1/invoices/{one}", "error", status=500, times=None)

        second = look(world)

        assert (tried.hits, len(bad), first.settled) == (3, 3, 0)
        assert (second.settled, isinstance(second.stopped_by, StrikeUnavailable)) == (3, True)
        assert {state(world, one) for one in sold if one.strike_invoice_id not in bad} == {"settled"}

    def test_those_that_fail_do_not_hide_the_next_page_nor_keep_others_from_ending(self, roomy: World) -> None:
        older, unpaid = roomy.sell(), roomy.sell()
        roomy.pay(older)
        others_sell_and_are_paid(roomy, PAGE_SIZE)
        bad = [roomy.sell() for _ in range(MAX_CONSECUTIVE_FAILURES + 1)]
        for invoice in bad:
            roomy.pay(invoice)
            roomy.fault("GET", f"/v1/invoices/{invoice.strike_invoice_id}", "error", status=500, times=None)
        roomy.wait(EXPIRED_AFTER + 1)

        found = look(roomy)

        assert (found.settled, found.failed, state(roomy, older)) == (1, MAX_CONSECUTIVE_FAILURES, "settled")
        assert {one.strike_invoice_id for one in bad} <= found.unclear
        assert isinstance(found.stopped_by, StrikeUnavailable)
        assert end(roomy, found) == (1, 0)
        assert (state(roomy, unpaid), {state(roomy, one) for one in bad}) == ("expired", {"unpaid"})

    def test_three_failures_in_a_row_end_a_page(self, world: World) -> None:
        for _ in range(5):
            world.pay(world.sell())
        world.fault("GET", ONE, "error", status=500, times=MAX_CONSECUTIVE_FAILURES)

        found = look(world)

        assert (found.failed, found.settled, len(single_reads(world))) == (
            MAX_CONSECUTIVE_FAILURES,
            0,
            MAX_CONSECUTIVE_FAILURES,
        )
        assert isinstance(found.stopped_by, StrikeUnavailable)

    def test_failures_that_are_not_in_a_row_do_not(self, world: World) -> None:
        for _ in range(6):
            world.pay(world.sell())
        world.fault("GET", ONE, "error", status=500, times=MAX_CONSECUTIVE_FAILURES - 1)
        world.fault("GET", ONE, "error", status=500, times=MAX_CONSECUTIVE_FAILURES - 1, skip=1)

        found = look(world)

        assert found.stopped_by is None
        assert (found.settled, found.failed) == (2, 4)

    @pytest.mark.parametrize(
        "fault",
        [
            {"kind": "error", "status": 404, "code": "NOT_FOUND"},
            {"kind": "field_changed", "field": "state", "value": "SOMETHING_NEW"},
            {"kind": "field_changed", "field": "created", "value": "yesterday"},
            {"kind": "garbage"},
        ],
    )
    def test_many_invalid_invoices_do_not_stop_the_rest(self, world: World, fault: dict[str, Any]) -> None:
        good = world.sell()
        bad = [world.sell() for _ in range(MAX_CONSECUTIVE_FAILURES + 1)]
        for invoice in (good, *bad):
            world.pay(invoice)
        for invoice in bad:
            world.fault("GET", f"/v1/invoices/{invoice.strike_invoice_id}", times=None, **fault)

        found = look(world)

        assert (found.settled, found.failed) == (1, len(bad))
        assert state(world, good) is InvoiceState.SETTLED

    def test_a_bug_of_ours_with_one_invoice_does_not_stop_the_rest(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(MAX_CONSECUTIVE_FAILURES + 2):
            world.pay(world.sell())
        bugs = iter([ZeroDivisionError("a bug")] * (MAX_CONSECUTIVE_FAILURES + 1))
        real = world.backend.sweep_settlement.strike.get_invoice

        def buggy(*arguments: Any, **options: Any) -> Any:
            for bug in bugs:
                raise bug
            return real(*arguments, **options)

        monkeypatch.setattr(world.backend.sweep_settlement.strike, "get_invoice", buggy)

        found = look(world)

        assert (found.failed, found.settled) == (MAX_CONSECUTIVE_FAILURES + 1, 1)

    def test_being_asked_to_wait_ends_the_sweep_at_once(self, world: World) -> None:
        for _ in range(3):
            world.pay(world.sell())
        world.fault("GET", ONE, "rate_limited", seconds=3600)

        found = look(world)

        assert (found.settled, found.failed, len(single_reads(world))) == (0, 1, 1)
        assert found.stopped_by is not None
        assert found.stopped_by.retry_after_seconds == 3600

    def test_after_a_lock_out_no_process_calls_until_it_ends(self, world: World) -> None:
        world.pay(world.sell())
        world.fault("GET", LIST, "rate_limited", seconds=3600)
        look(world)
        made = len(world.calls())
        world.wait(3590)
        world.restart()

        look(world)
        assert len(world.calls()) == made
        world.wait(11)
        assert look(world).settled == 1

    def test_a_key_that_is_withdrawn_in_the_middle_stops_the_sweep(self, world: World) -> None:
        for _ in range(3):
            world.pay(world.sell())
        world.fault("GET", ONE, "error", status=401, code="UNAUTHORIZED")

        found = look(world)

        assert isinstance(found.stopped_by, StrikeRejected)
        assert len(single_reads(world)) == 1

    def test_what_was_found_before_the_trouble_is_kept(self, world: World) -> None:
        for _ in range(3):
            world.pay(world.sell())
        world.fault("GET", ONE, "rate_limited", skip=2)

        assert look(world).settled == 2


class TestStopping:
    def test_a_sweep_ends_after_the_row_in_hand(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        invoices = [world.sell() for _ in range(3)]
        for invoice in invoices:
            world.pay(invoice)
        real = world.backend.sweep_settlement.strike.get_invoice

        def asked_to_end_meanwhile(*arguments: Any, **options: Any) -> Any:
            world.backend.stop.set()
            return real(*arguments, **options)

        monkeypatch.setattr(world.backend.sweep_settlement.strike, "get_invoice", asked_to_end_meanwhile)

        with pytest.raises(Stopping):
            look(world)
        assert sorted(state(world, invoice) for invoice in invoices) == ["settled", "unpaid", "unpaid"]

    def test_nothing_more_expires_once_asked_to_end(self, world: World) -> None:
        invoice = world.sell()
        world.wait(EXPIRED_AFTER + 1)
        found = look(world)
        world.backend.stop.set()

        with pytest.raises(Stopping):
            expire_due(world.backend.sweep_settlement, found)
        assert state(world, invoice) is InvoiceState.UNPAID


class TestExpiring:
    def test_an_invoice_expires_a_little_after_its_time(self, world: World) -> None:
        invoice = world.sell()
        world.wait(EXPIRED_AFTER)

        assert end(world, look(world)) == (0, 0)
        world.wait(0.001)
        assert end(world, look(world)) == (1, 0)
        assert state(world, invoice) is InvoiceState.EXPIRED

    def test_nothing_expires_while_the_provider_cannot_be_asked(self, world: World) -> None:
        invoice = world.sell()
        world.wait(EXPIRED_AFTER + 1)
        world.fault("GET", "/v1/*", "unreachable", times=None)

        assert end(world, look(world)) == (0, 0)
        assert state(world, invoice) is InvoiceState.UNPAID

    def test_a_paid_invoice_that_could_not_be_read_does_not_expire(self, world: World) -> None:
        invoice = world.sell()
        world.pay(invoice)
        world.wait(EXPIRED_AFTER + 1)
        world.fault("GET", ONE, "error", status=500)

        assert end(world, look(world)) == (0, 0)
        assert state(world, invoice) is InvoiceState.UNPAID

    def test_an_invoice_made_after_the_sweep_began_does_not_expire_by_it(self, world: World) -> None:
        world.sell()
        found = look(world)
        invoice = world.sell()
        world.wait(EXPIRED_AFTER + 1)

        assert end(world, found) == (0, 0)
        assert state(world, invoice) is InvoiceState.UNPAID

    def test_a_payment_between_the_sweep_and_the_expiry_wins(self, world: World) -> None:
        invoice = world.sell()
        world.wait(EXPIRED_AFTER + 1)
        found = look(world)
        world.subscribe()
        world.pay(invoice)
        world.pump()

        assert end(world, found) == (0, 0)
        assert state(world, invoice) is InvoiceState.PAID_LATE

    def test_a_payment_that_another_process_settles_meanwhile_wins(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        invoice = world.sell()
        world.pay(invoice)
        look(world)
        monkeypatch.setattr("lnpay.repository.invoices.Invoices.to_expire", lambda *_: [invoice])

        stale = Sweep(world.backend.clock(), world.backend.strike.time.steady(), since=invoice.issue.opened_at)
        assert expire_due(world.backend.sweep_settlement, stale) == 0
        assert state(world, invoice) is InvoiceState.SETTLED

    def test_the_shop_is_notified_if_it_subscribes(self, make_world: Callable[..., World]) -> None:
        world = make_world(delivery_events=frozenset({"invoice.expired"}))
        invoice = world.sell()
        world.wait(EXPIRED_AFTER + 1)

        end(world, look(world))

        assert [delivery.event_type for delivery in world.deliveries(invoice)] == ["invoice.expired"]

    def test_more_than_one_batch_expires_in_one_pass(self, roomy: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lnpay.invoices.sweep.BATCH", 3)
        for _ in range(7):
            roomy.sell()
        roomy.wait(EXPIRED_AFTER + 1)

        assert end(roomy, look(roomy)) == (7, 0)

    def test_an_order_that_never_became_an_invoice_does_not_expire(self, world: World) -> None:
        world.fault("POST", "/v1/invoices/*/quote", "error", status=400)
        assert world.ask().status_code == 502
        world.wait(EXPIRED_AFTER + 1)

        assert end(world, look(world, is_deep=True)) == (0, 0)


class TestLapsing:
    def expired(self, world: World) -> Invoice:
        invoice = world.sell()
        world.wait(EXPIRED_AFTER + 1)
        end(world, look(world))
        assert state(world, invoice) is InvoiceState.EXPIRED
        return invoice

    def test_an_invoice_lapses_well_after_its_payment_request_died(self, world: World) -> None:
        invoice = self.expired(world)
        world.wait(LAPSED_AFTER - EXPIRED_AFTER - 1)

        assert end(world, look(world)) == (0, 0)
        world.wait(0.001)
        assert end(world, look(world, is_deep=True)) == (0, 1)
        assert state(world, invoice) is InvoiceState.LAPSED

    def test_an_invoice_expires_before_it_lapses(self, world: World) -> None:
        invoice = world.sell()
        world.wait(LAPSED_AFTER + 100)

        assert end(world, look(world, is_deep=True)) == (1, 0)
        assert end(world, look(world, is_deep=True)) == (0, 1)
        assert state(world, invoice) is InvoiceState.LAPSED

    def test_a_shallow_sweep_lapses_nothing(self, world: World) -> None:
        invoice = self.expired(world)
        world.wait(LAPSED_AFTER)
        world.sell()

        assert end(world, look(world, is_deep=False)) == (0, 0)
        assert state(world, invoice) is InvoiceState.EXPIRED

    def test_nothing_lapses_while_the_provider_cannot_be_asked(self, world: World) -> None:
        invoice = self.expired(world)
        world.wait(LAPSED_AFTER)
        world.fault("GET", "/v1/*", "unreachable", times=None)

        assert end(world, look(world, is_deep=True)) == (0, 0)
        assert state(world, invoice) is InvoiceState.EXPIRED

    def test_an_invoice_with_a_pending_payment_does_not_lapse(self, world: World) -> None:
        invoice = self.expired(world)
        world.simulator.pay_invoice(invoice.issue.bolt11, pending_seconds=2 * LAPSED_AFTER)
        world.wait(LAPSED_AFTER)

        assert end(world, look(world, is_deep=True)) == (0, 0)
        world.wait(2 * LAPSED_AFTER)
        assert look(world, is_deep=True).paid_late == 1
        assert state(world, invoice) is InvoiceState.PAID_LATE

    def test_an_invoice_with_a_pending_payment_does_not_lapse_though_the_list_is_refused(self, world: World) -> None:
        invoice = self.expired(world)
        world.simulator.pay_invoice(invoice.issue.bolt11, pending_seconds=2 * LAPSED_AFTER)
        world.wait(LAPSED_AFTER)
        world.fault("GET", LIST, "html403", times=None)

        assert end(world, look(world, is_deep=True)) == (0, 0)
        assert state(world, invoice) is InvoiceState.EXPIRED

    def test_money_that_becomes_final_between_two_lists_is_not_lost(self, world: World) -> None:
        """Not on the list of the paid any more or yet, not on that of the pending: it has to be on one of them."""
        invoice = self.expired(world)
        world.simulator.pay_invoice(invoice.issue.bolt11, pending_seconds=LAPSED_AFTER + 2)
        world.wait(LAPSED_AFTER)
        world.fault("GET", LIST, "delay", skip=1, seconds=4)

        end(world, look(world, is_deep=True))
        end(world, look(world, is_deep=True))

        assert state(world, invoice) is InvoiceState.PAID_LATE

    def test_without_the_list_of_the_pending_nothing_lapses(self, world: World) -> None:
        invoice = self.expired(world)
        world.wait(LAPSED_AFTER)
        world.fault("GET", LIST, "html403", times=1)

        assert end(world, look(world, is_deep=True)) == (0, 0)
        assert end(world, look(world, is_deep=True)) == (0, 1)
        assert state(world, invoice) is InvoiceState.LAPSED

    def test_an_invoice_that_was_read_alone_may_lapse(self, world: World) -> None:
        invoice = self.expired(world)
        world.wait(LAPSED_AFTER)
        world.fault("GET", LIST, "html403", times=None)

        assert end(world, look(world, is_deep=True)) == (0, 1)
        assert state(world, invoice) is InvoiceState.LAPSED

    def test_the_shop_is_not_told(self, make_world: Callable[..., World]) -> None:
        world = make_world(delivery_events=frozenset({"invoice.expired"}))
        invoice = self.expired(world)
        world.wait(LAPSED_AFTER)

        end(world, look(world, is_deep=True))

        assert [delivery.event_type for delivery in world.deliveries(invoice)] == ["invoice.expired"]
