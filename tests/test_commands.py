"""main.py's command line: what an operator does by hand, and how a start that cannot be is refused."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lnpay.commands import add_commands
from lnpay.deliveries.send import send_due
from lnpay.domain.errors import Conflict, NotFound
from lnpay.domain.model import Invoice
from lnpay.domain.states import RefundState
from lnpay.refunds.send import send_due_refunds
from tests.world import World

ROOT = Path(__file__).resolve().parent.parent


class Operator:
    """An operator who types `python main.py ...` while no server runs."""

    def __init__(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        self.world = world
        self._capsys = capsys
        self.out = ""

    def run(self, *arguments: str) -> int:
        """Exit code; what was printed is in `out`."""
        parser = argparse.ArgumentParser()
        add_commands(parser.add_subparsers())
        options = parser.parse_args(arguments)
        code: int = options.command(self.world.backend, options)
        self.out = self._capsys.readouterr().out
        return code

    def paid_late(self, **fields: str) -> Invoice:
        """An invoice that was paid too late, whose refund was tried once."""
        invoice = self.world.sell(**fields)
        self.world.pay(invoice, late_seconds=300)
        self.world.pump()
        self.work()
        return self.world.invoice(invoice.strike_invoice_id)

    def work(self) -> None:
        """What the server's thread or a worker does."""
        send_due_refunds(self.world.backend.refund_sender)

    def sell_and_pay(self, order: str) -> Invoice:
        """An order that was paid in time; the shop has been called about it once."""
        invoice = self.world.sell(correlation_id=order)
        self.world.pay(invoice)
        self.world.pump()
        send_due(self.world.backend.outbox)
        return invoice

    def refund_state(self, invoice: Invoice) -> RefundState:
        with self.world.backend.repository.reading() as tx:
            refund = tx.refunds.find_by_invoice(invoice.id)
        assert refund is not None
        return refund.state


@pytest.fixture
def operator(world: World, capsys: pytest.CaptureFixture[str]) -> Operator:
    world.subscribe()
    return Operator(world, capsys)


class TestHelp:
    @pytest.mark.parametrize("command", [("doctor",), ("refunds",), ("refunds", "settle"), ("webhooks", "disable")])
    def test_a_command_says_what_it_does(self, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
        parser = argparse.ArgumentParser()
        add_commands(parser.add_subparsers())

        with pytest.raises(SystemExit):
            parser.parse_args((*command, "--help"))

        usage, words, *_ = capsys.readouterr().out.split("\n\n")
        assert command[-1] in usage
        assert not words.startswith(("options:", "positional arguments:"))


class TestRedeliver:
    def test_tells_the_shop_once_more_under_the_same_id(self, operator: Operator) -> None:
        invoice = operator.world.sell()
        operator.world.pay(invoice)
        operator.world.pump()

        assert operator.run("redeliver", invoice.strike_invoice_id) == 0
        assert operator.run("redeliver", invoice.strike_invoice_id) == 0

        first, second = operator.world.simulator.shop.accepted()
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert f"{first.headers['webhook-id']} invoice.settled: delivered" in operator.out

    def test_is_exit_1_and_says_why_when_the_shop_refuses(self, operator: Operator) -> None:
        invoice = operator.world.sell()
        operator.world.pay(invoice)
        operator.world.pump()
        operator.world.simulator.shop.answer_with(500, 1)

        assert operator.run("redeliver", invoice.strike_invoice_id) == 1

        assert "pending the shop answered 500" in operator.out

    def test_an_invoice_that_owes_nothing(self, operator: Operator) -> None:
        with pytest.raises(NotFound):
            operator.run("redeliver", operator.world.sell().strike_invoice_id)


class TestDeliveries:
    def test_the_list_shows_what_the_shop_has_not_taken_and_why(self, operator: Operator) -> None:
        assert operator.run("deliveries", "list") == 0
        assert operator.out == "the shop has accepted every message\n"
        operator.sell_and_pay("4001")
        operator.world.simulator.shop.answer_with(500, 1)
        refused = operator.sell_and_pay("4002")

        assert operator.run("deliveries", "list") == 0

        [line] = [line for line in operator.out.splitlines() if "4002" in line]
        assert refused.strike_invoice_id in line
        assert "invoice.settled" in line
        assert "the shop answered 500" in line
        assert "4001" not in operator.out

    def test_one_that_was_given_up_is_listed_first_and_never_comes(self, operator: Operator) -> None:
        for order, status in (("4001", 410), ("4002", 500)):
            operator.world.simulator.shop.answer_with(status, 1)
            operator.sell_and_pay(order)

        assert operator.run("deliveries", "list") == 0

        _, first, second = operator.out.splitlines()
        assert "4001" in first
        assert "abandoned" in first
        assert " never " in first
        assert "pending" in second

    def test_a_state_can_be_asked_for(self, operator: Operator) -> None:
        operator.sell_and_pay("4001")

        assert operator.run("deliveries", "list", "--state", "abandoned") == 0
        assert operator.out == "no messages in this state\n"
        assert operator.run("deliveries", "list", "--state", "delivered") == 0
        assert "4001" in operator.out

    def test_the_list_of_one_order_has_what_the_shop_has_taken_too(self, operator: Operator) -> None:
        operator.sell_and_pay("4001")
        other = operator.sell_and_pay("4002")

        assert operator.run("deliveries", "list", "4002") == 0

        assert other.strike_invoice_id in operator.out
        assert "delivered" in operator.out
        assert "4001" not in operator.out
        assert operator.run("deliveries", "list", other.strike_invoice_id, "--state", "abandoned") == 0
        assert operator.out == f"no abandoned message about order 4002 (invoice {other.strike_invoice_id})\n"

    def test_show_gives_every_message_about_an_order(self, operator: Operator) -> None:
        invoice = operator.world.sell(correlation_id="4001")

        assert operator.run("deliveries", "show", "4001") == 0
        assert f"no message has been created about order 4001 (invoice {invoice.strike_invoice_id})" in operator.out
        operator.world.pay(invoice)
        operator.world.pump()
        assert operator.run("deliveries", "show", invoice.strike_invoice_id) == 0
        assert "invoice.settled" in operator.out


class TestNames:
    """Every command that is about one order takes the shop's id of it as well as Strike's."""

    COMMANDS = (
        ("deliveries", "list"), ("deliveries", "show"), ("redeliver",), ("refunds", "show"), ("refunds", "approve"),
        ("refunds", "address", "a@b.example"), ("refunds", "retry", "--note", "seen"),
        ("refunds", "settle", "--note", "seen"),
    )  # fmt: skip

    @staticmethod
    def named(command: tuple[str, ...], name: str) -> tuple[str, ...]:
        """The command line about `name`."""
        verbs, more = command[:2], command[2:]
        return (*verbs, name, *more) if command[0] != "redeliver" else ("redeliver", name)

    @pytest.mark.parametrize("command", COMMANDS)
    @pytest.mark.parametrize("name", ["", "4001", "'; --", "é", "\ud800", "x" * 5_000])
    def test_an_unknown_name_is_reported(self, operator: Operator, command: tuple[str, ...], name: str) -> None:
        with pytest.raises(NotFound, match="no invoice is called"):
            operator.run(*self.named(command, name))

    @pytest.mark.parametrize("command", COMMANDS)
    def test_a_name_of_two_invoices_changes_nothing_and_names_both(
        self, operator: Operator, command: tuple[str, ...]
    ) -> None:
        first = operator.paid_late()
        second = operator.paid_late(correlation_id=first.strike_invoice_id)

        with pytest.raises(Conflict) as raised:
            operator.run(*self.named(command, first.strike_invoice_id))

        for invoice in (first, second):
            assert f"  {invoice.strike_invoice_id}  paid_late" in raised.value.message
            assert operator.refund_state(invoice) is RefundState.NEEDS_ADDRESS

    def test_an_order_s_refund_is_shown_addressed_and_settled(self, operator: Operator) -> None:
        invoice = operator.paid_late(correlation_id="Order 4001")

        assert operator.run("refunds", "show", "Order 4001") == 0
        assert "is needs_address" in operator.out
        assert operator.run("refunds", "address", " Order 4001 ", "customer@wallet.example") == 0
        operator.work()
        assert operator.refund_state(invoice) is RefundState.SENT

    def test_an_order_is_delivered_again(self, operator: Operator) -> None:
        operator.sell_and_pay("4001")

        assert operator.run("redeliver", "4001") == 0

        assert len(operator.world.simulator.shop.accepted()) == 2


class TestRefunds:
    def test_the_list_shows_whole_ids_of_what_is_not_sent_and_why(self, operator: Operator) -> None:
        assert operator.run("refunds", "list") == 0
        assert operator.out == "no refunds are owed\n"
        waiting = operator.paid_late()
        sent = operator.paid_late(ln_address="customer@wallet.example")

        assert operator.run("refunds", "list") == 0

        assert waiting.strike_invoice_id in operator.out
        assert sent.strike_invoice_id not in operator.out

        assert operator.run("refunds", "list", "--state", "sent") == 0
        assert sent.strike_invoice_id in operator.out

    def test_show_tells_everything_that_was_tried(self, operator: Operator) -> None:
        invoice = operator.paid_late(ln_address="customer@wallet.example")

        assert operator.run("refunds", "show", invoice.strike_invoice_id) == 0

        assert "to customer@wallet.example is sent" in operator.out
        assert "execute" in operator.out

    def test_show_of_an_invoice_without_a_refund(self, operator: Operator) -> None:
        assert operator.run("refunds", "show", operator.world.sell().strike_invoice_id) == 1

        assert "no refund is owed" in operator.out

    def test_approve_sends_a_held_one_once(self, operator: Operator) -> None:
        operator.world.restart(refunds_enabled=False)
        invoice = operator.paid_late(ln_address="customer@wallet.example")
        assert operator.refund_state(invoice) is RefundState.HELD

        assert operator.run("refunds", "approve", invoice.strike_invoice_id) == 0
        operator.work()

        assert operator.refund_state(invoice) is RefundState.SENT
        with pytest.raises(Conflict):
            operator.run("refunds", "approve", invoice.strike_invoice_id)

    def test_address_sends_one_that_had_none(self, operator: Operator) -> None:
        invoice = operator.paid_late(ln_address="no address")

        assert operator.run("refunds", "address", invoice.strike_invoice_id, "customer@wallet.example") == 0
        operator.work()

        assert "to customer@wallet.example is requested" in operator.out
        assert operator.refund_state(invoice) is RefundState.SENT

    def test_settle_closes_one_that_was_paid_back_otherwise(self, operator: Operator) -> None:
        invoice = operator.paid_late()

        assert operator.run("refunds", "settle", invoice.strike_invoice_id, "--note", "paid in cash") == 0
        operator.work()

        assert "is sent: by hand: paid in cash" in operator.out
        assert operator.world.simulator.ledger.sent() == 0

    def test_retry_is_for_what_was_not_sent(self, operator: Operator) -> None:
        invoice = operator.paid_late(ln_address="customer@wallet.example")

        with pytest.raises(Conflict):
            operator.run("refunds", "retry", invoice.strike_invoice_id, "--note", "the dashboard shows nothing")

        assert operator.world.simulator.ledger.sent() == invoice.received_sats

    @pytest.mark.parametrize(
        "arguments", [("refunds",), ("refunds", "settle", "x"), ("refunds", "list", "--state", "y")]
    )
    def test_a_wrong_command_line_is_exit_2(self, operator: Operator, arguments: tuple[str, ...]) -> None:
        with pytest.raises(SystemExit) as ended:
            operator.run(*arguments)

        assert ended.value.code == 2


def start(*arguments: str, folder: Path, script: str = "main.py", **environ: str) -> subprocess.Popen[str]:
    """python main.py, or another script, without the settings of the user who runs the tests."""
    clean = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "SYSTEMROOT") if name in os.environ}
    nowhere = "http://127.0.0.1:1"
    settings = {
        "LNPAY_ENV_FILE": os.devnull,
        "STRIKE_API_KEY": "k",
        "DATABASE_URL": f"sqlite:///{folder}/invoices.sqlite",
        **dict.fromkeys(("STRIKE_API_URL", "COINGECKO_API_URL", "COINBASE_API_URL"), nowhere),
    }
    return subprocess.Popen(
        [sys.executable, str(ROOT / script), *arguments],
        env={**clean, **settings, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that is in use."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


class TestStart:
    def test_a_taken_port_is_one_line_that_says_how_to_choose_another(self, tmp_path: Path, taken_port: int) -> None:
        out, err = start(folder=tmp_path, PORT=str(taken_port)).communicate(timeout=60)

        assert (out, err.count("\n")) == ("", 1)
        assert f"127.0.0.1:{taken_port}" in err
        assert "PORT=5050" in err

    def test_a_taken_port_of_the_sandbox_too(self, tmp_path: Path, taken_port: int) -> None:
        out, err = start("--sandbox", folder=tmp_path, PORT=str(taken_port - 1)).communicate(timeout=60)

        assert (out, err.count("\n")) == ("", 1)
        assert f"127.0.0.1:{taken_port}" in err
        assert "PORT=5050" in err

    def test_every_wrong_setting_is_named(self, tmp_path: Path) -> None:
        process = start(folder=tmp_path, PORT="many", CURRENCY="usdollar")

        out, err = process.communicate(timeout=60)

        assert (process.returncode, out) == (1, "")
        assert "PORT" in err
        assert "CURRENCY" in err
        assert "Traceback" not in err

    def test_a_wrong_port_of_the_sandbox_is_named(self, tmp_path: Path) -> None:
        process = start("--sandbox", folder=tmp_path, PORT="many")

        _, err = process.communicate(timeout=60)

        assert process.returncode == 1
        assert 'PORT is "many"' in err

    @pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to catch")
    def test_sigterm_ends_it_in_order(self, tmp_path: Path) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            free = other.getsockname()[1]
        process = start("--with-workers", folder=tmp_path, PORT=str(free))
        assert process.stdout is not None
        assert f"http://127.0.0.1:{free}" in process.stdout.readline()

        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)

        assert process.returncode == 0
        assert "Traceback" not in err
