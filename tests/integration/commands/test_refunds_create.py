"""`python main.py refunds create`: refund a paid order by command."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from lnpay.domain.errors import InvalidRequest
from lnpay.domain.states import RefundAsker, RefundState
from lnpay.refunds.after_restore import doubt_refunds
from lnpay.refunds.operator_request import read_operator_request
from lnpay.runtime.worker_passes import refund_pass
from tests.integration.commands.test_commands import run
from tests.owing import ADDRESS, payouts, send
from tests.refunding import left_sats, refunds_of, sell_paid
from tests.world import World

Output = pytest.CaptureFixture[str]


def test_the_whole_order_to_an_address(world: World, capsys: Output) -> None:
    invoice = sell_paid(world, correlation_id="1042")

    assert run(world, "refunds", "create", "1042", "--to", ADDRESS) == 0
    assert capsys.readouterr().out.startswith(f"refund of 19,207 sats to {ADDRESS} is requested (refund 1, key ")
    assert [one.asked_by for one in refunds_of(world, invoice)] == [RefundAsker.OPERATOR]
    assert send(world) == {RefundState.SENT: 1}
    assert [entry.destination for entry in payouts(world)] == [ADDRESS]


def test_a_part_by_claim_link(make_world: Callable[..., World], capsys: Output) -> None:
    world = make_world(webhook_url="https://pay.shop.test/webhook")
    invoice = sell_paid(world)

    command = ("refunds", "create", invoice.strike_invoice_id, "--amount", "6.17", "--claim")
    assert run(world, *command) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("refund of 9,60")
    (made,) = refunds_of(world, invoice)
    assert second.endswith(f": https://pay.shop.test/refund/{made.token}")
    assert made.state is RefundState.NEEDS_ADDRESS


def test_a_repeat_with_the_same_key_refunds_once(world: World, capsys: Output) -> None:
    invoice = sell_paid(world)
    command = ("refunds", "create", invoice.strike_invoice_id, "--sats", "5000", "--to", ADDRESS, "--key", "k")
    for _ in range(2):
        assert run(world, *command, "--json") == 0
        answer = json.loads(capsys.readouterr().out)
        assert (answer["id"], answer["amount_sats"], answer["key"]) == (1, 5_000, "k")

    assert left_sats(world, invoice) == 14_207
    assert (
        run(world, "refunds", "create", invoice.strike_invoice_id, "--sats", "6000", "--to", ADDRESS, "--key", "k") == 1
    )


def test_one_of_several_is_canceled_by_its_number(world: World, capsys: Output) -> None:
    invoice = sell_paid(world, correlation_id="1042")
    for sats in ("5000", "6000"):
        run(world, "refunds", "create", "1042", "--sats", sats, "--claim")
    capsys.readouterr()

    assert run(world, "refunds", "cancel", "1042") == 1
    assert capsys.readouterr().out.endswith("name one with --refund (1, 2)\n")
    assert run(world, "refunds", "show", "1042") == 0
    assert "refund of 6,000 sats is needs_address (refund 2)" in capsys.readouterr().out
    for _ in range(2):
        assert run(world, "refunds", "cancel", "1042", "--refund", "2") == 0
        assert capsys.readouterr().out == "refund of 6,000 sats is canceled\n"
    assert [one.state for one in refunds_of(world, invoice)] == [RefundState.NEEDS_ADDRESS, RefundState.CANCELED]
    assert left_sats(world, invoice) == 14_207


def test_after_a_restore_it_is_canceled_once_the_operator_has_checked(world: World, capsys: Output) -> None:
    invoice = sell_paid(world, correlation_id="1042")
    run(world, "refunds", "create", "1042", "--claim")
    with world.backend.repository.transaction() as tx:
        doubt_refunds(tx, world.backend.clock())

    assert run(world, "refunds", "cancel", "1042") == 1
    assert "may have been sent before the database was restored" in capsys.readouterr().out
    assert run(world, "refunds", "cancel", "1042", "--checked") == 0
    assert [one.state for one in refunds_of(world, invoice)] == [RefundState.CANCELED]


def test_the_refund_of_another_order_is_not_canceled(world: World, capsys: Output) -> None:
    sell_paid(world, correlation_id="1041")
    other = sell_paid(world, correlation_id="1042")
    run(world, "refunds", "create", "1042", "--claim")

    assert run(world, "refunds", "cancel", "1041", "--refund", "1") == 1
    assert [one.state for one in refunds_of(world, other)] == [RefundState.NEEDS_ADDRESS]


@pytest.mark.parametrize(
    "options",
    [
        ("--sats", "19208", "--to", ADDRESS),
        ("--sats", "1.5", "--to", ADDRESS),
        ("--amount", "nothing", "--to", ADDRESS),
        ("--amount", "", "--to", ADDRESS),
        ("--amount", "", "--claim"),
        ("--amount", "", "--price", "today", "--to", ADDRESS),
        ("--sats", "", "--to", ADDRESS),
        ("--to", ADDRESS, "--key", ""),
        ("--to", "nonsense"),
        ("--price", "today", "--to", ADDRESS),
        ("--to", ADDRESS, "--key", "k" * 201),
    ],
)
def test_what_cannot_be_refunded_is_refused(world: World, options: tuple[str, ...], capsys: Output) -> None:
    invoice = sell_paid(world)

    assert run(world, "refunds", "create", invoice.strike_invoice_id, *options) == 1
    assert capsys.readouterr().out
    assert refunds_of(world, invoice) == []


def test_an_amount_in_two_units_is_refused(world: World) -> None:
    """The command line and the page offer one of them; neither may win silently for another caller."""
    invoice = sell_paid(world)

    with pytest.raises(InvalidRequest, match="not both"):
        read_operator_request(invoice, request_key="k", amount="6.17", sats="5000", address=ADDRESS)


def test_an_unpaid_order_is_refused(world: World) -> None:
    invoice = world.sell()

    assert run(world, "refunds", "create", invoice.strike_invoice_id, "--to", ADDRESS) == 1


def test_today_s_price_can_make_the_sats(world: World, capsys: Output) -> None:
    invoice = sell_paid(world)
    command = ("refunds", "create", invoice.strike_invoice_id, "--amount", "5", "--price", "today", "--to", ADDRESS)

    assert run(world, *command, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["basis"], answer["price"] is None) == ("today_price", False)


def test_a_claim_lasts_as_long_as_it_should_though_our_clock_is_behind(world: World) -> None:
    invoice = sell_paid(world)
    world.skew_seconds = -40 * 86_400
    world.restart()

    assert run(world, "refunds", "create", invoice.strike_invoice_id, "--claim") == 0

    world.skew_seconds = 0
    world.restart()
    refund_pass(world.backend)
    assert [one.state for one in refunds_of(world, invoice)] == [RefundState.NEEDS_ADDRESS]
