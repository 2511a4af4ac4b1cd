"""A merchant refunds a paid order: how much, to whom, how often, and when the merchant may change their mind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import event

from lnpay.domain.errors import (
    Conflict,
    IdempotencyKeyReused,
    InvalidRequest,
    NotFound,
    RateUnavailable,
    RefundExceedsReceived,
)
from lnpay.domain.model import Refund
from lnpay.domain.states import AmountBasis, CancelCause, HoldCause, LatePayments, RefundAsker, RefundKind, RefundState
from lnpay.refunds.after_restore import doubt_refunds
from lnpay.refunds.by_hand import approve, give_address, settle_by_hand
from lnpay.refunds.merchant import cancel_refund, create_refund, find_refund, list_refunds, withdraw_expired_claims
from lnpay.runtime.worker_passes import refund_pass
from tests.databases import migrated_postgres
from tests.owing import ADDRESS, EXECUTE, QUOTE, drain, owe, payouts, send, twin
from tests.refunding import left_sats, one_refund, refund, refunds_of, sell_paid, wanted
from tests.world import World

MakeWorld = Callable[..., World]
R = RefundState
CLAIM_DAYS = 30


def paid_out(world: World) -> list[int]:
    return sorted(entry.sats for entry in payouts(world))


class TestAmount:
    def test_the_whole_order_is_refunded_once(self, world: World) -> None:
        invoice = sell_paid(world)

        made = refund(world, invoice)
        send(world)

        sent = one_refund(world, made)
        assert (sent.state, sent.kind, sent.amount_sats) == (R.SENT, RefundKind.MERCHANT, invoice.received_sats)
        assert (sent.asked_by, sent.basis, sent.price) == (RefundAsker.API_KEY, AmountBasis.WHOLE, None)
        assert paid_out(world) == [invoice.received_sats]

    def test_parts_are_refunded_until_nothing_is_left(self, world: World) -> None:
        invoice = sell_paid(world)
        received = invoice.received_sats or 0

        refund(world, invoice, "a", amount_sats=1_000)
        refund(world, invoice, "b", amount_sats=received - 1_500)
        assert left_sats(world, invoice) == 500
        with pytest.raises(RefundExceedsReceived, match=r"501 sats is more than the 500 sats"):
            refund(world, invoice, "c", amount_sats=501)
        rest = refund(world, invoice, "d")
        drain(world)

        assert rest.amount_sats == 500
        assert paid_out(world) == sorted([1_000, received - 1_500, 500])
        with pytest.raises(RefundExceedsReceived, match="already"):
            refund(world, invoice, "e", amount_sats=1)

    def test_each_refund_of_an_invoice_has_keys_of_its_own(self, world: World) -> None:
        invoice = sell_paid(world)

        made = [refund(world, invoice, f"k{n}", amount_sats=1_000) for n in range(3)]

        assert [one.sequence for one in made] == [1, 2, 3]
        assert len({one.idempotency_key for one in made}) == 3

    def test_the_price_of_the_sale_in_full_leaves_no_sat_behind(self, world: World) -> None:
        invoice = sell_paid(world)

        made = refund(world, invoice, basis=AmountBasis.SALE_PRICE, amount_fiat=invoice.order.amount_fiat)

        assert (made.amount_sats, made.amount_fiat) == (invoice.received_sats, invoice.order.amount_fiat)
        assert (made.price, made.price_as_of) == (invoice.rate.price, invoice.rate.as_of)

    def test_a_part_in_the_shops_currency_is_rounded_for_the_shop(self, world: World) -> None:
        invoice = sell_paid(world)

        made = refund(world, invoice, basis=AmountBasis.SALE_PRICE, amount_fiat=Decimal("1.00"))

        exact = Decimal(100_000_000) / invoice.rate.price
        assert made.amount_sats == int(exact)

    def test_todays_price_is_used_if_it_is_asked_for(self, world: World) -> None:
        invoice = sell_paid(world)
        world.simulator.rates.set_price("usd", str(invoice.rate.price * 2))
        world.wait(600)

        made = refund(world, invoice, basis=AmountBasis.TODAY_PRICE, amount_fiat=Decimal("6.00"))

        assert made.price is not None
        assert made.price > invoice.rate.price * Decimal("1.9")
        assert made.amount_sats == int(Decimal(6) * 100_000_000 / made.price)

    def test_todays_price_never_refunds_more_than_was_received(self, world: World) -> None:
        invoice = sell_paid(world)
        world.simulator.rates.set_price("usd", str(invoice.rate.price / 2))
        world.wait(600)

        with pytest.raises(RefundExceedsReceived):
            refund(world, invoice, basis=AmountBasis.TODAY_PRICE, amount_fiat=invoice.order.amount_fiat)
        assert left_sats(world, invoice) == invoice.received_sats

    def test_less_than_a_sat_is_refused(self, world: World) -> None:
        invoice = sell_paid(world)

        with pytest.raises(InvalidRequest, match="less than one sat"):
            refund(world, invoice, basis=AmountBasis.SALE_PRICE, amount_fiat=Decimal("0.0000001"))

    def test_a_small_refund_is_sent_because_the_merchant_asks_for_it(self, make_world: MakeWorld) -> None:
        world = make_world(refund_min_sats=10_000)
        invoice = sell_paid(world)

        made = refund(world, invoice, amount_sats=100)
        send(world)

        assert one_refund(world, made).state is R.SENT


class TestWhat:
    def test_an_unpaid_invoice_has_nothing_to_refund(self, world: World) -> None:
        invoice = world.sell()

        with pytest.raises(Conflict, match="not paid") as caught:
            refund(world, invoice)
        assert caught.value.code == "invoice_not_refundable"

    def test_a_late_payment_is_refunded_by_the_rule_alone(self, world: World) -> None:
        invoice = owe(world)

        with pytest.raises(Conflict, match="paid late"):
            refund(world, invoice)
        assert left_sats(world, invoice) == 0
        assert len(refunds_of(world, invoice)) == 1

    def test_a_late_payment_that_waits_for_a_decision_is_not_called_refunded(self, make_world: MakeWorld) -> None:
        world = make_world(late_payments=LatePayments.HOLD)
        invoice = owe(world)

        with pytest.raises(Conflict, match="yet to accept or refund") as caught:
            refund(world, invoice)
        assert caught.value.code == "invoice_not_refundable"

        approve(world.backend.repository, invoice.strike_invoice_id, world.backend.clock())
        with pytest.raises(Conflict, match="is, or will be, refunded"):
            refund(world, invoice)

    def test_an_unknown_invoice(self, world: World) -> None:
        with pytest.raises(NotFound):
            create_refund(world.backend.refund_issuer, "no-such-invoice", wanted())
        with pytest.raises(NotFound):
            list_refunds(world.backend.repository, "no-such-invoice")

    def test_every_refund_is_listed_and_can_be_read(self, world: World) -> None:
        invoice = sell_paid(world)
        made = [refund(world, invoice, key, amount_sats=1_000) for key in "ab"]

        assert list_refunds(world.backend.repository, invoice.strike_invoice_id) == made
        assert find_refund(world.backend.repository, made[1].id)[0] == made[1]
        for unknown in (0, -1, 99, 2**63, 2**80):
            with pytest.raises(NotFound):
                find_refund(world.backend.repository, unknown)


class TestKey:
    def test_the_same_key_and_body_gives_the_same_refund(self, world: World) -> None:
        invoice = sell_paid(world)

        first, again = (refund(world, invoice, amount_sats=1_000) for _ in range(2))
        drain(world)

        assert first == again
        assert refund(world, invoice, amount_sats=1_000).id == first.id
        assert paid_out(world) == [1_000]

    @pytest.mark.parametrize(
        "other",
        [{"amount_sats": 1_001}, {"basis": AmountBasis.WHOLE}, {"amount_sats": 1_000, "address": None}],
    )
    def test_the_same_key_with_another_body_is_a_conflict(self, world: World, other: dict[str, Any]) -> None:
        invoice = sell_paid(world)
        refund(world, invoice, amount_sats=1_000)

        with pytest.raises(IdempotencyKeyReused):
            refund(world, invoice, **other)
        assert len(refunds_of(world, invoice)) == 1

    def test_a_repeat_is_answered_although_nothing_is_left_and_there_is_no_price(self, world: World) -> None:
        invoice, other = sell_paid(world), sell_paid(world)
        fiat: dict[str, Any] = {"basis": AmountBasis.TODAY_PRICE, "amount_fiat": Decimal("1.00")}
        first = refund(world, invoice, **fiat)
        refund(world, invoice, "rest")
        for path in ("/coingecko/*", "/coinbase/*", "/v1/rates/*"):
            world.fault("GET", path, "unreachable", times=None)
        world.wait(100_000)
        with pytest.raises(RateUnavailable):
            refund(world, other, "other", **fiat)

        assert refund(world, invoice, **fiat).id == first.id

    def test_a_canceled_refund_is_not_created_again_by_a_repeat(self, world: World) -> None:
        invoice = sell_paid(world)
        first = refund(world, invoice)
        cancel_refund(world.backend.refund_issuer, first.id)

        again = refund(world, invoice)

        assert (again.id, again.state) == (first.id, R.CANCELED)
        assert refund(world, invoice, "another").state is R.REQUESTED

    def test_two_invoices_may_use_the_same_key(self, world: World) -> None:
        one, other = sell_paid(world), sell_paid(world)

        assert refund(world, one).id != refund(world, other).id


class TestLimits:
    """One engine: what stops a late payment's refund stops a merchant's too."""

    def test_above_the_limit_it_is_held(self, make_world: MakeWorld) -> None:
        world = make_world(refund_max_sats=1_000)
        invoice = sell_paid(world)

        held, small = refund(world, invoice, "a", amount_sats=1_001), refund(world, invoice, "b", amount_sats=1_000)
        drain(world)

        assert (one_refund(world, held).state, one_refund(world, small).state) == (R.HELD, R.SENT)
        approve(world.backend.repository, invoice.strike_invoice_id, world.backend.clock())
        send(world)
        assert one_refund(world, held).state is R.SENT

    def test_the_daily_limit_counts_parts_together(self, make_world: MakeWorld) -> None:
        world = make_world(refund_daily_max_sats=2_500)
        invoice = sell_paid(world)

        for key in "abc":
            refund(world, invoice, key, amount_sats=1_000)
        drain(world)

        assert sorted(one.state for one in refunds_of(world, invoice)) == [R.HELD, R.SENT, R.SENT]

    def test_after_a_restore_it_is_held(self, world: World) -> None:
        invoice = sell_paid(world)
        with world.backend.repository.transaction() as tx:
            doubt_refunds(tx, world.backend.clock())

        made = refund(world, invoice)
        send(world)

        assert one_refund(world, made).held_because is HoldCause.RESTORED
        assert payouts(world) == []

    def test_several_open_refunds_must_be_told_apart(self, make_world: MakeWorld) -> None:
        world = make_world(refund_max_sats=100)
        invoice = sell_paid(world)
        made = [refund(world, invoice, key, amount_sats=1_000) for key in "ab"]
        send(world)
        repository, strike_id, now = world.backend.repository, invoice.strike_invoice_id, world.backend.clock()

        with pytest.raises(Conflict, match="--refund") as caught:
            approve(repository, strike_id, now)
        assert caught.value.code == "several_refunds"
        assert approve(repository, strike_id, now, refund_id=made[1].id).id == made[1].id
        assert one_refund(world, made[0]).state is R.HELD
        with pytest.raises(Conflict, match="no such refund"):
            approve(repository, strike_id, now, refund_id=made[1].id + 7)


class TestCancel:
    def cancel(self, world: World, made: Refund, **options: bool) -> Refund:
        return cancel_refund(world.backend.refund_issuer, made.id, **options)

    def test_what_is_canceled_is_never_sent_and_can_be_refunded_again(self, world: World) -> None:
        invoice = sell_paid(world)
        made = refund(world, invoice)

        canceled = self.cancel(world, made)
        drain(world)

        assert (canceled.state, canceled.cancel_cause) == (R.CANCELED, CancelCause.REQUESTED)
        assert canceled == one_refund(world, made)
        assert payouts(world) == []
        assert left_sats(world, invoice) == invoice.received_sats
        assert refund(world, invoice, "again").sequence == 2

    def test_it_may_be_repeated(self, world: World) -> None:
        invoice = sell_paid(world)
        made = refund(world, invoice)

        assert self.cancel(world, made) == self.cancel(world, made)
        assert left_sats(world, invoice) == invoice.received_sats

    def test_what_was_sent_stays_sent(self, world: World) -> None:
        invoice = sell_paid(world)
        made = refund(world, invoice)
        send(world)

        with pytest.raises(Conflict, match="was sent"):
            self.cancel(world, made)
        assert left_sats(world, invoice) == 0

    def test_what_may_be_sent_at_this_moment_cannot_be_canceled(self, world: World) -> None:
        invoice = sell_paid(world)
        made = refund(world, invoice, address="pending@example.com")
        send(world)

        with pytest.raises(Conflict, match="being sent"):
            self.cancel(world, made)
        assert one_refund(world, made).state is R.IN_FLIGHT

    def test_what_failed_can_be_canceled(self, world: World) -> None:
        invoice = sell_paid(world)
        made = refund(world, invoice, address="fail@example.com")
        send(world)
        assert one_refund(world, made).state is R.FAILED
        assert left_sats(world, invoice) == 0

        assert self.cancel(world, made).state is R.CANCELED
        assert left_sats(world, invoice) == invoice.received_sats

    def test_what_is_held_by_a_limit_can_be_canceled(self, make_world: MakeWorld) -> None:
        world = make_world(refund_max_sats=10)
        invoice = sell_paid(world)
        made = refund(world, invoice)
        send(world)

        assert self.cancel(world, made).state is R.CANCELED

    def test_what_may_have_been_sent_before_a_restore_waits_for_the_operator(self, world: World) -> None:
        invoice = sell_paid(world)
        made = refund(world, invoice)
        with world.backend.repository.transaction() as tx:
            doubt_refunds(tx, world.backend.clock())

        with pytest.raises(Conflict, match="may have been sent") as caught:
            self.cancel(world, made)
        assert caught.value.code == "refund_unclear"
        assert self.cancel(world, made, is_checked=True).state is R.CANCELED

    def test_what_is_owed_by_a_rule_cannot_be_canceled(self, world: World) -> None:
        invoice = owe(world, address=None)
        (late,) = refunds_of(world, invoice)

        with pytest.raises(Conflict) as caught:
            self.cancel(world, late)
        assert caught.value.code == "refund_owed"

    def test_an_operator_cannot_settle_what_is_canceled(self, world: World) -> None:
        invoice = sell_paid(world)
        self.cancel(world, refund(world, invoice))

        with pytest.raises(Conflict, match="canceled"):
            settle_by_hand(
                world.backend.repository, invoice.strike_invoice_id, "cash", frozenset(), world.backend.clock()
            )

    @pytest.mark.parametrize("call", [("POST", QUOTE), ("PATCH", EXECUTE)])
    def test_a_cancel_in_the_middle_of_sending_has_one_winner(self, world: World, call: tuple[str, str]) -> None:
        """The cancel comes while the worker waits for an answer of Strike's."""
        invoice = sell_paid(world)
        made = refund(world, invoice)
        outcomes: list[str] = []
        transport_send = world.adapter.send

        def cancel_then_send(request: object, *arguments: object, **options: object) -> object:
            path = getattr(request, "path_url", "")
            if getattr(request, "method", "") == call[0] and ("lnurl" in path or "execute" in path) and not outcomes:
                outcomes.append("reached")
                try:
                    self.cancel(world, made)
                    outcomes.append("canceled")
                except Conflict:
                    outcomes.append("refused")
            return transport_send(request, *arguments, **options)  # type: ignore[arg-type]

        setattr(world.adapter, "send", cancel_then_send)  # noqa: B010 - mypy knows it as a method
        drain(world)

        is_canceled = call[1] == QUOTE
        assert outcomes == ["reached", "canceled" if is_canceled else "refused"]
        assert len(payouts(world)) == (0 if is_canceled else 1)
        assert one_refund(world, made).state is (R.CANCELED if is_canceled else R.SENT)
        assert left_sats(world, invoice) == (invoice.received_sats if is_canceled else 0)

    def test_a_refund_that_changes_while_it_is_canceled_is_left_alone(self, world: World) -> None:
        invoice = sell_paid(world)
        made = refund(world, invoice)
        with world.backend.repository.transaction() as tx:
            assert tx.refunds.claim(made, world.backend.clock() + timedelta(seconds=30))
            assert tx.refund_requests.cancel(made, world.backend.clock(), CancelCause.REQUESTED) is None

        assert left_sats(world, invoice) == 0

    def test_a_worker_that_claims_it_between_the_look_and_the_cancel_wins(
        self, make_world: MakeWorld, postgres_server: str
    ) -> None:
        """PostgreSQL alone lets another transaction in between: SQLite has one writer at a time."""
        with migrated_postgres(postgres_server) as url:
            world = make_world(database_url=url)
            invoice = sell_paid(world)
            made = refund(world, invoice)
            other = twin(world)
            claimed: list[bool] = []

            def claim_first(_connection: object, _cursor: object, statement: str, *_: object) -> None:
                if statement.startswith("UPDATE refunds") and not claimed:
                    with other.repository.transaction() as tx:
                        claimed.append(
                            tx.refunds.claim(made, world.backend.clock() + timedelta(seconds=30)) is not None
                        )

            event.listen(world.backend.repository.engine, "before_cursor_execute", claim_first)
            with pytest.raises(Conflict, match="at the same time") as caught:
                self.cancel(world, made)
            event.remove(world.backend.repository.engine, "before_cursor_execute", claim_first)
            other.close()

            assert (claimed, caught.value.code) == ([True], "refund_state")
            assert (one_refund(world, made).state, left_sats(world, invoice)) == (R.REQUESTED, 0)
            world.wait(60)
            drain(world)
            assert paid_out(world) == [invoice.received_sats]


class TestClaim:
    def test_the_customer_claims_it_by_the_link(self, world: World) -> None:
        invoice = sell_paid(world)
        made = refund(world, invoice, address=None)
        assert (made.state, made.claim_expires_at) == (
            R.NEEDS_ADDRESS,
            world.backend.clock() + timedelta(days=CLAIM_DAYS),
        )

        give_address(world.backend.repository, made.token, ADDRESS, world.backend.clock())
        send(world)

        assert one_refund(world, made).state is R.SENT

    def test_after_the_end_it_is_withdrawn_and_its_amount_is_free(self, make_world: MakeWorld) -> None:
        world = make_world(refund_claim_days=2)
        invoice = sell_paid(world)
        made = refund(world, invoice, address=None)
        world.wait(2 * 86_400 - 1)
        assert withdraw_expired_claims(world.backend.refund_issuer) == 0
        world.wait(1)

        refund_pass(world.backend)

        withdrawn = one_refund(world, made)
        assert (withdrawn.state, withdrawn.cancel_cause) == (R.CANCELED, CancelCause.CLAIM_EXPIRED)
        assert left_sats(world, invoice) == invoice.received_sats
        assert withdraw_expired_claims(world.backend.refund_issuer) == 0

    def test_what_may_have_been_claimed_before_a_restore_is_left_to_the_operator(self, world: World) -> None:
        invoice = sell_paid(world)
        made = refund(world, invoice, address=None)
        with world.backend.repository.transaction() as tx:
            doubt_refunds(tx, world.backend.clock())
        newer = refund(world, sell_paid(world, order_id="newer"), address=None)
        world.wait(CLAIM_DAYS * 86_400)

        assert withdraw_expired_claims(world.backend.refund_issuer) == 1

        assert one_refund(world, newer).state is R.CANCELED
        assert one_refund(world, made).state is R.NEEDS_ADDRESS
        assert left_sats(world, invoice) == 0
        assert cancel_refund(world.backend.refund_issuer, made.id, is_checked=True).state is R.CANCELED

    def test_after_the_end_no_address_is_taken_although_no_worker_came_yet(self, world: World) -> None:
        invoice = sell_paid(world)
        made = refund(world, invoice, address=None)
        world.wait(CLAIM_DAYS * 86_400)

        with pytest.raises(Conflict) as caught:
            give_address(world.backend.repository, made.token, ADDRESS, world.backend.clock())
        assert caught.value.code == "refund_claim_ended"

    def test_a_claim_just_before_the_end_is_paid(self, world: World) -> None:
        invoice = sell_paid(world)
        made = refund(world, invoice, address=None)
        world.wait(CLAIM_DAYS * 86_400 - 1)
        give_address(world.backend.repository, made.token, ADDRESS, world.backend.clock())
        world.wait(10)

        assert withdraw_expired_claims(world.backend.refund_issuer) == 0
        send(world)
        assert one_refund(world, made).state is R.SENT

    def test_an_address_that_is_refused_leaves_the_customer_time_for_another(self, world: World) -> None:
        invoice = sell_paid(world)
        made = refund(world, invoice, address="unknown@example.com")
        assert made.claim_expires_at is None
        send(world)

        asking = one_refund(world, made)
        assert asking.state is R.NEEDS_ADDRESS
        assert asking.claim_expires_at == world.backend.clock() + timedelta(days=CLAIM_DAYS)

    def test_a_second_refused_address_does_not_move_the_end(self, world: World) -> None:
        invoice = sell_paid(world)
        made = refund(world, invoice, address=None)
        world.wait(86_400)
        give_address(world.backend.repository, made.token, "unknown@example.com", world.backend.clock())
        send(world)

        assert one_refund(world, made).claim_expires_at == made.claim_expires_at

    def test_what_is_owed_by_a_rule_can_be_claimed_at_any_time(self, world: World) -> None:
        invoice = owe(world, address="unknown@example.com")
        send(world)
        (late,) = refunds_of(world, invoice)

        assert (late.state, late.claim_expires_at) == (R.NEEDS_ADDRESS, None)

    def test_a_claim_and_the_end_at_the_same_time_have_one_winner(self, world: World) -> None:
        for number in range(10):
            invoice = sell_paid(world, correlation_id=f"order-{number}")
            made = refund(world, invoice, address=None)
            before_end = world.backend.clock() + timedelta(days=CLAIM_DAYS, seconds=-1)
            world.wait(CLAIM_DAYS * 86_400)
            other = twin(world)
            claimed: list[bool] = []

            def claim(made: Refund = made, claimed: list[bool] = claimed, at: object = before_end) -> None:
                try:
                    give_address(world.backend.repository, made.token, ADDRESS, at)  # type: ignore[arg-type]
                    claimed.append(True)
                except Conflict:
                    claimed.append(False)

            threads = [
                threading.Thread(target=claim),
                threading.Thread(target=withdraw_expired_claims, args=(other.refund_issuer,)),
            ]
            for one in threads:
                one.start()
            for one in threads:
                one.join()
            other.close()

            state = one_refund(world, made).state
            assert (state, left_sats(world, invoice)) == (
                (R.REQUESTED, 0) if claimed == [True] else (R.CANCELED, invoice.received_sats)
            )


def test_requests_at_the_same_time_never_exceed_what_was_received(world: World) -> None:
    invoice = sell_paid(world)
    received = invoice.received_sats or 0
    part = received // 7 + 1
    other = twin(world)
    refused: list[str] = []

    def ask(number: int) -> None:
        issuer = (world.backend, other)[number % 2].refund_issuer
        try:
            create_refund(issuer, invoice.strike_invoice_id, wanted(f"key-{number // 2}", amount_sats=part))
        except RefundExceedsReceived:
            refused.append("refused")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    other.close()

    made = refunds_of(world, invoice)
    assert len(made) == 6
    assert len({one.request_key for one in made}) == 6
    assert left_sats(world, invoice) == received - 6 * part
    assert len(refused) == 2 * 14
