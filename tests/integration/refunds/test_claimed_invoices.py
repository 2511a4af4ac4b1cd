"""A customer claims a refund with an invoice (BOLT11) of their wallet: exactly its amount, once, and never lost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from lnpay.domain.addresses import is_payment_request
from lnpay.domain.errors import InvalidRequest
from lnpay.domain.model import Refund
from lnpay.domain.states import HoldCause, RefundState
from lnpay.refunds.by_hand import approve, change_address, give_address
from lnpay.refunds.destinations import LAPSED, LEAST_TIME, MAX_CHARACTERS, parse_destination
from lnpay.sandbox.strike.bolt11_writer import PaymentTerms, write_payment_request
from tests.owing import drain, owe, payouts, send
from tests.refunding import one_refund, refund, refunds_of, sell_paid
from tests.world import World

MakeWorld = Callable[..., World]
R = RefundState
BOLT11_QUOTE = "/v1/payment-quotes/lightning"


def wallet_invoice(world: World, sats: int, seconds: int = 3600) -> str:
    """What the customer's wallet shows under "Receive"."""
    return world.simulator.wallet.ask(world.simulator, sats, seconds).payment_request


def claim(world: World, made: Refund, text: str) -> Refund:
    return give_address(world.backend.repository, made.token, text, world.backend.clock())


def owed(world: World, sats: int = 5_000) -> Refund:
    return refund(world, sell_paid(world), address=None, amount_sats=sats)


@pytest.mark.parametrize("write", [str, str.upper, "lightning:{}".format, "LIGHTNING://{}".format, " {}\n".format])
def test_an_invoice_of_exactly_the_amount_is_paid_once(world: World, write: Callable[[str], str]) -> None:
    made = owed(world)
    text = wallet_invoice(world, 5_000)

    claim(world, made, write(text))
    drain(world)

    sent = one_refund(world, made)
    assert (sent.state, sent.address) == (R.SENT, text)
    assert [(entry.sats, entry.destination) for entry in payouts(world)] == [(5_000, text)]
    assert world.calls(f"POST {BOLT11_QUOTE}") == [f"POST {BOLT11_QUOTE}"]


def test_a_late_payments_refund_can_be_claimed_with_an_invoice_too(world: World) -> None:
    invoice = owe(world, address=None)
    (late,) = refunds_of(world, invoice)

    claim(world, late, wallet_invoice(world, late.amount_sats))
    send(world)

    assert one_refund(world, late).state is R.SENT


@pytest.mark.parametrize("sats", [4_999, 5_001, None])
def test_another_amount_or_none_is_refused_with_what_to_do(world: World, sats: int | None) -> None:
    made = owed(world)
    text = wallet_invoice(world, sats) if sats else amountless(world)

    with pytest.raises(InvalidRequest, match=r"exactly 5,000 sats: create another one") as caught:
        claim(world, made, text)
    assert caught.value.code == "bolt11_amount"
    assert one_refund(world, made) == made


def amountless(world: World) -> str:
    terms = PaymentTerms(None, int(world.backend.clock().timestamp()), 3600, b"h" * 32, b"s" * 32)
    return write_payment_request(terms)


@pytest.mark.parametrize(("seconds", "is_taken"), [(int(LEAST_TIME.total_seconds()), True), (119, False)])
def test_it_must_be_payable_for_a_moment(world: World, seconds: int, *, is_taken: bool) -> None:
    made = owed(world)
    text = wallet_invoice(world, 5_000, seconds)

    if is_taken:
        assert claim(world, made, text).state is R.REQUESTED
    else:
        with pytest.raises(InvalidRequest, match="has expired, or is about to: create another one") as caught:
            claim(world, made, text)
        assert caught.value.code == "bolt11_expired"


def test_damaged_foreign_and_overlong_ones_are_refused(world: World) -> None:
    made = owed(world)
    text = wallet_invoice(world, 5_000)
    damaged = text[:-1] + ("q" if text[-1] != "q" else "p")

    for wrong, code in (
        (damaged, "bolt11_invalid"),
        (text[:-20], "bolt11_invalid"),
        (text + "q" * MAX_CHARACTERS, "bolt11_invalid"),
        ("lntb20m1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygshp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98"
         "klysy043l2ahrqspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqfpp3x9et2e20v6pu37c5d9vax37wxq72un989qrs"
         "gqdj545axuxtnfemtpwkc45hx9d2ft7x04mt8q7y6t0k2dge9e7h8kpy9p34ytyslj3yu569aalz2xdk8xkd7ltxqld94u8h2esmsmacgpghe9k8",
         "bolt11_network"),
    ):  # fmt: skip
        with pytest.raises(InvalidRequest) as caught:
            claim(world, made, wrong)
        assert caught.value.code == code
        assert wrong not in caught.value.message


def test_the_invoice_of_another_refund_is_not_taken_again(world: World) -> None:
    text = wallet_invoice(world, 5_000)
    claim(world, owed(world), text)

    with pytest.raises(InvalidRequest) as caught:
        claim(world, owed(world), text.upper())
    assert caught.value.code == "bolt11_used"


def test_one_that_lapses_before_it_was_paid_returns_to_the_claim(world: World) -> None:
    made = owed(world)
    world.fault("POST", BOLT11_QUOTE, "unreachable", times=None)
    claim(world, made, wallet_invoice(world, 5_000, 600))
    send(world)
    world.wait(3_600)
    world.simulator.faults.remove()

    send(world)

    asking = one_refund(world, made)
    assert (asking.state, asking.reason) == (R.NEEDS_ADDRESS, LAPSED)
    assert payouts(world) == []
    claim(world, asking, wallet_invoice(world, 5_000))
    send(world)
    assert one_refund(world, made).state is R.SENT
    assert len(payouts(world)) == 1


def test_one_whose_payment_fails_until_it_lapses_returns_to_the_claim(make_world: MakeWorld) -> None:
    world = make_world()
    made = owed(world)
    text = wallet_invoice(world, 5_000, 600)
    world.simulator.config.payout_behaviours = {"lnbc*": "fail"}
    claim(world, made, text)

    drain(world, hours=2)

    assert one_refund(world, made).state is R.NEEDS_ADDRESS
    assert payouts(world) == []


def test_one_that_lapses_at_strike_first_returns_to_the_claim(world: World) -> None:
    """This machine's clock may be behind."""
    made = owed(world)
    claim(world, made, wallet_invoice(world, 5_000, 600))
    world.fault("POST", BOLT11_QUOTE, "error", status=422, code="INVALID_STATE_FOR_INVOICE_EXPIRED")

    send(world)

    assert one_refund(world, made).state is R.NEEDS_ADDRESS


def test_one_whose_answer_was_lost_is_paid_once(world: World) -> None:
    made = owed(world)
    claim(world, made, wallet_invoice(world, 5_000))
    world.fault("POST", BOLT11_QUOTE, "lost_answer")
    world.fault("PATCH", "/v1/payment-quotes/*/execute", "lost_answer")

    drain(world)

    assert one_refund(world, made).state is R.SENT
    assert [entry.sats for entry in payouts(world)] == [5_000]


def test_one_that_strike_says_was_paid_waits_for_the_operator_and_then_returns_to_the_claim(world: World) -> None:
    made = owed(world)
    claim(world, made, wallet_invoice(world, 5_000, 600))
    world.fault("POST", BOLT11_QUOTE, "error", status=422, code="LN_INVOICE_PROCESSED")

    send(world)

    held = one_refund(world, made)
    assert (held.state, held.held_because) == (R.HELD, HoldCause.FORKED)
    world.wait(600)
    with world.backend.repository.reading() as tx:
        invoice = tx.invoices.find(held.invoice_id)
    assert invoice is not None
    approve(world.backend.repository, invoice.strike_invoice_id, world.backend.clock())
    send(world)
    assert one_refund(world, made).state is R.NEEDS_ADDRESS
    assert payouts(world) == []


def test_an_operator_can_give_one_too(world: World) -> None:
    invoice = owe(world, address=None)
    (late,) = refunds_of(world, invoice)

    change_address(
        world.backend.repository,
        invoice.strike_invoice_id,
        wallet_invoice(world, late.amount_sats),
        world.backend.clock(),
    )
    send(world)

    assert one_refund(world, late).state is R.SENT


def test_an_operator_cannot_give_that_of_another_refund(world: World) -> None:
    first, second = owe(world, address=None), owe(world, address=None)
    (late,) = refunds_of(world, first)
    text, now = wallet_invoice(world, late.amount_sats), world.backend.clock()
    change_address(world.backend.repository, first.strike_invoice_id, text, now)

    with pytest.raises(InvalidRequest) as caught:
        change_address(world.backend.repository, second.strike_invoice_id, text, now)
    assert caught.value.code == "bolt11_used"


def test_an_address_is_still_an_address(world: World) -> None:
    made = owed(world)
    now = world.backend.clock()

    assert parse_destination(" Lightning:Alice@Example.com ", made, now + timedelta(days=1)) == "alice@example.com"
    for text in (
        "lnbc1@example.com",
        "lnurl1dp68gurn8ghj7",
        "lno1pg",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "",
    ):
        assert not is_payment_request(text)


class TestPage:
    """What the customer sees at /refund/<token>."""

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda world: wallet_invoice(world, 4_999), "This invoice must ask for exactly 5,000 sats."),
            (lambda world: wallet_invoice(world, 5_000, 60), "This invoice has expired, or is about to."),
            (lambda world: wallet_invoice(world, 5_000)[:-3], "This invoice is damaged."),
            (lambda _: "no address", "This is neither a Lightning address nor an LNURL."),
        ],
    )
    def test_a_mistake_is_named_with_what_to_do(self, world: World, make: Callable[[World], str], words: str) -> None:
        made = owed(world)

        answer = world.client.post(f"/refund/{made.token}", data={"ln_address": make(world)})

        assert answer.status_code == 400
        assert words in answer.text
        assert one_refund(world, made).state is R.NEEDS_ADDRESS

    def test_the_claim_and_the_way_of_a_merchants_refund(self, world: World) -> None:
        made = owed(world)

        form = world.client.get(f"/refund/{made.token}").text
        assert "The shop is refunding you 5,000 sats." in form
        assert "an invoice of exactly 5,000 sats" in form
        assert "too late" not in form
        text = wallet_invoice(world, 5_000)
        assert world.client.post(f"/refund/{made.token}", data={"ln_address": text}).status_code == 303
        sending = world.client.get(f"/refund/{made.token}")
        assert "The shop is sending you a refund." in sending.text
        assert text not in sending.text
        assert sending.headers["Refresh"] == "5"
        send(world)
        sent = world.client.get(f"/refund/{made.token}")
        assert "The shop has sent you a refund." in sent.text
        assert "Refresh" not in sent.headers

    def test_a_held_one_says_that_the_shop_must_agree(self, make_world: MakeWorld) -> None:
        world = make_world(refund_max_sats=10)
        made = owed(world)
        claim(world, made, wallet_invoice(world, 5_000))
        send(world)

        assert (
            "Your refund will be sent as soon as the shop approves it."
            in world.client.get(f"/refund/{made.token}").text
        )

    def test_after_the_end_the_page_says_so_and_takes_nothing(self, world: World) -> None:
        made = owed(world)
        world.wait(30 * 86_400)

        page = world.client.get(f"/refund/{made.token}")
        answer = world.client.post(f"/refund/{made.token}", data={"ln_address": "alice@example.com"})

        assert "This refund is no longer available" in page.text
        assert (answer.status_code, "<form" in answer.text) == (409, False)

    def test_the_payment_page_of_a_refunded_order_still_says_paid(self, world: World) -> None:
        invoice = sell_paid(world)
        refund(world, invoice)
        send(world)

        assert "Your payment has arrived" in world.client.get(f"/checkout/{invoice.token}").text
