"""Webhook endpoints: what each receives, in which order, and that none delays another."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook

from lnpay.deliveries.endpoints import delete_endpoint, update_endpoint
from lnpay.deliveries.owe import owe_marked_invalid
from lnpay.deliveries.send import CLAIM, PAUSES, _send, send_again, send_due, send_due_and_wait
from lnpay.domain.errors import ShopRefused
from lnpay.domain.model import Invoice
from lnpay.domain.states import EndpointForm, EndpointSetter, InvoiceState
from lnpay.invoices.settle import Outcome, call_off, reconcile_invoice
from lnpay.invoices.sweep import Sweep, expire_due, sweep
from lnpay.sandbox.server import wait_until
from tests.databases import migrated_postgres
from tests.endpoint_shop import FOUR, add_endpoint, open_shops
from tests.world import World

A, B = "https://a.test/hook", "https://b.test/hook"
STANDARD, BTCPAY = EndpointForm.STANDARD, EndpointForm.BTCPAY
OPERATOR, KEY = EndpointSetter.OPERATOR, EndpointSetter.KEY


@pytest.fixture(params=["sqlite", "postgresql"])
def any_world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> Iterator[World]:
    """A world over each engine."""
    with ExitStack() as stack:
        changes: dict[str, Any] = {}
        if request.param == "postgresql":
            changes["database_url"] = stack.enter_context(migrated_postgres(request.getfixturevalue("postgres_server")))
        yield make_world(**changes)


def settle(world: World, invoice: Invoice) -> Outcome:
    return reconcile_invoice(world.backend.settlement, invoice.strike_invoice_id)


def paid_order(world: World, **fields: Any) -> Invoice:
    invoice = world.sell(**fields)
    world.pay(invoice)
    assert settle(world, invoice) is Outcome.SETTLED
    return invoice


def expire_unseen(world: World) -> Invoice:
    """An invoice that was paid in time and expired here, because Strike did not show its payment."""
    invoice = world.sell()
    world.pay(invoice)
    world.wait(200)
    world.backend.strike.measure_time()
    blind = Sweep(
        world.backend.clock(), world.backend.strike.time.steady(), since=invoice.issue.opened_at - timedelta(1)
    )
    assert expire_due(world.backend.sweep_settlement, blind) == 1
    return invoice


def expire(world: World) -> Invoice:
    """An invoice that was not paid in time."""
    invoice = world.sell(ln_address="alice@example.com")
    world.wait(200)
    expire_due(world.backend.sweep_settlement, sweep(world.backend.sweep_settlement, lambda: 0))
    assert world.invoice(invoice.strike_invoice_id).state is InvoiceState.EXPIRED
    return invoice


def states(world: World, invoice: Invoice) -> list[tuple[str, str]]:
    return [(one.event_type, str(one.state)) for one in world.deliveries(invoice) if one.endpoint_id is not None]


def drain(world: World, until_hours: float = 80) -> None:
    """Let time pass, from one moment at which a message is due to the next."""
    end = world.backend.clock() + timedelta(hours=until_hours)
    while True:
        send_due(world.backend.outbox)
        with world.backend.repository.reading() as tx:
            due_at = tx.deliveries.next_due_at()
        if due_at is None or due_at > end:
            return
        world.wait(max(0.0, (due_at - world.backend.clock()).total_seconds()))


class TestWhatIsTold:
    def test_an_order_that_is_paid_in_time_is_reported_by_four_events_in_order(self, any_world: World) -> None:
        shops = open_shops(any_world)
        add_endpoint(any_world, A)

        paid_order(any_world)
        send_due(any_world.backend.outbox)

        assert shops.types(A) == ["InvoiceCreated", *FOUR]
        assert len(any_world.told()) == 1

    def test_an_endpoint_receives_only_what_it_asked_for(self, world: World) -> None:
        shops = open_shops(world)
        add_endpoint(world, A, events=["InvoiceSettled", "InvoicePaidAfterExpiration"])
        add_endpoint(world, B, STANDARD, events=["invoice.expired"])

        paid_order(world)
        send_due(world.backend.outbox)

        assert (shops.types(A), shops.types(B)) == (["InvoiceSettled"], [])

    def test_an_endpoint_of_the_standard_form_receives_every_event_of_the_hook(self, world: World) -> None:
        """Regardless of DELIVERY_EVENTS, which is for the hook."""
        shops = open_shops(world)
        add_endpoint(world, A, STANDARD)

        expired = expire(world)
        world.pay(expired)
        settle(world, expired)
        send_due(world.backend.outbox)

        assert shops.types(A) == ["invoice.expired", "invoice.paid_late"]
        assert world.told() == []

    @pytest.mark.parametrize("is_expired_first", [True, False])
    def test_a_late_payment_is_reported_only_as_the_end_of_the_invoice(
        self, any_world: World, is_expired_first: bool
    ) -> None:
        """Plugins ship on PaidLate, and LNPay refunds it."""
        shops = open_shops(any_world)
        add_endpoint(any_world, A)
        if is_expired_first:
            invoice = expire(any_world)
            send_due(any_world.backend.outbox)
            any_world.pay(invoice)
        else:
            invoice = any_world.sell(ln_address="alice@example.com")
            any_world.pay(invoice, late_seconds=180)

        assert settle(any_world, invoice) is Outcome.PAID_LATE
        drain(any_world)

        assert shops.types(A) == ["InvoiceCreated", "InvoiceExpired"]
        (expired,) = [body for body in shops.accepted(A) if body["type"] == "InvoiceExpired"]
        assert expired["partiallyPaid"] is False

    def test_an_invoice_that_the_shop_marked_invalid_is_reported_once_as_invalid(self, world: World) -> None:
        shops = open_shops(world)
        add_endpoint(world, A)
        add_endpoint(world, B, STANDARD)
        invoice = world.sell()

        with world.backend.repository.transaction() as tx:
            assert owe_marked_invalid(tx, invoice, world.backend.clock())
            assert call_off(tx, world.backend.settlement.events, invoice, world.backend.clock())
        send_due(world.backend.outbox)

        assert shops.types(A) == ["InvoiceCreated", "InvoiceInvalid"]
        assert shops.accepted(A)[1]["manuallyMarked"] is True
        assert shops.types(B) == ["invoice.expired"]

    def test_nothing_is_owed_to_no_endpoint(self, world: World) -> None:
        invoice = world.sell()

        with world.backend.repository.transaction() as tx:
            assert not owe_marked_invalid(tx, invoice, world.backend.clock())
        assert world.deliveries(invoice) == []

    def test_a_disabled_endpoint_is_owed_nothing_new(self, world: World) -> None:
        add_endpoint(world, A, is_enabled=False)

        assert states(world, paid_order(world)) == []

    def test_the_state_that_a_shop_asks_for_is_that_of_its_own_message(self, world: World) -> None:
        shops = open_shops(world)
        shops.answers[A] = lambda _: 500
        add_endpoint(world, A, STANDARD)
        invoice = paid_order(world)

        send_due(world.backend.outbox)

        answer = world.client.get(f"/invoices/{invoice.strike_invoice_id}").get_json()
        assert answer["delivery"] == {"state": "delivered", "attempts": 1}


EXTRA: dict[str, dict[str, object]] = {
    "InvoiceCreated": {},
    "InvoiceReceivedPayment": {"afterExpiration": False, "paymentMethodId": "BTC-LN"},
    "InvoiceProcessing": {"overPaid": False},
    "InvoicePaymentSettled": {"afterExpiration": False, "paymentMethodId": "BTC-LN"},
    "InvoiceSettled": {"manuallyMarked": False, "overPaid": False},
}


class TestSending:
    def test_an_event_is_owed_once_to_the_hook_and_to_each_endpoint(self, any_world: World) -> None:
        ids = [None, *(add_endpoint(any_world, url).id for url in (A, B))]
        invoice = any_world.sell()
        now = any_world.backend.clock()

        with any_world.backend.repository.transaction() as tx:
            added = [
                tx.deliveries.add(invoice.id, "an event", f"msg_{place}", "{}", now, endpoint_id=endpoint_id)
                for place, endpoint_id in enumerate([*ids, *ids])
            ]

        assert added == [True] * 3 + [False] * 3

    def test_the_server_sends_what_a_new_invoice_owes_at_once(self, world: World) -> None:
        shops = open_shops(world)
        add_endpoint(world, A)
        dispatcher = world.backend.delivery_dispatcher
        dispatcher.start()
        try:
            time.sleep(0.5)  # its first round is over, and the next would come half a minute later
            world.sell()
            assert wait_until(lambda: shops.types(A) == ["InvoiceCreated"], seconds=10)
        finally:
            world.backend.stop.set()
            dispatcher.join()


class TestMessages:
    def test_every_field_that_plugins_read_is_there(self, world: World) -> None:
        shops = open_shops(world)
        endpoint = add_endpoint(world, A)
        invoice = paid_order(world, metadata={"orderId": "17", "note": "Grüße"})

        send_due(world.backend.outbox)

        with world.backend.repository.reading() as tx:
            store_id = tx.installation.store_id()
        for body in shops.accepted(A):
            delivery_id = body["deliveryId"]
            payment = {"payment": body["payment"]} if "payment" in body else {}
            assert body == {
                "deliveryId": delivery_id,
                "webhookId": endpoint.public_id,
                "originalDeliveryId": delivery_id,
                "isRedelivery": False,
                "type": body["type"],
                "timestamp": int(invoice.created_at.timestamp()),
                "storeId": store_id,
                "invoiceId": invoice.strike_invoice_id,
                "metadata": {"orderId": "17", "note": "Grüße"},
                **EXTRA[body["type"]],
                **payment,
            }
        assert store_id
        assert len({body["deliveryId"] for body in shops.accepted(A)}) == 5

    def test_the_payment_is_the_one_that_was_made(self, world: World) -> None:
        shops = open_shops(world)
        add_endpoint(world, A, events=["InvoicePaymentSettled"])
        invoice = paid_order(world)
        world.wait(50)

        send_due(world.backend.outbox)

        paid_at = world.invoice(invoice.strike_invoice_id).paid_at
        assert paid_at is not None
        assert shops.accepted(A)[0]["payment"] == {
            "id": invoice.issue.payment_hash,
            "receivedDate": int(paid_at.timestamp()),
            "value": f"0.{invoice.amount_sats:08d}",
            "fee": "0",
            "status": "Settled",
            "destination": invoice.issue.bolt11,
        }

    def test_the_form_of_btcpay_signs_the_exact_bytes(self, world: World) -> None:
        shops = open_shops(world)
        add_endpoint(world, A, secret="a secret ü", events=["InvoiceSettled"])
        paid_order(world)

        send_due(world.backend.outbox)

        (call,) = shops.calls
        digest = hmac.new("a secret ü".encode(), call.content, hashlib.sha256).hexdigest()
        assert call.headers["BTCPay-Sig"] == f"sha256={digest}"
        assert call.headers["Content-Type"] == "application/json"

    def test_the_standard_form_signs_with_the_endpoints_own_secret(self, world: World) -> None:
        shops = open_shops(world)
        endpoint = add_endpoint(world, A, STANDARD)
        paid_order(world)

        send_due(world.backend.outbox)

        (call,) = shops.calls
        verifier = Webhook(endpoint.secret)
        signature = verifier.sign(call.headers["webhook-id"], world.backend.clock(), call.content.decode())
        assert call.headers["webhook-signature"] == signature
        assert call.body["type"] == "invoice.settled"

    def test_an_attempt_repeats_the_bytes_and_ids_of_the_one_before(self, world: World) -> None:
        shops = open_shops(world)
        answers = iter([500, 200])
        shops.answers[A] = lambda _: next(answers)
        add_endpoint(world, A, events=["InvoiceSettled"])
        paid_order(world)

        drain(world)

        first, second = shops.calls
        assert (first.content, first.headers["webhook-id"]) == (second.content, second.headers["webhook-id"])


class TestOrder:
    @pytest.mark.parametrize("seed", range(3))
    def test_four_events_arrive_in_order_at_endpoints_that_answer_500_now_and_then(
        self, any_world: World, seed: int
    ) -> None:
        world, shops, chance = any_world, open_shops(any_world), random.Random(seed)
        for url in (A, B):
            shops.answers[url] = lambda _: 500 if chance.random() < 0.5 else 200
            add_endpoint(world, url)
        for _ in range(4):
            paid_order(world)

        drain(world)

        for url in (A, B):
            assert list(shops.by_invoice(url).values()) == [["InvoiceCreated", *FOUR]] * 4

    def test_an_event_waits_for_the_one_before_it_alone(self, world: World) -> None:
        """Not for that of another order, and not after the one before was given up."""
        shops = open_shops(world)
        stubborn = world.sell()
        shops.answers[A] = lambda body: 500 if body["invoiceId"] == stubborn.strike_invoice_id else 200
        add_endpoint(world, A, events=FOUR)
        world.pay(stubborn)
        settle(world, stubborn)
        other = paid_order(world)

        send_due(world.backend.outbox)
        assert shops.by_invoice(A) == {other.strike_invoice_id: FOUR}
        assert [one.body["type"] for one in shops.calls if one.status == 500] == [FOUR[0]]

        shops.answers[A] = lambda body: 410 if body["type"] == FOUR[0] else 200
        drain(world)
        assert shops.by_invoice(A)[stubborn.strike_invoice_id] == FOUR[1:]

    def test_one_endpoint_that_is_down_for_three_days_delays_no_other(self, any_world: World) -> None:
        world, shops = any_world, open_shops(any_world)
        is_down = True
        shops.answers[A] = lambda _: 503 if is_down else 200
        add_endpoint(world, A, events=FOUR)
        add_endpoint(world, B, events=FOUR)
        invoices = []
        for day in range(3):
            invoices.append(paid_order(world))
            send_due(world.backend.outbox)
            assert list(shops.by_invoice(B).values()) == [FOUR] * (day + 1)
            world.wait(86_400)
            send_due(world.backend.outbox)
        assert shops.types(A) == []

        is_down = False
        drain(world)

        assert shops.by_invoice(A) == {one.strike_invoice_id: FOUR for one in invoices}
        assert len(shops.types(B)) == 12

    def test_an_endpoint_that_hangs_delays_no_other(self, world: World) -> None:
        """Neither what was owed before, nor what becomes owed while every sender of the other waits."""
        shops = open_shops(world)
        is_answered = threading.Event()

        def hang(_: object) -> int:
            is_answered.wait(30)
            return 200

        shops.answers[A] = hang
        add_endpoint(world, A, events=FOUR)
        add_endpoint(world, B, events=FOUR)
        for _ in range(10):
            paid_order(world)
        sending = threading.Thread(target=send_due, args=(world.backend.outbox,))
        sending.start()
        try:
            assert wait_until(lambda: len(shops.types(B)) == 40, seconds=20)
            # The senders of B end, because nothing is due for it any more.
            time.sleep(0.5)
            paid_order(world)
            assert wait_until(lambda: len(shops.types(B)) == 44, seconds=20)
            assert shops.types(A) == []
        finally:
            is_answered.set()
            sending.join()
        assert list(shops.by_invoice(A).values()) == [FOUR] * 11

    def test_two_processes_at_once_keep_the_order(self, any_world: World) -> None:
        world, shops, chance = any_world, open_shops(any_world), random.Random(7)
        being_told: set[str] = set()
        overlaps: list[str] = []
        lock = threading.Lock()

        def answer(body: dict[str, Any]) -> int:
            with lock:
                if body["invoiceId"] in being_told:
                    overlaps.append(body["invoiceId"])
                being_told.add(body["invoiceId"])
                status = 500 if chance.random() < 0.3 else 200
            with lock:
                being_told.discard(body["invoiceId"])
            return status

        shops.answers[A] = answer
        add_endpoint(world, A)
        for _ in range(6):
            paid_order(world)
        processes = [world.backend, world.neighbour(skew_seconds=0), world.neighbour(skew_seconds=0)]

        for _ in range(40):
            threads = [threading.Thread(target=send_due, args=(one.outbox,)) for one in processes]
            for one in threads:
                one.start()
            for one in threads:
                one.join()
            world.wait(600)

        assert list(shops.by_invoice(A).values()) == [["InvoiceCreated", *FOUR]] * 6
        assert overlaps == []

    @pytest.mark.parametrize("is_taken", [True, False])
    @pytest.mark.parametrize("fatal", range(4))
    def test_a_process_that_is_killed_between_two_events_breaks_no_order(
        self, any_world: World, fatal: int, is_taken: bool
    ) -> None:
        """Before or after the shop has taken one: it is sent again after the claim, and the others only then."""
        world, shops = any_world, open_shops(any_world)
        add_endpoint(world, A, events=FOUR)
        paid_order(world)
        calls: list[str] = []

        def killed(url: str, content: bytes, headers: Any) -> int:
            calls.append(json.loads(content)["type"])
            if len(calls) == fatal + 1:
                if is_taken:
                    shops(url, content, headers)
                raise Killed
            return shops(url, content, headers)

        world.endpoint = killed
        with suppress(Killed):
            send_due(world.backend.outbox, senders=1)
        world.restart()
        assert send_due(world.backend.outbox)["delivered"] == 0

        world.wait(CLAIM.total_seconds())
        send_due(world.backend.outbox)

        repeated = [FOUR[fatal]] if is_taken else []
        assert shops.types(A) == [*FOUR[:fatal], *repeated, *FOUR[fatal:]]

    def test_sending_again_keeps_the_order(self, world: World) -> None:
        shops = open_shops(world)
        add_endpoint(world, A, events=FOUR)
        invoice = paid_order(world)
        send_due(world.backend.outbox)

        send_again(world.backend.repository, invoice.strike_invoice_id, world.backend.clock())
        send_due(world.backend.outbox)

        assert shops.types(A) == FOUR * 2


class Killed(BaseException):
    """The process ended in the middle."""


class TestWithdrawing:
    def test_an_expiry_that_waits_is_withdrawn_for_every_endpoint(self, any_world: World) -> None:
        world, shops = any_world, open_shops(any_world)
        shops.answers.update(dict.fromkeys((A, B), lambda body: 500 if "xpired" in body["type"] else 200))
        add_endpoint(world, A)
        add_endpoint(world, B, STANDARD)
        invoice = expire_unseen(world)
        send_due(world.backend.outbox)

        assert settle(world, invoice) is Outcome.SETTLED
        assert {state for name, state in states(world, invoice) if "xpired" in name} == {"withdrawn"}
        drain(world)

        assert (shops.types(A), shops.types(B)) == (["InvoiceCreated", *FOUR], ["invoice.settled"])

    @pytest.mark.parametrize("is_taken", [True, False])
    def test_an_expiry_that_is_being_sent_arrives_before_the_payment(self, any_world: World, is_taken: bool) -> None:
        world, shops = any_world, open_shops(any_world)
        add_endpoint(world, A, events=["InvoiceExpired", *FOUR])
        invoice = expire_unseen(world)

        def settles_meanwhile(url: str, content: bytes, headers: Any) -> int:
            if json.loads(content)["type"] == "InvoiceExpired":
                settle(world, invoice)
                send_due(world.neighbour(skew_seconds=0).outbox)
                if not is_taken:
                    raise ShopRefused("the endpoint could not be reached")
            return shops(url, content, headers)

        world.endpoint = settles_meanwhile
        send_due(world.backend.outbox)
        assert FOUR[0] not in shops.types(A)

        world.wait(CLAIM.total_seconds())
        drain(world)
        assert shops.types(A) == [*(["InvoiceExpired"] if is_taken else []), *FOUR]

    def test_an_invalid_mark_that_a_payment_overtook_is_withdrawn(self, world: World) -> None:
        shops = open_shops(world)
        add_endpoint(world, A, events=["InvoiceInvalid", *FOUR])
        invoice = world.sell()
        with world.backend.repository.transaction() as tx:
            owe_marked_invalid(tx, invoice, world.backend.clock())
        world.pay(invoice)

        settle(world, invoice)
        drain(world)

        assert shops.types(A) == FOUR

    def test_sending_again_repeats_no_expiry_of_a_sale(self, world: World) -> None:
        shops = open_shops(world)
        add_endpoint(world, A, events=["InvoiceExpired", "InvoiceSettled"])
        invoice = expire_unseen(world)
        send_due(world.backend.outbox)
        settle(world, invoice)
        send_due(world.backend.outbox)

        send_again(world.backend.repository, invoice.strike_invoice_id, world.backend.clock())
        send_due(world.backend.outbox)

        assert shops.types(A) == ["InvoiceExpired", "InvoiceSettled", "InvoiceSettled"]

    def test_what_a_deleted_endpoint_is_owed_is_withdrawn(self, any_world: World) -> None:
        world, shops = any_world, open_shops(any_world)
        endpoint = add_endpoint(world, A, events=["InvoiceSettled"])
        invoice = paid_order(world)

        delete_endpoint(world.backend.outbox, endpoint.public_id)
        send_due(world.backend.outbox)

        assert states(world, invoice) == [("InvoiceSettled", "withdrawn")]
        assert shops.calls == []
        assert states(world, paid_order(world)) == []

    def test_a_message_whose_endpoint_is_deleted_at_this_moment_is_not_sent(self, world: World) -> None:
        """Its secret is gone: it would be sent unsigned."""
        shops = open_shops(world)
        endpoint = add_endpoint(world, A, events=["InvoiceSettled"])
        paid_order(world)
        outbox, repository = world.backend.outbox, world.backend.repository
        with repository.reading() as tx:
            (delivery,) = [one for one in tx.deliveries.due(outbox.clock(), 9) if one.endpoint_id is not None]
        with repository.transaction() as tx:
            tx.deliveries.claim(delivery, outbox.clock() + CLAIM)

        delete_endpoint(outbox, endpoint.public_id)

        assert _send(outbox, delivery) == "withdrawn"
        assert shops.calls == []


class TestFailing:
    def test_a_pass_does_not_wait_for_a_claim_that_a_disabled_endpoint_left_behind(self, world: World) -> None:
        endpoint = add_endpoint(world, A, events=["InvoiceSettled"])
        invoice = paid_order(world)
        outbox, repository = world.backend.outbox, world.backend.repository
        (delivery,) = [one for one in world.deliveries(invoice) if one.endpoint_id is not None]
        with repository.transaction() as tx:
            tx.deliveries.claim(delivery, outbox.clock() + CLAIM)
        update_endpoint(outbox, endpoint.public_id, by=OPERATOR, is_enabled=False)

        def wait(_: float) -> None:
            raise AssertionError("waited for an endpoint that is disabled")

        assert send_due_and_wait(outbox, sleep=wait)["delivered"] == 1

    def test_what_waits_for_a_disabled_endpoint_is_sent_once_it_is_enabled(self, any_world: World) -> None:
        world, shops = any_world, open_shops(any_world)
        endpoint = add_endpoint(world, A, events=FOUR)
        paid_order(world)
        update_endpoint(world.backend.outbox, endpoint.public_id, by=OPERATOR, is_enabled=False)
        drain(world)
        assert shops.calls == []

        update_endpoint(world.backend.outbox, endpoint.public_id, by=OPERATOR, is_enabled=True)
        send_due(world.backend.outbox)

        assert shops.types(A) == FOUR

    def test_without_automatic_redelivery_one_refusal_is_the_end(self, world: World) -> None:
        shops = open_shops(world)
        shops.answers[A] = lambda body: 500 if body["type"] == FOUR[0] else 200
        add_endpoint(world, A, events=FOUR, automatic_redelivery=False)
        invoice = paid_order(world)

        send_due(world.backend.outbox)

        assert states(world, invoice) == [(FOUR[0], "abandoned"), *((name, "delivered") for name in FOUR[1:])]

    def test_it_is_tried_for_as_long_as_the_hook(self, world: World) -> None:
        shops = open_shops(world)
        shops.answers[A] = lambda _: 404
        add_endpoint(world, A, events=["InvoiceSettled"])
        invoice = paid_order(world)

        drain(world, until_hours=200)

        assert len(shops.calls) == len(PAUSES) + 1
        assert states(world, invoice) == [("InvoiceSettled", "abandoned")]

    def test_the_last_answer_is_kept(self, world: World) -> None:
        shops = open_shops(world)
        endpoint = add_endpoint(world, A, events=["InvoiceSettled"])

        def last() -> tuple[int | None, str | None]:
            with world.backend.repository.reading() as tx:
                found = tx.webhook_endpoints.find(endpoint.id)
            assert found is not None
            assert found.last_answer_at == world.backend.clock()
            return found.last_status, found.last_error

        shops.answers[A] = lambda _: 500
        paid_order(world)
        send_due(world.backend.outbox)
        assert last() == (500, "the shop answered 500")

        world.wait(100)
        shops.answers[A] = refuse
        send_due(world.backend.outbox)
        assert last() == (None, "the endpoint could not be reached")

        world.wait(100)
        del shops.answers[A]
        send_due(world.backend.outbox)
        assert last() == (200, None)


def refuse(_: object) -> int:
    raise ShopRefused("the endpoint could not be reached")
