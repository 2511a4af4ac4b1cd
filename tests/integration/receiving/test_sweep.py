"""Many receive requests are read in one call, in whichever form Strike takes; none ends while a payment is hidden."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from lnpay.domain.errors import Stopping
from lnpay.domain.model import Invoice
from lnpay.domain.receives import ReceiveWith
from lnpay.domain.states import InvoiceState
from lnpay.invoices import receive_sweep
from lnpay.invoices.receive_sweep import MAX_PAGES
from lnpay.invoices.receives import reconcile_request
from lnpay.invoices.sweep import sweep
from lnpay.runtime.worker_passes import expired_pass, main_pass
from lnpay.strike.receive_requests import ArrayForm
from tests.integration.receiving.conftest import Open
from tests.integration.receiving.test_receives import pay, receives_of
from tests.world import World

LIST = "/v1/receive-requests/receives"


@pytest.fixture
def world(make_world: Open) -> World:
    return make_world(receive_with=ReceiveWith.RECEIVE_REQUEST)


def state_of(world: World, invoice: Invoice) -> InvoiceState:
    return world.invoice(invoice.strike_invoice_id).state


def lists(world: World) -> list[str]:
    return world.calls(f"GET {LIST}?")


def singles(world: World) -> list[str]:
    """Calls about one request, each page of its payments counted."""
    return [one for one in world.calls("GET /v1/receive-requests/") if not one.startswith(f"GET {LIST}?")]


def sell(world: World, count: int) -> list[Invoice]:
    return [world.sell(correlation_id=f"order-{world.count_rows()}-{number}") for number in range(count)]


def proofs(world: World) -> list[str]:
    with world.backend.repository.reading() as tx:
        return [form for form in ("comma", "repeated") if tx.limits.milestone(f"receives_by_{form}") is not None]


class TestForms:
    @pytest.mark.parametrize(
        ("config", "lists_read"),
        [
            ({}, 1),
            ({"array_filters": "comma"}, 1),
            ({"array_filters": "repeated"}, 2),
            ({"array_filters": "repeated", "array_refusal_status": 422}, 2),
            ({"array_filters": "repeated", "unknown_array_form": "narrow"}, None),
            ({"array_filters": "ignored"}, None),
            ({"array_filters": "refused"}, None),
            ({"filter_policy": "block_all"}, None),
            ({"most_query_bytes": 60}, None),
        ],
    )
    def test_payments_are_found_in_every_form_and_nothing_unpaid_ends_falsely(
        self, world: World, config: dict[str, Any], lists_read: int | None
    ) -> None:
        world.simulator.config.update(config)
        stranger = world.backend.strike.receive_requests.create(1_000, None, 600, "BTC")
        world.simulator.pay_invoice(stranger.bolt11)
        first, unpaid, last = sell(world, 3)
        for one in (first, last):
            pay(world, one)

        main_pass(world.backend)

        if lists_read is not None:
            assert len(lists(world)) == lists_read
            assert [state_of(world, one) for one in (first, last)] == [InvoiceState.SETTLED] * 2
        world.wait(600)
        for _ in range(3):
            main_pass(world.backend)
            world.wait(61)
        assert [state_of(world, one) for one in (first, unpaid, last)] == [
            InvoiceState.SETTLED, InvoiceState.EXPIRED, InvoiceState.SETTLED,
        ]  # fmt: skip

    def test_a_form_that_has_shown_two_payments_is_tried_first(self, world: World) -> None:
        world.simulator.config.update({"array_filters": "repeated"})
        for one in sell(world, 2):
            pay(world, one)
        main_pass(world.backend)
        assert proofs(world) == ["repeated"]
        before = len(lists(world))
        sell(world, 2)

        main_pass(world.backend)

        assert len(lists(world)) == before + 1

    def test_a_form_stays_proven_only_while_it_works(self, world: World) -> None:
        for hours in (0, 1, 23, 13, 30):
            world.wait(hours * 3_600)
            for one in sell(world, 2):
                pay(world, one)
            main_pass(world.backend)
            form = ArrayForm.COMMA
            assert receive_sweep._is_proven(world.backend.settlement, form, world.backend.clock()), hours

    def test_an_empty_answer_of_an_unproven_form_ends_nothing_before_a_single_read(self, world: World) -> None:
        (invoice,) = sell(world, 1)
        world.wait(600)

        main_pass(world.backend)

        assert len(singles(world)) == 1
        assert state_of(world, invoice) is InvoiceState.EXPIRED

    def test_known_payments_prove_a_form_so_that_many_end_without_single_reads(self, world: World) -> None:
        for one in sell(world, 2):
            pay(world, one)
            main_pass(world.backend)  # one at a time, which proves nothing
        assert proofs(world) == []
        world.wait(5 * 3_600)  # the paid ones are not asked about any more
        many = sell(world, 4)
        world.wait(600)
        main_pass(world.backend)
        assert "comma" in proofs(world)
        before = len(singles(world))
        more = sell(world, 4)
        world.wait(600)
        main_pass(world.backend)

        assert len(singles(world)) == before
        assert {state_of(world, one) for one in more} == {InvoiceState.EXPIRED}
        assert {state_of(world, one) for one in many} <= {InvoiceState.EXPIRED, InvoiceState.LAPSED}

    def test_a_form_that_is_refused_only_when_it_would_be_proven_proves_nothing(self, world: World) -> None:
        for one in sell(world, 2):
            pay(world, one)
            main_pass(world.backend)
        world.wait(8 * 86_400)
        (invoice,) = sell(world, 1)
        world.wait(600)
        world.fault("GET", LIST, "error", status=400, skip=1, times=None)

        main_pass(world.backend)

        assert proofs(world) == []
        assert state_of(world, invoice) is InvoiceState.EXPIRED
        assert len(singles(world)) == 1


class TestPages:
    def test_more_payments_than_one_page_holds_are_all_counted(self, world: World) -> None:
        first, second = sell(world, 2)
        for number in range(105):
            pay(world, first if number % 2 else second, 100)

        main_pass(world.backend)

        assert len(receives_of(world, first)) + len(receives_of(world, second)) == 105

    def test_pages_may_be_shorter_than_asked_for(self, world: World) -> None:
        (invoice,) = sell(world, 1)
        for _ in range(5):
            pay(world, invoice, 100)
        real = world.backend.sweep_settlement.strike._call

        def call(method: str, path: str, *more: Any, **options: Any) -> object:
            if path == "/receive-requests/receives":
                options["params"] = {**options["params"], "$top": "2"}
            return real(method, path, *more, **options)

        world.backend.sweep_settlement.strike.receive_requests._call = call

        main_pass(world.backend)

        assert len(receives_of(world, invoice)) == 5

    @pytest.mark.parametrize("is_count_unknown", [False, True])
    def test_more_payments_of_one_request_than_a_page_holds_are_all_counted_by_single_reads(
        self, world: World, is_count_unknown: bool
    ) -> None:
        world.simulator.config.update({"array_filters": "refused", "is_count_unknown": is_count_unknown})
        (invoice,) = sell(world, 1)
        for _ in range(119):
            pay(world, invoice, 100)
        pay(world, invoice)

        main_pass(world.backend)

        assert len(receives_of(world, invoice)) == 120
        assert state_of(world, invoice) is InvoiceState.SETTLED
        assert len(singles(world)) <= 3

    def test_a_flood_of_small_payments_costs_few_calls_and_holds_up_no_other_invoice(self, world: World) -> None:
        for one in sell(world, 2):
            pay(world, one)
        main_pass(world.backend)
        assert proofs(world) == ["comma"]
        flooded, unpaid = sell(world, 2)
        pay(world, flooded, flooded.amount_sats - 50)
        for _ in range(MAX_PAGES * 100 + 50):
            pay(world, flooded, 1)
        (paid,) = sell(world, 1)
        pay(world, paid)
        before = len(lists(world))

        main_pass(world.backend)
        assert len(lists(world)) - before == MAX_PAGES
        assert state_of(world, paid) is InvoiceState.SETTLED
        world.wait(600)
        main_pass(world.backend)

        assert state_of(world, unpaid) is InvoiceState.EXPIRED
        assert state_of(world, flooded) is InvoiceState.SETTLED
        assert len(receives_of(world, flooded)) == MAX_PAGES * 100 + 51

    def test_pages_that_repeat_are_refused_instead_of_read_for_good(self, world: World) -> None:
        (invoice,) = sell(world, 1)
        for _ in range(100):
            pay(world, invoice, 100)
        page = world.session.get(
            f"http://provider.test{LIST}", params={"$top": "100"}, headers={"Authorization": "Bearer key"}
        ).json()["items"]
        world.fault("GET", LIST, "field_changed", field="items", value=page, times=None)

        main_pass(world.backend)

        assert len(lists(world)) == 1 + 4  # two pages in each form
        assert len(singles(world)) == 2  # two pages of its own

    def test_a_row_that_names_no_request_makes_the_list_useless(self, world: World) -> None:
        (invoice,) = sell(world, 1)
        pay(world, invoice)
        world.fault("GET", LIST, "field_missing", field="items.0.receiveRequestId", times=2)

        main_pass(world.backend)

        assert len(lists(world)) == 2
        assert state_of(world, invoice) is InvoiceState.SETTLED

    def test_an_unreadable_row_leaves_its_own_invoice_open_and_no_other(self, world: World) -> None:
        first, odd = sell(world, 2)
        for one in (first, odd):
            pay(world, one)
        world.fault("GET", LIST, "field_changed", field="items.0.state", value="REVERSED", times=None)
        world.fault(
            "GET", "/v1/receive-requests/*", "field_changed", field="items.0.state", value="REVERSED", times=None
        )
        main_pass(world.backend)
        world.wait(600)
        main_pass(world.backend)

        assert state_of(world, first) is InvoiceState.SETTLED
        assert state_of(world, odd) is InvoiceState.UNPAID

    def test_a_second_payment_is_found_although_no_form_is_proven(self, world: World) -> None:
        world.simulator.config.update({"array_filters": "repeated", "unknown_array_form": "narrow"})
        (first,) = sell(world, 1)
        pay(world, first)
        main_pass(world.backend)
        sell(world, 1)
        pay(world, first)
        world.wait(61)

        main_pass(world.backend)

        with world.backend.repository.reading() as tx:
            assert len(tx.receives.of(first.id)) == 2

    def test_second_payments_beyond_the_single_reads_of_a_pass_are_found_later(self, world: World) -> None:
        world.simulator.config.update({"array_filters": "repeated", "unknown_array_form": "narrow"})
        invoices = sell(world, 12)
        for one in invoices:
            pay(world, one)
            reconcile_request(world.backend.settlement, one.strike_invoice_id)
            pay(world, one)
        world.wait(2 * 86_400)

        for _ in range(3):
            sweep(world.backend.sweep_settlement, lambda: 0, is_deep=True)
            world.wait(3_700)

        assert [len(receives_of(world, one)) for one in invoices] == [2] * 12


class TestFailures:
    @pytest.mark.parametrize("kind", ["unreachable", "rate_limited", "lost_request"])
    def test_a_failure_of_every_call_stops_the_pass_and_the_next_one_continues(self, world: World, kind: str) -> None:
        (invoice,) = sell(world, 1)
        pay(world, invoice)
        world.fault("GET", LIST, kind)

        main_pass(world.backend)
        if kind != "lost_request":
            assert singles(world) == []
        world.wait(3_700)
        main_pass(world.backend)

        assert state_of(world, invoice) is InvoiceState.SETTLED

    def test_a_rejected_key_stops_the_pass(self, world: World) -> None:
        sell(world, 1)
        world.fault("GET", LIST, "error", status=401)

        found = sweep(world.backend.sweep_settlement, lambda: 100)

        assert found.stopped_by is not None
        assert singles(world) == []

    def test_one_invoice_that_fails_does_not_block_the_others(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.ERROR)
        world.simulator.config.update({"array_filters": "refused"})
        first, second = sell(world, 2)
        for one in (first, second):
            pay(world, one)
        world.fault("GET", f"/v1/receive-requests/{first.strike_invoice_id}/receives", "garbage")

        main_pass(world.backend)

        assert state_of(world, first) is InvoiceState.UNPAID
        assert state_of(world, second) is InvoiceState.SETTLED

    def test_a_shutdown_ends_the_sweep_between_two_calls(self, world: World) -> None:
        sell(world, 1)
        world.backend.settlement.stop.set()

        with pytest.raises(Stopping):
            sweep(world.backend.sweep_settlement, lambda: 100)

        assert lists(world) == []

    def test_a_deadline_is_not_ended_while_strikes_time_is_unknown(self, world: World) -> None:
        (invoice,) = sell(world, 1)
        world.wait(600)
        world.restart()
        world.fault("*", "*", "date", value="nonsense", times=None)

        main_pass(world.backend)

        assert state_of(world, invoice) is InvoiceState.UNPAID
        assert singles(world) == []


class TestBudget:
    def test_single_reads_are_bounded_and_the_oldest_come_first(self, world: World) -> None:
        world.simulator.config.update({"array_filters": "refused"})
        invoices = sell(world, 14)

        sweep(world.backend.sweep_settlement, lambda: 0)
        assert len(singles(world)) == receive_sweep.MIN_BATCHES * receive_sweep.SINGLE_READS
        world.wait(1)
        sweep(world.backend.sweep_settlement, lambda: 0)

        read = {one.split("/")[3] for one in singles(world)}
        assert read == {one.strike_invoice_id for one in invoices}

    def test_without_open_requests_no_call_is_made(self, world: World) -> None:
        main_pass(world.backend)
        expired_pass(world.backend)

        assert world.calls("GET /v1/receive-requests") == []
