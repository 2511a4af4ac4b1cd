"""What people may say about a refund, and when; none of it leads to a second payment."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from lnpay.domain.errors import (
    Conflict,
    InvalidRequest,
    LnpayError,
    NotFound,
    UnreadableRow,
)
from lnpay.domain.model import Invoice
from lnpay.domain.states import CancelCause, Closer, RefundState
from lnpay.refunds.by_hand import (
    BY_HAND_AFTER,
    AtStrike,
    approve,
    ask_strike,
    by_hand_at,
    change_address,
    give_address,
    retry,
    settle_by_hand,
)
from lnpay.refunds.send import CLAIM
from lnpay.sandbox.config import SimulatorConfig
from tests.owing import ADDRESS, EXECUTE, QUOTE, drain, executions, history, owe, payouts, refund_of, send
from tests.refunding import refund, sell_paid
from tests.world import ALL_EVENTS, World

MakeWorld = Callable[..., World]


def in_state(make_world: MakeWorld, state: RefundState) -> tuple[World, Invoice]:
    """A world with one refund in `state`, in which everything goes well from now on."""
    world = make_world(refunds_enabled=state is not RefundState.HELD, delivery_events=ALL_EVENTS)
    addresses = {
        RefundState.FAILED: "fail@example.com",
        RefundState.NEEDS_ADDRESS: None,
    }
    invoice = owe(world, addresses.get(state, ADDRESS))
    if state is RefundState.QUOTED:
        quote_as_older_versions_did(world, invoice)
    elif state is RefundState.CANCELED:
        cancel(world, invoice)
    elif state is not RefundState.REQUESTED:
        if state is RefundState.IN_FLIGHT:
            world.fault("PATCH", EXECUTE, "lost_request", times=3)
        send(world)
    world.simulator.config.payout_behaviours = {"*": "complete"}
    assert refund_of(world, invoice).state is state
    return world, invoice


def cancel(world: World, invoice: Invoice) -> None:
    """Only a merchant's refund is ever canceled; what people may say about one does not depend on its kind."""
    with world.backend.repository.transaction() as tx:
        assert tx.refund_requests.cancel(refund_of(world, invoice), world.backend.clock(), CancelCause.REQUESTED)


def quote_as_older_versions_did(world: World, invoice: Invoice) -> None:
    """They stored a quote, and in a commit of its own that it may be executed."""
    refund = refund_of(world, invoice)
    quote = world.backend.strike.create_payment_quote(ADDRESS, refund.amount_sats, refund.idempotency_key)
    with world.backend.repository.transaction() as tx:
        assert tx.refunds.store_quote(refund, quote.quote_id, quote.fee_sats)


def act(world: World, invoice: Invoice, verb: str) -> Any:
    """One of a person's commands."""
    repository, strike_id, now = world.backend.repository, invoice.strike_invoice_id, world.backend.clock()
    if verb == "approve":
        return approve(repository, strike_id, now)
    if verb == "retry":
        at_strike = ask_strike(repository, world.backend.strike, strike_id, None)
        return retry(repository, strike_id, "not in the list", now, at_strike=at_strike)
    if verb == "settle":
        return settle_by_hand(repository, strike_id, "paid in cash", ALL_EVENTS, now)
    if verb == "address":
        return change_address(repository, strike_id, "bob@example.com", now)
    return give_address(repository, refund_of(world, invoice).token, "bob@example.com", now)


PERMITTED = {
    "approve": {RefundState.HELD},
    "retry": {RefundState.FAILED},
    "settle": {RefundState.REQUESTED, RefundState.FAILED, RefundState.NEEDS_ADDRESS, RefundState.HELD},
    "address": {RefundState.NEEDS_ADDRESS, RefundState.FAILED},
    "give": {RefundState.NEEDS_ADDRESS},
}
"""In flight is another matter: see the hour."""


def _code_of_give(state: RefundState) -> str:
    return "refund_claim_ended" if state is RefundState.CANCELED else "refund_has_address"


@pytest.mark.parametrize("verb", PERMITTED)
@pytest.mark.parametrize("state", RefundState)
def test_each_command_is_for_certain_states_only(make_world: MakeWorld, verb: str, state: RefundState) -> None:
    world, invoice = in_state(make_world, state)
    before = refund_of(world, invoice)

    if state in PERMITTED[verb]:
        after = act(world, invoice, verb)
        assert after == refund_of(world, invoice)
        assert after.state is (RefundState.SENT if verb == "settle" else RefundState.REQUESTED)
        assert after.claims == before.claims + 1
        assert after.claimed_until is None
    else:
        with pytest.raises(Conflict) as caught:
            act(world, invoice, verb)
        assert caught.value.code == (_code_of_give(state) if verb == "give" else "refund_state")
        assert verb == "give" or caught.value.message.startswith(f"this refund is {state}: ")
        assert refund_of(world, invoice) == before


@pytest.mark.parametrize(
    ("verb", "state", "is_key_used"),
    [
        ("approve", RefundState.HELD, False),
        ("retry", RefundState.FAILED, True),
        ("address", RefundState.FAILED, True),
        ("address", RefundState.NEEDS_ADDRESS, False),
        ("give", RefundState.NEEDS_ADDRESS, False),
    ],
)
def test_what_starts_over_has_a_key_without_a_quote_and_is_due_now(
    make_world: MakeWorld, verb: str, state: RefundState, *, is_key_used: bool
) -> None:
    world, invoice = in_state(make_world, state)
    before = refund_of(world, invoice)
    world.wait(1)

    after = act(world, invoice, verb)

    assert (after.idempotency_key != before.idempotency_key) is is_key_used
    assert (after.key_number, after.asked_at) == (before.key_number + is_key_used, None)
    assert (after.payment_quote_id, after.fee_sats, after.payment_id) == (None, None, None)
    assert (after.is_in_doubt, after.failures, after.looks, after.reason) == (False, 0, 0, None)
    assert after.next_attempt_at == world.backend.clock()
    world.restart(refunds_enabled=True)
    assert send(world) == {RefundState.SENT: 1}
    assert len(payouts(world)) == 1


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("approve", "the operator approved it"),
        ("retry", "the operator confirmed that it was not sent: not in the list"),
        ("settle", "the operator settled it: paid in cash"),
        ("address", "the operator gave an address"),
        ("give", "the customer gave an address"),
    ],
)
def test_the_history_keeps_who_said_what(make_world: MakeWorld, verb: str, words: str) -> None:
    world, invoice = in_state(make_world, next(iter(PERMITTED[verb])))

    act(world, invoice, verb)

    line = history(world, invoice)[-1]
    step = "customer" if verb == "give" else "by hand"
    assert (line.step, line.outcome, line.at) == (step, words, world.backend.clock())


def test_what_was_settled_by_hand_is_not_sent_and_the_shop_is_notified_once(make_world: MakeWorld) -> None:
    world, invoice = in_state(make_world, RefundState.FAILED)

    settled = act(world, invoice, "settle")
    drain(world)

    assert (settled.reason, settled.sent_at) == ("by hand: paid in cash", world.backend.clock())
    assert settled.closed_by is Closer.OPERATOR
    assert payouts(world) == []
    assert [one.event_type for one in world.deliveries(invoice)].count("refund.sent") == 1


class TestTheHour:
    """In flight, a person is believed when no worker can still be sending it."""

    @pytest.mark.parametrize("verb", ["retry", "settle"])
    @pytest.mark.parametrize(("seconds", "is_believed"), [(-1, False), (0, True)])
    def test_it_has_to_be_over(self, make_world: MakeWorld, verb: str, seconds: int, is_believed: bool) -> None:
        world, invoice = in_state(make_world, RefundState.IN_FLIGHT)
        free_at = by_hand_at(refund_of(world, invoice))
        assert free_at is not None
        world.wait((free_at - world.backend.clock()).total_seconds() + seconds)

        if is_believed:
            assert act(world, invoice, verb).state is (RefundState.SENT if verb == "settle" else RefundState.REQUESTED)
        else:
            with pytest.raises(Conflict, match="try again an hour after its last execution"):
                act(world, invoice, verb)

    @pytest.mark.parametrize("verb", ["retry", "settle"])
    @pytest.mark.parametrize(("seconds", "is_believed"), [(-1, False), (0, True)])
    def test_and_no_worker_may_hold_its_claim(
        self, make_world: MakeWorld, verb: str, seconds: int, is_believed: bool
    ) -> None:
        world, invoice = in_state(make_world, RefundState.IN_FLIGHT)
        world.wait(BY_HAND_AFTER.total_seconds())
        with world.backend.repository.transaction() as tx:
            tx.refunds.claim(refund_of(world, invoice), until=world.backend.clock() + CLAIM)
        world.wait(CLAIM.total_seconds() + seconds)

        if is_believed:
            act(world, invoice, verb)
        else:
            with pytest.raises(Conflict):
                act(world, invoice, verb)

    @pytest.mark.parametrize("verb", ["retry", "settle"])
    def test_a_refund_owed_long_ago_but_sent_off_a_minute_ago_is_left_alone(self, world: World, verb: str) -> None:
        invoice = owe(world, "fail@example.com")
        drain(world, hours=9)
        world.fault("PATCH", EXECUTE, "lost_request", times=3)
        send_when_due(world, invoice)
        world.wait(60)
        refund = refund_of(world, invoice)
        assert refund.started_at is not None
        assert refund.started_at - refund.created_at > timedelta(hours=8)

        with pytest.raises(Conflict, match="try again an hour"):
            act(world, invoice, verb)

        world.wait(BY_HAND_AFTER.total_seconds() - 60)
        act(world, invoice, verb)

    @pytest.mark.parametrize("verb", ["retry", "settle"])
    def test_it_counts_from_the_last_execution_that_could_send(self, world: World, verb: str) -> None:
        """Without any answer it is executed again and again; that of 3,105 s is the last within a quote's life."""
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, "lost_request", times=99)
        drain(world, hours=1)
        refund = refund_of(world, invoice)
        assert refund.started_at is not None
        assert refund.executed_at is not None
        assert refund.executed_at > refund.started_at + timedelta(minutes=10)
        world.wait((refund.started_at + BY_HAND_AFTER - world.backend.clock()).total_seconds() + 60)
        assert refund_of(world, invoice).claimed_until is None

        with pytest.raises(Conflict, match="try again an hour"):
            act(world, invoice, verb)

        drain(world, hours=2)
        assert refund_of(world, invoice).executed_at == refund.executed_at
        act(world, invoice, verb)

    def test_a_stuck_refund_is_sent_after_a_person_said_that_it_was_not(self, world: World) -> None:
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, "lost_request", times=6)
        drain(world, hours=2)
        first = refund_of(world, invoice)

        act(world, invoice, "retry")
        drain(world)

        (entry,) = payouts(world)
        assert entry.quote_id == refund_of(world, invoice).payment_quote_id != first.payment_quote_id
        assert refund_of(world, invoice).state is RefundState.SENT

    def test_a_stuck_refund_is_closed_after_a_person_said_that_it_was_sent(self, make_world: MakeWorld) -> None:
        world = make_world(config=SimulatorConfig(is_quote_expiry_checked_first=True))
        invoice = owe(world)
        world.fault("PATCH", EXECUTE, "timeout_after", times=6)
        drain(world, hours=2)
        assert refund_of(world, invoice).state is RefundState.IN_FLIGHT

        act(world, invoice, "settle")
        drain(world)

        assert len(payouts(world)) == 1
        assert executions(world).count("COMPLETED") == 1


class TestRetryAsksStrike:
    """A payment that Strike may still complete is never replaced by another one."""

    @pytest.mark.parametrize("outcome", ["pending", "completed"])
    def test_of_a_payment_that_did_not_fail(self, world: World, outcome: str) -> None:
        invoice = owe(world, "pending@example.com")
        send(world)
        refund = refund_of(world, invoice)
        if outcome == "completed":
            world.simulator.complete_payment(str(refund.payment_id))
        world.wait(BY_HAND_AFTER.total_seconds())

        with pytest.raises(Conflict, match=f"Strike says that its payment {refund.payment_id} is {outcome.upper()}$"):
            act(world, invoice, "retry")

        world.simulator.complete_payment(str(refund.payment_id))
        drain(world)
        assert len(payouts(world)) == 1
        assert refund_of(world, invoice).state is RefundState.SENT

    @pytest.mark.parametrize("status", [500, 403])
    def test_which_cannot_answer(self, world: World, status: int) -> None:
        invoice = owe(world, "pending@example.com")
        send(world)
        world.wait(BY_HAND_AFTER.total_seconds())
        world.fault("GET", "/v1/payments/*", "error", status=status)

        with pytest.raises(Conflict, match="cannot say at the moment what became of its payment: try again later"):
            act(world, invoice, "retry")

    def test_which_does_not_know_its_payment(self, world: World) -> None:
        invoice = owe(world, "pending@example.com")
        send(world)
        world.simulator.payments.payments.clear()
        world.wait(BY_HAND_AFTER.total_seconds())

        assert act(world, invoice, "retry").state is RefundState.REQUESTED

    def test_before_a_worker_found_its_payment(self, world: World) -> None:
        invoice = owe(world, "pending@example.com")
        send(world)
        world.wait(BY_HAND_AFTER.total_seconds())

        with pytest.raises(Conflict, match="a worker has just found its payment: look at it again"):
            retry(
                world.backend.repository,
                invoice.strike_invoice_id,
                "not in the list",
                world.backend.clock(),
                at_strike=AtStrike(is_time_known=True),
            )


def send_when_due(world: World, invoice: Invoice) -> None:
    world.wait((refund_of(world, invoice).next_attempt_at - world.backend.clock()).total_seconds())
    send(world)


class TestApproval:
    @pytest.mark.parametrize("verb", ["address", "give"])
    @pytest.mark.parametrize("settings", [{"refunds_enabled": False}, {"refund_max_sats": 1}])
    def test_it_is_for_one_address(self, make_world: MakeWorld, verb: str, settings: dict[str, Any]) -> None:
        world = make_world(**settings)
        invoice = owe(world, "unknown@example.com" if verb == "give" else "fail@example.com")
        send(world)
        act(world, invoice, "approve")
        send(world)
        assert refund_of(world, invoice).state is (RefundState.NEEDS_ADDRESS if verb == "give" else RefundState.FAILED)

        act(world, invoice, verb)

        assert send(world) == {RefundState.HELD: 1}
        assert payouts(world) == []
        act(world, invoice, "approve")
        assert send(world) == {RefundState.SENT: 1}
        assert payouts(world)[0].destination == "bob@example.com"

    def test_it_holds_for_the_same_address_and_for_later_tries(self, make_world: MakeWorld) -> None:
        world = make_world(refunds_enabled=False)
        invoice = owe(world, "fail@example.com")
        send(world)
        act(world, invoice, "approve")
        send(world)
        world.simulator.config.payout_behaviours = {"*": "complete"}

        change_address(world.backend.repository, invoice.strike_invoice_id, "fail@example.com", world.backend.clock())

        assert send(world) == {RefundState.SENT: 1}


class TestOverlap:
    def test_a_worker_that_prices_it_while_a_person_settles_it_sends_nothing(self, world: World) -> None:
        invoice = owe(world)
        create = world.backend.strike.create_payment_quote

        def settle_meanwhile(*arguments: Any) -> Any:
            act(world, invoice, "settle")
            return create(*arguments)

        setattr(world.backend.strike, "create_payment_quote", settle_meanwhile)  # noqa: B010

        assert send(world) == {"taken": 1}
        assert executions(world) == []

    def test_a_worker_that_changes_it_at_the_same_time_is_reported(self, world: World) -> None:
        """As on PostgreSQL, where a row can change between our reading and our writing."""
        invoice = owe(world, None)
        repository = world.backend.repository
        plain = repository.transaction

        class Overtaken:
            def __enter__(self) -> Any:
                self.inner = plain()
                tx = self.inner.__enter__()
                setattr(tx.refunds, "restart", lambda *_, **__: None)  # noqa: B010
                return tx

            def __exit__(self, *error: Any) -> Any:
                return self.inner.__exit__(*error)

        setattr(repository, "transaction", Overtaken)  # noqa: B010
        before = refund_of(world, invoice)

        with pytest.raises(Conflict, match="a worker changed this refund at the same time"):
            act(world, invoice, "give")
        assert refund_of(world, invoice) == before


class TestMistakes:
    @pytest.mark.parametrize("verb", ["address", "give"])
    @pytest.mark.parametrize("address", ["", "alice", "alice@localhost", "<script>@example.com", "a" * 2000])
    def test_an_invalid_address_changes_nothing(self, make_world: MakeWorld, verb: str, address: str) -> None:
        world, invoice = in_state(make_world, RefundState.NEEDS_ADDRESS)
        before, now, repository = refund_of(world, invoice), world.backend.clock(), world.backend.repository
        give, who = (give_address, before.token) if verb == "give" else (change_address, invoice.strike_invoice_id)

        with pytest.raises(InvalidRequest) as caught:
            give(repository, who, address, now)

        assert caught.value.errors == {"ln_address": "must be a Lightning address such as name@host, or an LNURL"}
        assert refund_of(world, invoice) == before

    @pytest.mark.parametrize("verb", ["approve", "retry", "settle", "address"])
    def test_an_invoice_without_a_refund_is_reported(self, world: World, verb: str) -> None:
        invoice = world.sell()

        with pytest.raises(Conflict, match="no such refund is owed for this invoice"):
            act(world, invoice, verb)

    @pytest.mark.parametrize("strike_id", ["no-such-id", "", "\x00", "ü" * 50])
    def test_an_unknown_id_is_reported(self, world: World, strike_id: str) -> None:
        with pytest.raises(LnpayError):
            approve(world.backend.repository, strike_id, world.backend.clock())

    @pytest.mark.parametrize("token", ["no-such-token", "\x00", "ü"])
    def test_an_unknown_token_is_reported(self, world: World, token: str) -> None:
        with pytest.raises(NotFound, match="there is no refund at this address"):
            give_address(world.backend.repository, token, ADDRESS, world.backend.clock())


def test_the_hour_outlives_any_claim() -> None:
    assert timedelta(hours=1) == BY_HAND_AFTER > CLAIM


def test_a_retry_of_a_refund_whose_quote_was_lost_leads_to_one_payment(world: World) -> None:
    invoice = owe(world)
    world.fault("POST", QUOTE, "lost_answer")
    send(world)
    world.wait(5)
    send(world)

    act(world, invoice, "retry")
    drain(world)

    assert len(payouts(world)) == 1


def test_without_its_id_a_refund_is_not_chosen_beside_one_that_cannot_be_read(world: World) -> None:
    invoice = sell_paid(world)
    first, second = (refund(world, invoice, key, amount_sats=100, address=None) for key in ("a", "b"))
    with world.backend.repository.engine.begin() as connection:
        connection.execute(text("UPDATE refunds SET amount_fiat = 'much' WHERE id = :id"), {"id": first.id})

    with pytest.raises(UnreadableRow):
        act(world, invoice, "settle")
    settled = settle_by_hand(
        world.backend.repository, invoice.strike_invoice_id, "paid", frozenset(), world.backend.clock(), second.id
    )

    assert settled.id == second.id
