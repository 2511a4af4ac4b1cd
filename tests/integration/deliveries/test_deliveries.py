"""Telling the shop: at least once, under one id, for more than three days, and never one order before another."""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from lnpay.deliveries import dispatcher as dispatcher_module
from lnpay.deliveries.send import (
    CLAIM,
    JITTER,
    MAX_REASON_CHARACTERS,
    PAUSES,
    SENDERS,
    Outbox,
    send_again,
    send_due,
    send_due_and_wait,
)
from lnpay.domain.errors import (
    NotFound,
    ShopGone,
    ShopRefused,
    StorageUnavailable,
)
from lnpay.domain.model import Delivery, Event, Invoice
from lnpay.domain.states import DeliveryState
from lnpay.invoices.settle import reconcile_invoice
from lnpay.sandbox.server import wait_until
from tests.world import World

ATTEMPTS = len(PAUSES) + 1
SECRET = "whsec_" + base64.b64encode(b"a key of thirty-two bytes, no more").decode()


def paid_order(world: World) -> Invoice:
    """An invoice whose payment is settled and whose message is owed."""
    invoice = world.sell()
    world.pay(invoice)
    reconcile_invoice(world.backend.settlement, invoice.strike_invoice_id)
    return invoice


def message(world: World, invoice: Invoice) -> Delivery:
    (delivery,) = world.deliveries(invoice)
    return delivery


def without_jitter(world: World) -> Outbox:
    return replace(world.backend.outbox, jitter=lambda: 0.0)


def attempts_ids(world: World) -> list[str]:
    """webhook-id of each attempt that reached the shop."""
    return [header(one.headers, "webhook-id") for one in world.simulator.shop.deliveries]


def header(headers: dict[str, str], name: str) -> str:
    return {key.lower(): value for key, value in headers.items()}[name]


class Killed(BaseException):
    """The process ended in the middle: nothing of ours runs any more."""


class TestSending:
    def test_what_is_owed_is_sent_once(self, world: World) -> None:
        invoice = paid_order(world)

        assert send_due(world.backend.outbox) == Counter(delivered=1)
        assert send_due(world.backend.outbox) == Counter()
        (told,) = world.told()
        assert (told["status"], told["invoice"]) == ("success", invoice.issue.bolt11)

    def test_a_delivered_message_says_when(self, world: World) -> None:
        invoice = paid_order(world)
        world.wait(5)

        send_due(world.backend.outbox)

        delivery = message(world, invoice)
        assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 1)
        assert (delivery.delivered_at, delivery.last_error) == (world.backend.clock(), None)

    def test_many_orders_are_reported_once_each(self, world: World) -> None:
        invoices = [paid_order(world) for _ in range(SENDERS + 3)]

        assert send_due(world.backend.outbox)["delivered"] == len(invoices)
        assert Counter(told["invoice"] for told in world.told()) == Counter(one.issue.bolt11 for one in invoices)

    def test_one_sender_alone_sends_everything_too(self, world: World) -> None:
        for _ in range(3):
            paid_order(world)

        assert send_due(world.backend.outbox, senders=1) == Counter(delivered=3)

    def test_nothing_is_sent_once_asked_to_end(self, world: World) -> None:
        paid_order(world)
        world.backend.stop.set()

        assert send_due(world.backend.outbox) == Counter()

    def test_untried_messages_go_first(self, world: World) -> None:
        old = paid_order(world)
        world.simulator.shop.answer_with(500)
        send_due(without_jitter(world))
        new = paid_order(world)
        world.wait(2)

        send_due(world.backend.outbox, senders=1)

        assert [told["invoice"] for told in world.told()] == [new.issue.bolt11, old.issue.bolt11]

    def test_a_restart_forgets_nothing(self, world: World) -> None:
        paid_order(world)
        world.simulator.shop.answer_with(500)
        send_due(world.backend.outbox)

        world.restart()
        world.wait(3)

        assert send_due(world.backend.outbox) == Counter(delivered=1)


class TestRepeating:
    def test_the_pauses_grow_as_the_table_says(self, world: World) -> None:
        invoice = paid_order(world)
        world.simulator.shop.answer_with(503, None)

        pauses = []
        for _ in PAUSES:
            send_due(without_jitter(world))
            pause = message(world, invoice).next_attempt_at - world.backend.clock()
            pauses.append(pause)
            world.wait(pause.total_seconds() - 0.001)
            assert send_due(without_jitter(world)) == Counter()
            world.wait(0.001)

        assert tuple(pauses) == PAUSES

    def test_the_table_is_what_was_promised(self) -> None:
        assert [pause.total_seconds() for pause in PAUSES] == [
            2, 5, 15, 60, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400,
        ]  # fmt: skip
        assert sum(PAUSES, timedelta()) >= timedelta(hours=75)

    @pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
    def test_jitter_makes_a_pause_longer_never_shorter(self, world: World, jitter: float) -> None:
        invoice = paid_order(world)
        world.simulator.shop.answer_with(500)

        send_due(replace(world.backend.outbox, jitter=lambda: jitter))

        pause = message(world, invoice).next_attempt_at - world.backend.clock()
        assert pause == PAUSES[0] * (1 + JITTER * jitter)

    def test_every_attempt_has_the_same_id_and_the_same_bytes(self, world: World) -> None:
        invoice = paid_order(world)
        world.simulator.shop.answer_with(500, ATTEMPTS - 1)

        for pause in (*PAUSES, timedelta()):
            send_due(without_jitter(world))
            world.wait(pause.total_seconds())

        attempts = world.simulator.shop.deliveries
        assert len(attempts) == ATTEMPTS
        assert set(attempts_ids(world)) == {message(world, invoice).webhook_id}
        assert {one.body for one in attempts} == {message(world, invoice).body.encode()}
        assert message(world, invoice).state is DeliveryState.DELIVERED

    def test_after_the_last_pause_it_is_abandoned(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        invoice = paid_order(world)
        world.simulator.shop.answer_with(500, None)

        for pause in (*PAUSES, timedelta(days=30)):
            send_due(without_jitter(world))
            world.wait(pause.total_seconds())

        delivery = message(world, invoice)
        assert (delivery.state, delivery.attempts) == (DeliveryState.ABANDONED, ATTEMPTS)
        assert send_due(world.backend.outbox) == Counter()
        assert delivery.webhook_id in caplog.records[-1].getMessage()
        assert caplog.records[-1].levelno == logging.ERROR

    def test_a_410_ends_it_at_once(self, world: World) -> None:
        invoice = paid_order(world)
        world.simulator.shop.answer_with(410)

        send_due(world.backend.outbox)
        world.wait(100_000)

        assert send_due(world.backend.outbox) == Counter()
        delivery = message(world, invoice)
        assert (delivery.state, delivery.attempts) == (DeliveryState.ABANDONED, 1)

    @pytest.mark.parametrize("status", [199, 300, 302, 400, 401, 404, 429, 500, 501, 503, 599])
    def test_any_answer_but_2xx_is_retried(self, world: World, status: int) -> None:
        invoice = paid_order(world)

        def deliver(event: Event) -> None:
            raise ShopRefused(f"the shop answered {status}")

        world.deliver = deliver
        send_due(world.backend.outbox)

        delivery = message(world, invoice)
        assert (delivery.state, delivery.attempts) == (DeliveryState.PENDING, 1)
        assert delivery.last_error == f"the shop answered {status}"

    def test_one_dead_order_holds_up_no_other(self, world: World) -> None:
        dead = paid_order(world)
        real = world.post_to_shop

        def deliver(event: Event) -> None:
            if event.body["invoice"] == dead.issue.bolt11:
                raise ShopRefused("never")
            real(event)

        world.deliver = deliver
        for _ in range(5):
            paid_order(world)
            send_due(world.backend.outbox)
            world.wait(300)

        assert len(world.told()) == 5
        assert message(world, dead).attempts == 5

    def test_a_slow_order_holds_up_no_other(self, world: World) -> None:
        slow, quick = paid_order(world), paid_order(world)
        real, is_quick_done = world.post_to_shop, threading.Event()

        def deliver(event: Event) -> None:
            if event.body["invoice"] == slow.issue.bolt11:
                assert is_quick_done.wait(10)
            real(event)
            is_quick_done.set()

        world.deliver = deliver
        send_due(world.backend.outbox)

        assert [told["invoice"] for told in world.told()] == [quick.issue.bolt11, slow.issue.bolt11]


class TestTheMerchantsHook:
    @pytest.mark.parametrize(
        "error",
        [
            ValueError("a secret-in-a-text"),
            KeyError("x"),
            RuntimeError(),
            AssertionError(),
            TimeoutError(),
            MemoryError(),
            RecursionError(),
            StopIteration(),
            SystemExit(1),
            StorageUnavailable("not ours"),
        ],
    )
    def test_it_is_called_again_after_any_exception(self, world: World, error: BaseException) -> None:
        invoice = paid_order(world)

        def deliver(event: Event) -> None:
            raise error

        world.deliver = deliver
        send_due(world.backend.outbox)

        delivery = message(world, invoice)
        assert (delivery.state, delivery.attempts) == (DeliveryState.PENDING, 1)
        assert delivery.last_error == f"the delivery hook raised {type(error).__name__}"

    def test_one_that_ends_the_process_ends_no_other_delivery(self, world: World) -> None:
        invoices = [paid_order(world) for _ in range(3)]

        def deliver(event: Event) -> None:
            raise SystemExit

        world.deliver = deliver

        assert send_due(world.backend.outbox) == Counter(refused=3)
        assert [message(world, invoice).attempts for invoice in invoices] == [1, 1, 1]

    @pytest.mark.parametrize("kind", [ShopRefused, ShopGone])
    @pytest.mark.parametrize("said", ["a\x00b", "half \ud800", "x" * 5000, "two\nlines", ""])
    def test_anything_it_quotes_from_the_shop_is_kept_as_text(
        self, world: World, kind: type[ShopRefused], said: str
    ) -> None:
        invoice = paid_order(world)

        def deliver(event: Event) -> None:
            raise kind(said)

        world.deliver = deliver
        send_due(world.backend.outbox)

        reason = message(world, invoice).last_error
        assert reason is not None
        assert reason == "" or reason.isprintable()
        assert len(reason) <= MAX_REASON_CHARACTERS

    def test_it_gets_the_message_in_every_form(self, world: World) -> None:
        invoice = paid_order(world)
        seen: list[Event] = []
        world.deliver = seen.append

        send_due(world.backend.outbox)

        (event,) = seen
        delivery = message(world, invoice)
        assert (event.id, event.type, event.url) == (delivery.webhook_id, "invoice.settled", world.backend.outbox.url)
        assert event.content == delivery.body.encode()
        assert event.body == json.loads(event.content)
        assert event.headers["webhook-id"] == event.id
        assert event.headers["Content-Type"] == "application/json"

    def test_one_that_changes_the_message_changes_no_other_attempt(self, world: World) -> None:
        paid_order(world)
        real = world.post_to_shop

        def deliver(event: Event) -> None:
            event.body.clear()
            event.headers.pop("webhook-timestamp")
            real(event)

        world.deliver = deliver
        world.simulator.shop.answer_with(500)
        send_due(world.backend.outbox)
        world.deliver = real
        world.wait(3)
        send_due(world.backend.outbox)

        first, second = world.simulator.shop.deliveries
        assert first.body == second.body
        assert header(second.headers, "webhook-timestamp")


class TestSignatures:
    @pytest.fixture
    def signing(self, make_world: Callable[..., World]) -> World:
        """A world that signs, at the real time: the independent verifier looks at the clock on the wall."""
        world = make_world(delivery_secret=SECRET)
        world.wait((datetime.now(UTC) - world.backend.clock()).total_seconds())
        return world

    def test_an_independent_library_accepts_every_attempt(self, signing: World) -> None:
        paid_order(signing)
        signing.simulator.shop.answer_with(500)
        send_due(signing.backend.outbox)
        signing.wait(3)
        send_due(signing.backend.outbox)

        first, second = signing.simulator.shop.deliveries
        for attempt in (first, second):
            headers = {name.lower(): value for name, value in attempt.headers.items()}
            assert Webhook(SECRET).verify(attempt.body, headers) == json.loads(attempt.body)
        assert header(first.headers, "webhook-timestamp") != header(second.headers, "webhook-timestamp")

    def test_without_a_secret_nothing_is_signed(self, world: World) -> None:
        paid_order(world)

        send_due(world.backend.outbox)

        (attempt,) = world.simulator.shop.deliveries
        assert "webhook-signature" not in {name.lower() for name in attempt.headers}


class TestClaims:
    def test_two_processes_at_once_send_it_once(self, world: World) -> None:
        paid_order(world)
        other = World(world.database_url, world.simulator)
        barrier = threading.Barrier(2)

        def send(one: World) -> Counter[str]:
            barrier.wait()
            return send_due(one.backend.outbox)

        with ThreadPoolExecutor(2) as pool:
            counts = list(pool.map(send, [world, other]))

        assert sum(counts, Counter()) == Counter(delivered=1)
        assert len(world.simulator.shop.deliveries) == 1
        other.close()

    def test_while_one_sends_the_others_leave_it_alone(self, world: World) -> None:
        paid_order(world)
        seen_by_others: list[Counter[str]] = []
        real = world.post_to_shop

        def deliver(event: Event) -> None:
            seen_by_others.append(send_due(world.backend.outbox))
            real(event)

        world.deliver = deliver
        send_due(world.backend.outbox)

        assert seen_by_others == [Counter()]
        assert len(world.told()) == 1

    def killed_while_sending(self, world: World) -> Invoice:
        """A message whose sender was killed before it could write down what the shop answered."""
        invoice = paid_order(world)

        def deliver(event: Event) -> None:
            raise Killed

        world.deliver = deliver
        with pytest.raises(Killed):
            send_due(world.backend.outbox)
        world.deliver = world.post_to_shop
        return invoice

    def test_the_claim_of_a_killed_sender_runs_out(self, world: World) -> None:
        invoice = self.killed_while_sending(world)
        world.wait(CLAIM.total_seconds() - 0.001)
        assert send_due(world.backend.outbox) == Counter()

        world.wait(0.001)

        assert send_due(world.backend.outbox) == Counter(delivered=1)
        assert timedelta(seconds=20) == CLAIM
        assert message(world, invoice).state is DeliveryState.DELIVERED

    def test_the_dispatcher_knows_when_the_claim_runs_out(self, world: World) -> None:
        self.killed_while_sending(world)

        with world.backend.repository.reading() as tx:
            assert tx.deliveries.next_due_at() == world.backend.clock() + CLAIM

    def test_a_sender_that_was_overtaken_does_not_put_off_what_was_delivered(self, world: World) -> None:
        invoice = paid_order(world)
        real, outbox = world.post_to_shop, world.backend.outbox

        def too_slow(event: Event) -> None:
            world.deliver = real
            world.wait(CLAIM.total_seconds())
            assert send_due(outbox) == Counter(delivered=1)
            raise ShopRefused("much later")

        world.deliver = too_slow
        send_due(outbox)

        delivery = message(world, invoice)
        assert (delivery.state, delivery.attempts, delivery.last_error) == (DeliveryState.DELIVERED, 1, None)

    def test_a_sender_that_was_overtaken_may_still_have_delivered(self, world: World) -> None:
        invoice = paid_order(world)
        real, outbox = world.post_to_shop, world.backend.outbox

        def slow_but_good(event: Event) -> None:
            world.deliver = real
            world.simulator.shop.answer_with(500)
            world.wait(CLAIM.total_seconds())
            assert send_due(outbox) == Counter(refused=1)

        world.deliver = slow_but_good
        send_due(outbox)

        assert message(world, invoice).state is DeliveryState.DELIVERED

    def test_a_worker_that_waits_sends_what_a_killed_one_left(self, world: World) -> None:
        self.killed_while_sending(world)

        counts = send_due_and_wait(world.backend.outbox, sleep=world.wait)

        assert counts == Counter(delivered=1)
        assert len(world.told()) == 1

    def test_a_worker_with_nothing_to_wait_for_does_not_wait(self, world: World) -> None:
        paid_order(world)

        assert send_due_and_wait(world.backend.outbox, sleep=lambda _: pytest.fail("slept")) == Counter(delivered=1)

    def test_a_waiting_worker_gives_up_in_the_end(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """A process claims a message again and again, and is killed each time."""
        self.killed_while_sending(world)
        naps: list[float] = []

        send_due_and_wait(world.backend.outbox, sleep=naps.append)

        assert sum(naps) == CLAIM.total_seconds()


class TestSendingAgain:
    def test_a_delivered_message_is_sent_again_under_its_id(self, world: World) -> None:
        invoice = paid_order(world)
        send_due(world.backend.outbox)

        send_again(world.backend.repository, invoice.strike_invoice_id, world.backend.clock())

        assert send_due(world.backend.outbox) == Counter(delivered=1)
        assert len(set(attempts_ids(world))) == 1
        assert len(attempts_ids(world)) == 2

    def test_an_abandoned_message_gets_all_its_attempts_again(self, world: World) -> None:
        invoice = paid_order(world)
        world.simulator.shop.answer_with(410)
        send_due(world.backend.outbox)
        world.simulator.shop.answer_with(500)

        send_again(world.backend.repository, invoice.strike_invoice_id, world.backend.clock())
        send_due(world.backend.outbox)

        delivery = message(world, invoice)
        assert (delivery.state, delivery.attempts) == (DeliveryState.PENDING, 1)

    def test_a_message_that_waits_is_due_now(self, world: World) -> None:
        invoice = paid_order(world)
        world.simulator.shop.answer_with(500, 5)
        for pause in PAUSES[:5]:
            world.wait(pause.total_seconds())
            send_due(without_jitter(world))
        assert message(world, invoice).next_attempt_at > world.backend.clock()

        send_again(world.backend.repository, invoice.strike_invoice_id, world.backend.clock())

        assert send_due(world.backend.outbox)["delivered"] == 1

    @pytest.mark.parametrize("name", ["", "unknown", "\x00", "11111111-2222-4333-8444-555555555555"])
    def test_what_was_never_owed_cannot_be_sent_again(self, world: World, name: str) -> None:
        with pytest.raises(NotFound):
            send_again(world.backend.repository, name, world.backend.clock())

    def test_an_invoice_that_is_not_paid_owes_no_message(self, world: World) -> None:
        invoice = world.sell()

        with pytest.raises(NotFound):
            send_again(world.backend.repository, invoice.strike_invoice_id, world.backend.clock())


class TestTheDispatcher:
    @pytest.fixture
    def running(self, world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
        """A world whose dispatcher thread runs, and looks every hundredth of a second at what is due."""
        monkeypatch.setattr(dispatcher_module, "SHORTEST_SLEEP", timedelta(milliseconds=10))
        monkeypatch.setattr(dispatcher_module, "LONGEST_SLEEP", timedelta(seconds=5))
        yield world
        world.backend.stop.set()
        world.backend.delivery_dispatcher.join()

    def test_it_sends_what_is_due_from_before(self, running: World) -> None:
        paid_order(running)

        running.backend.delivery_dispatcher.start()

        assert wait_until(running.told)

    def test_it_sends_at_once_when_woken(self, running: World) -> None:
        running.backend.delivery_dispatcher.start()
        paid_order(running)

        running.backend.delivery_dispatcher.wake()

        assert wait_until(running.told, seconds=2)

    def test_it_sends_by_itself_what_is_due_later(self, running: World) -> None:
        running.simulator.shop.answer_with(500)
        invoice = paid_order(running)
        running.backend.delivery_dispatcher.start()
        assert wait_until(lambda: message(running, invoice).attempts == 1)

        running.wait(3)
        running.backend.delivery_dispatcher.wake()

        assert wait_until(running.told)

    def test_trouble_with_the_database_does_not_end_it(self, running: World, monkeypatch: pytest.MonkeyPatch) -> None:
        failures = iter([StorageUnavailable("locked")])
        real = running.backend.repository.reading

        def reading() -> object:
            for failure in failures:
                raise failure
            return real()

        monkeypatch.setattr(running.backend.repository, "reading", reading)
        running.backend.delivery_dispatcher.start()
        assert wait_until(lambda: next(failures, None) is None)
        paid_order(running)
        running.backend.delivery_dispatcher.wake()

        assert wait_until(running.told)

    def test_a_hook_that_ends_the_process_does_not_end_it(self, running: World) -> None:
        def deliver(event: Event) -> None:
            raise SystemExit

        running.deliver = deliver
        invoice = paid_order(running)
        running.backend.delivery_dispatcher.start()
        assert wait_until(lambda: message(running, invoice).attempts == 1)
        running.deliver = running.post_to_shop
        running.wait(3)
        running.backend.delivery_dispatcher.wake()

        assert wait_until(running.told)

    def test_it_stops_when_asked_after_finishing_the_current_message(self, running: World) -> None:
        invoice = paid_order(running)
        has_begun, may_end = threading.Event(), threading.Event()

        def deliver(event: Event) -> None:
            has_begun.set()
            assert may_end.wait(10)

        running.deliver = deliver
        running.backend.delivery_dispatcher.start()
        assert has_begun.wait(5)
        running.backend.stop.set()
        may_end.set()
        running.backend.delivery_dispatcher.join()

        assert message(running, invoice).state is DeliveryState.DELIVERED

    def test_one_that_was_never_started_can_be_joined(self, world: World) -> None:
        world.backend.delivery_dispatcher.join()

        assert world.told() == []
