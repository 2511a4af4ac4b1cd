"""python main.py refunds ...: what an operator reads, and what the exit code says."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

from lnpay.commands import add_commands
from lnpay.domain.errors import LnpayError
from lnpay.domain.model import Invoice
from lnpay.domain.states import LatePayments, RefundState
from lnpay.refunds.outcomes import STUCK
from tests.owing import EXECUTE, drain, owe, payouts, refund_of, send
from tests.world import World


def run(world: World, *arguments: str) -> int:
    """As main.py does: an error is a line of its own, and exit code 1."""
    parser = argparse.ArgumentParser(prog="main.py")
    add_commands(parser.add_subparsers())
    options = parser.parse_args(arguments)
    try:
        return int(options.command(world.backend, options))
    except LnpayError as error:
        print(error.message)
        return 1


def rows(text: str) -> list[list[str]]:
    """The words of each line below the heading."""
    return [line.split() for line in text.splitlines()[1:]]


@pytest.fixture
def stuck(world: World) -> Invoice:
    """A refund of which Strike cannot say any more whether it was sent."""
    invoice = owe(world)
    world.fault("PATCH", EXECUTE, "lost_request", times=6)
    drain(world, hours=2)
    return invoice


class TestList:
    def test_it_shows_what_is_not_sent_and_why(
        self, world: World, stuck: Invoice, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sent, needing = owe(world, "bob@example.com"), owe(world, None)
        send(world)

        assert run(world, "refunds", "list") == 0

        text = capsys.readouterr().out
        assert [row[:6] for row in rows(text)[:1]] == [
            [stuck.strike_invoice_id, stuck.correlation_id, "1", "in_flight", "19,207", "alice@example.com"]
        ]
        assert "Strike was asked to send it and can no longer say whether it did." in " ".join(text.split())
        assert needing.strike_invoice_id in text
        assert sent.strike_invoice_id not in text

    def test_a_state_can_be_chosen(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        sent = owe(world)
        owe(world, None)
        send(world, [RefundState.REQUESTED])

        assert run(world, "refunds", "list", "--state", "sent") == 0

        assert [row[0] for row in rows(capsys.readouterr().out)] == [sent.strike_invoice_id]

    def test_an_unknown_state_is_named_with_those_that_are_known(
        self, world: World, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            run(world, "refunds", "list", "--state", "lost")

        assert caught.value.code == 2
        assert "needs_address" in capsys.readouterr().err

    def test_an_empty_list_says_so(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(world, "refunds", "list") == 0
        assert capsys.readouterr().out == "no refunds are owed\n"
        assert run(world, "refunds", "list", "--state", "sent") == 0
        assert capsys.readouterr().out == "no refunds in this state\n"


class TestShow:
    def test_it_tells_everything_that_was_tried(
        self, world: World, stuck: Invoice, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(world, "refunds", "show", stuck.strike_invoice_id) == 0

        text = capsys.readouterr().out
        assert text.startswith(f"refund of 19,207 sats to alice@example.com is in_flight: {STUCK}")
        words = " ".join(text.split())
        assert "PAYMENT_QUOTE_EXPIRED" in words
        assert str(refund_of(world, stuck).payment_quote_id) in words

    def test_an_invoice_without_a_refund_is_reported(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        invoice = world.sell()

        assert run(world, "refunds", "show", invoice.strike_invoice_id) == 1
        assert capsys.readouterr().out.startswith(f"no refund is owed for order {invoice.correlation_id} ")


class TestActing:
    def test_approve(self, make_world: Callable[..., World], capsys: pytest.CaptureFixture[str]) -> None:
        world = make_world(refunds_enabled=False)
        invoice = owe(world)
        send(world)

        assert run(world, "refunds", "approve", invoice.strike_invoice_id) == 0

        assert capsys.readouterr().out == "refund of 19,207 sats to alice@example.com is requested\n"
        assert send(world) == {RefundState.SENT: 1}

    def test_accept_a_late_payment(self, make_world: Callable[..., World], capsys: pytest.CaptureFixture[str]) -> None:
        world = make_world(late_payments=LatePayments.HOLD)
        invoice = owe(world)
        assert run(world, "refunds", "list") == 0
        # Written into a table, the words are broken into lines.
        assert "held" in capsys.readouterr().out

        assert run(world, "refunds", "accept", invoice.strike_invoice_id) == 0

        expected = "late payment of 19,207 sats accepted: the order is settled, and nothing is refunded\n"
        assert capsys.readouterr().out == expected
        assert run(world, "refunds", "approve", invoice.strike_invoice_id) == 1
        assert send(world).total() == 0

    def test_retry_of_a_stuck_one(self, world: World, stuck: Invoice, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(world, "refunds", "retry", stuck.strike_invoice_id, "--note", "not in the dashboard") == 0
        assert "is requested" in capsys.readouterr().out

        send(world)
        assert len(payouts(world)) == 1

    def test_settle_of_a_stuck_one(self, world: World, stuck: Invoice, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(world, "refunds", "settle", stuck.strike_invoice_id, "--note", "in the dashboard") == 0
        assert "is sent: by hand: in the dashboard" in capsys.readouterr().out

    def test_address(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        invoice = owe(world, None)

        assert run(world, "refunds", "address", invoice.strike_invoice_id, "Bob@example.com") == 0

        assert "to bob@example.com is requested" in capsys.readouterr().out

    def test_an_invalid_address_is_reported(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        invoice = owe(world, None)

        assert run(world, "refunds", "address", invoice.strike_invoice_id, "bob") == 1
        assert capsys.readouterr().out == "this is neither a Lightning address (name@host) nor an LNURL\n"

    @pytest.mark.parametrize("command", [["retry", "ID", "--note", "x"], ["settle", "ID", "--note", "x"]])
    def test_within_the_hour_the_operator_must_wait(
        self, world: World, command: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        invoice = owe(world, "pending@example.com")
        send(world)

        assert run(world, "refunds", *(invoice.strike_invoice_id if word == "ID" else word for word in command)) == 1
        assert capsys.readouterr().out == (
            "this refund is in_flight: a worker may still be sending it: try again an hour after its last execution\n"
        )

    @pytest.mark.parametrize("action", ["retry", "settle"])
    @pytest.mark.parametrize("is_strike_away", [False, True])
    def test_a_clock_that_is_ahead_does_not_end_the_hour(
        self, world: World, action: str, capsys: pytest.CaptureFixture[str], *, is_strike_away: bool
    ) -> None:
        invoice = owe(world, "pending@example.com")
        send(world)
        world.skew_seconds = 7_200
        world.restart()
        if is_strike_away:
            world.fault("*", "/v1/*", "unreachable", times=None)

        assert run(world, "refunds", action, invoice.strike_invoice_id, "--note", "x") == 1

        why = "and Strike's time is unknown" if is_strike_away else "an hour after its last execution"
        assert why in capsys.readouterr().out
        assert refund_of(world, invoice).state is RefundState.IN_FLIGHT

    @pytest.mark.parametrize("action", ["retry", "settle"])
    def test_a_note_is_required(self, world: World, action: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            run(world, "refunds", action, "an-id")

        assert caught.value.code == 2
        assert "--note" in capsys.readouterr().err

    @pytest.mark.parametrize("command", [["show"], ["approve"], ["retry", "--note", "x"], ["settle", "--note", "x"]])
    def test_an_unknown_invoice_is_reported(
        self, world: World, command: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(world, "refunds", *command, "no-such-id") == 1
        assert capsys.readouterr().out.startswith("no invoice is called no-such-id: ")

    @pytest.mark.parametrize("command", [["approve"], ["retry", "--note", "x"], ["settle", "--note", "x"]])
    def test_a_command_about_an_invoice_without_a_refund_says_so(
        self, world: World, command: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        invoice = world.sell()

        assert run(world, "refunds", *command, invoice.strike_invoice_id) == 1
        assert capsys.readouterr().out == "no such refund is owed for this invoice\n"


class TestDeliveries:
    @pytest.mark.parametrize("name", ["z[/b]z", "x[a]y", ":smile:", "[link=x]"])
    def test_an_order_is_listed_under_the_name_that_the_shop_gave_it(
        self, make_world: Callable[..., World], name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        world = make_world(delivery_events=frozenset({"invoice.paid_late"}))
        owe(world, None, correlation_id=name)

        for command in ("deliveries", "refunds"):
            assert run(world, command, "list") == 0
            assert name in capsys.readouterr().out.split()


class TestRedeliver:
    def test_the_shop_is_notified_once_more(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        world.subscribe()
        invoice = world.sell()
        world.pay(invoice)
        world.pump()

        assert run(world, "redeliver", invoice.strike_invoice_id) == 0

        (delivery,) = world.deliveries(invoice)
        assert capsys.readouterr().out == f"{delivery.webhook_id} invoice.settled: delivered\n"

    def test_a_refusal_by_the_shop_is_reported(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        world.subscribe()
        invoice = world.sell()
        world.pay(invoice)
        world.pump()
        world.simulator.shop.answer_with(500, None)

        assert run(world, "redeliver", invoice.strike_invoice_id) == 1
        assert "pending the shop answered 500" in capsys.readouterr().out
