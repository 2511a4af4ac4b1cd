"""webhook_settings.py against a provider over real HTTP: as a command of its own, and called in this process."""

from __future__ import annotations

import hmac
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

import webhook_settings
from config import settings as settings_module
from lnpay.sandbox.faults import Fault
from lnpay.sandbox.server import SandboxServer, wait_until
from lnpay.sandbox.simulator import Simulator
from lnpay.sandbox.strike.models import AccountEvent, Subscription
from lnpay.strike.client import SUBSCRIBED_EVENTS
from tests.scenarios.live import ask, build_live_backend, free_port, serving

ROOT = Path(__file__).resolve().parent.parent
KEY = "strike-key-of-these-tests"
SECRET = "first-webhook-secret"
OTHER_SECRET = "second-webhook-secret"
URL = "https://pay.shop.example/webhook"
NO_ID = str(uuid.UUID(int=7))


class Terminal:
    """webhook_settings.py in this process, with what it prints and a person who gives prepared answers."""

    def __init__(self, simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
        self.simulator = simulator
        self._capsys = capsys
        self.asked: list[str] = []
        self.out = self.err = ""

    def run(self, *arguments: str, answers: list[str] | None = None) -> int:
        """Exit code. Without `answers` there is no terminal; when they run out, the terminal is closed."""
        left = list(answers or [])

        def ask(question: str) -> str:
            self.asked.append(question)
            if not left:
                raise EOFError
            return left.pop(0)

        try:
            code = webhook_settings.main(arguments, ask=ask, is_terminal=answers is not None)
        except SystemExit as error:
            code = int(error.code or 0)
        self.out, self.err = self._capsys.readouterr()
        for secret in (KEY, SECRET, OTHER_SECRET):
            assert secret not in self.out + self.err + "".join(self.asked)
        return code

    @property
    def subscriptions(self) -> list[Subscription]:
        """What the provider has."""
        return list(self.simulator.webhooks.subscriptions.values())

    def subscribed(self) -> Subscription:
        """The only subscription, made as a merchant makes it."""
        assert self.run("subscribe") == 0, self.err
        [made] = self.subscriptions
        return made

    def answer_json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(seed=1)


@pytest.fixture
def environ(simulator: Simulator, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a merchant whose Strike is the simulator."""
    with SandboxServer(simulator) as server:
        yield {
            "LNPAY_ENV_FILE": str(tmp_path / "no.env"),
            "STRIKE_API_KEY": KEY,
            "STRIKE_API_URL": f"{server.url}/v1",
            "WEBHOOK_SECRET": SECRET,
            "WEBHOOK_URL": URL,
            "DATABASE_URL": f"sqlite:///{tmp_path}/calls.sqlite",
        }


@pytest.fixture
def terminal(
    simulator: Simulator,
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Terminal:
    monkeypatch.setattr(settings_module, "ENV_FILE", tmp_path / "no.env")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return Terminal(simulator, capsys)


class TestSubscribe:
    def test_asks_for_our_events_at_our_address_with_our_secret(self, terminal: Terminal) -> None:
        made = terminal.subscribed()

        assert (made.url, made.secret, made.is_enabled) == (URL, SECRET, True)
        assert set(made.event_types) == set(SUBSCRIBED_EVENTS)
        assert made.subscription_id in terminal.out
        assert "Subscribed" in terminal.out

    def test_a_second_time_it_repairs_the_first_subscription(
        self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = terminal.subscribed()
        first.is_enabled, first.event_types = False, ["invoice.created"]
        monkeypatch.setenv("WEBHOOK_SECRET", OTHER_SECRET)

        assert terminal.run("subscribe") == 0

        [now] = terminal.subscriptions
        assert now.subscription_id == first.subscription_id
        assert (now.secret, now.is_enabled) == (OTHER_SECRET, True)
        assert set(now.event_types) == set(SUBSCRIBED_EVENTS)

    def test_the_same_address_in_other_letters_is_the_same(
        self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        terminal.subscribed()
        monkeypatch.setenv("WEBHOOK_URL", "https://PAY.shop.example:443/webhook")

        assert terminal.run("subscribe") == 0

        assert len(terminal.subscriptions) == 1

    def test_another_address_of_the_account_is_left_alone(
        self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        terminal.subscribed()
        monkeypatch.setenv("WEBHOOK_URL", "https://other.example/webhook")

        assert terminal.run("subscribe") == 0

        assert [one.url for one in terminal.subscriptions] == [URL, "https://other.example/webhook"]

    def test_of_two_with_our_address_the_enabled_one_is_kept_and_the_other_named(self, terminal: Terminal) -> None:
        first = terminal.subscribed()
        first.url = "https://for-a-moment.example/webhook"
        assert terminal.run("subscribe") == 0
        second = terminal.subscriptions[1]
        first.url, first.is_enabled, second.secret = URL, False, "not-what-is-set-here"

        assert terminal.run("subscribe") == 0

        assert second.secret == SECRET
        assert first.subscription_id in terminal.err
        assert "unsubscribe" in terminal.err

    def test_after_a_lost_answer_it_can_be_repeated(self, terminal: Terminal) -> None:
        terminal.simulator.faults.add(Fault("POST", "/v1/subscriptions", "lost_answer"))

        assert terminal.run("subscribe") == 1
        assert "may or may not have been done" in terminal.err

        assert terminal.run("subscribe") == 0
        assert len(terminal.subscriptions) == 1

    def test_without_address_and_secret_it_names_both(
        self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("WEBHOOK_URL")
        monkeypatch.delenv("WEBHOOK_SECRET")

        assert terminal.run("subscribe") == 1

        assert "WEBHOOK_URL is missing" in terminal.err
        assert "WEBHOOK_SECRET is missing" in terminal.err
        assert terminal.subscriptions == []


class TestList:
    def test_nothing_yet_says_how_to_begin(self, terminal: Terminal) -> None:
        assert terminal.run("list") == 0

        assert "python webhook_settings.py subscribe" in terminal.out

    def test_a_table_with_whole_ids_that_marks_ours(self, terminal: Terminal) -> None:
        made = terminal.subscribed()

        assert terminal.run("list") == 0

        assert made.subscription_id in terminal.out
        assert f"{URL} (this LNPay)" in terminal.out
        assert all(event in terminal.out for event in SUBSCRIBED_EVENTS)

    @pytest.mark.parametrize("arguments", [("list", "--json"), ("--json", "list")])
    def test_as_json(self, terminal: Terminal, arguments: tuple[str, ...]) -> None:
        made = terminal.subscribed()

        assert terminal.run(*arguments) == 0

        [shown] = terminal.answer_json()
        assert shown["id"] == made.subscription_id
        assert set(shown) == {"id", "webhookUrl", "webhookVersion", "enabled", "created", "eventTypes"}

    def test_a_secret_that_strike_should_send_back_is_not_shown(self, terminal: Terminal) -> None:
        terminal.subscribed()
        fault = Fault("GET", "/v1/subscriptions", "field_changed", field="0.secret", value=SECRET, times=2)
        terminal.simulator.faults.add(fault)

        # `run` looks for the secret.
        assert terminal.run("list") == 0
        assert terminal.run("list", "--json") == 0
        assert fault.hits == 2

    def test_odd_letters_in_an_address_do_not_reach_the_terminal(self, terminal: Terminal) -> None:
        terminal.subscribed().url = "https://evil.example/\x1b[2J[red]x/webhook"

        assert terminal.run("list") == 0

        assert "\x1b" not in terminal.out
        assert "[red]x" in terminal.out

    @pytest.mark.parametrize("field", ["id", "webhookUrl", "enabled", "created", "eventTypes"])
    @pytest.mark.parametrize("value", [None, 1.5, [["nested"], {}, None], {"a": 1.5}])
    def test_an_odd_subscription_hides_no_other(self, terminal: Terminal, field: str, value: object) -> None:
        terminal.subscribed().url = "https://other.example/webhook"
        assert terminal.run("subscribe") == 0
        fault = Fault("GET", "/v1/subscriptions", "field_changed", field=f"0.{field}", value=value, times=None)
        terminal.simulator.faults.add(fault)

        for arguments in (("list",), ("list", "--json"), ("subscribe",), ("test",)):
            assert terminal.run(*arguments) == 0, terminal.err
            assert terminal.run(answers=["t", "q"]) == 0
        assert f"{URL} (this LNPay)" in terminal.out

    @pytest.mark.parametrize("value", [7, True, [["nested"], {}, None], {"a": 1.5}])
    def test_events_of_ours_that_cannot_be_read_are_missing(self, terminal: Terminal, value: object) -> None:
        terminal.subscribed()
        fault = Fault("GET", "/v1/subscriptions", "field_changed", field="0.eventTypes", value=value, times=None)
        terminal.simulator.faults.add(fault)

        assert terminal.run("list") == 0
        assert terminal.run("test") == 1
        assert "lacks invoice.updated" in terminal.err


class TestUpdate:
    def test_disables_and_enables(self, terminal: Terminal) -> None:
        made = terminal.subscribed()

        assert terminal.run("update", made.subscription_id, "--disable") == 0
        assert [one.is_enabled for one in terminal.subscriptions] == [False]

        assert terminal.run("update", made.subscription_id, "--enable", "--json") == 0
        assert [one.is_enabled for one in terminal.subscriptions] == [True]
        assert terminal.answer_json()["enabled"] is True

    def test_changes_the_address_and_nothing_else(self, terminal: Terminal) -> None:
        made = terminal.subscribed()

        assert terminal.run("update", made.subscription_id, "--url", "https://new.example/webhook") == 0

        assert (made.url, made.secret, made.is_enabled) == ("https://new.example/webhook", SECRET, True)

    def test_gives_strike_the_secret_that_is_set_now(self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        made = terminal.subscribed()
        monkeypatch.setenv("WEBHOOK_SECRET", OTHER_SECRET)

        assert terminal.run("update", made.subscription_id, "--rotate-secret") == 0

        assert made.secret == OTHER_SECRET

    @pytest.mark.parametrize(
        ("arguments", "word"),
        [
            ((NO_ID,), "say what to change"),
            ((NO_ID, "--url", "http://shop.example/webhook"), "https"),
            ((NO_ID, "--url", "https://shop.example/other"), "must end in /webhook"),
            ((NO_ID, "--enable", "--disable"), "not allowed"),
            (("12", "--enable"), "is not the id of a subscription"),
            ((), "ID"),
        ],
    )
    def test_a_wrong_command_line_is_exit_2(self, terminal: Terminal, arguments: tuple[str, ...], word: str) -> None:
        assert terminal.run("update", *arguments) == 2

        assert word in terminal.err


class TestUnsubscribe:
    def test_asks_first_and_names_the_address(self, terminal: Terminal) -> None:
        made = terminal.subscribed()

        assert terminal.run("unsubscribe", made.subscription_id, answers=["y"]) == 0

        assert terminal.subscriptions == []
        assert URL in terminal.asked[0]

    @pytest.mark.parametrize("answers", [["n"], [""], ["delete"], []])
    def test_anything_but_yes_leaves_it(self, terminal: Terminal, answers: list[str]) -> None:
        made = terminal.subscribed()

        assert terminal.run("unsubscribe", made.subscription_id, answers=answers) == 1

        assert terminal.subscriptions == [made]
        assert "Nothing was changed" in terminal.err

    def test_without_a_terminal_it_wants_yes(self, terminal: Terminal) -> None:
        made = terminal.subscribed()

        assert terminal.run("unsubscribe", made.subscription_id) == 2
        assert "--yes" in terminal.err
        assert terminal.subscriptions == [made]

        assert terminal.run("unsubscribe", made.subscription_id, "--yes", "--json") == 0
        assert terminal.answer_json() == {"id": made.subscription_id, "deleted": True}
        assert terminal.subscriptions == []

    @pytest.mark.parametrize("arguments", [("unsubscribe", NO_ID), ("unsubscribe", NO_ID, "--yes")])
    def test_an_unknown_id_is_reported(self, terminal: Terminal, arguments: tuple[str, ...]) -> None:
        assert terminal.run(*arguments, answers=["y"]) == 1

        assert "no subscription with this id" in terminal.err
        assert terminal.asked == []


class TestWhatStrikeRefuses:
    def test_a_wrong_key(self, terminal: Terminal) -> None:
        terminal.simulator.config.api_keys = {"another-key": ["*"]}

        assert terminal.run("list") == 1

        assert "rejects STRIKE_API_KEY" in terminal.err

    def test_a_key_without_the_scope(self, terminal: Terminal) -> None:
        terminal.simulator.config.api_keys = {KEY: ["partner.invoice.read"]}

        assert terminal.run("list") == 1

        assert "partner.webhooks.manage" in terminal.err

    def test_an_unknown_id(self, terminal: Terminal) -> None:
        assert terminal.run("update", NO_ID, "--enable") == 1

        assert "no subscription with this id" in terminal.err

    def test_one_subscription_too_many(self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        made = terminal.subscribed()
        for number in range(49):
            terminal.simulator.webhooks.subscriptions[str(number)] = made
        monkeypatch.setenv("WEBHOOK_URL", "https://fifty-first.example/webhook")

        assert terminal.run("subscribe") == 1

        assert "at most 50 subscriptions" in terminal.err
        assert "trace id" in terminal.err

    @pytest.mark.parametrize(
        ("fault", "sentence"),
        [
            (Fault("*", "/v1/*", "error", status=400, code="INVALID_DATA"), "rejects these values"),
            (Fault("*", "/v1/*", "error", status=409, code="SOMETHING_NEW"), "Strike answered 409 SOMETHING_NEW."),
            (Fault("*", "/v1/*", "error", status=503, code="MAINTENANCE_MODE"), "nothing was changed. Try again later"),
            (Fault("*", "/v1/*", "html403"), "edge proxy"),
            (Fault("*", "/v1/*", "rate_limited", seconds=90), "Try again in 90 seconds"),
            (Fault("*", "/v1/*", "unreachable"), "did not answer"),
            (Fault("*", "/v1/*", "garbage"), "not valid JSON"),
        ],
        ids=lambda value: value.kind + str(value.status) if isinstance(value, Fault) else "",
    )
    def test_each_refusal_is_one_sentence(self, terminal: Terminal, fault: Fault, sentence: str) -> None:
        terminal.simulator.faults.add(fault)

        assert terminal.run("list") == 1

        assert sentence in terminal.err
        assert terminal.err.count("\n") == 1
        assert terminal.out == ""

    def test_a_lock_out_is_remembered_by_the_next_call(self, terminal: Terminal) -> None:
        terminal.simulator.faults.add(Fault("*", "/v1/*", "rate_limited", seconds=90))
        assert terminal.run("list") == 1

        assert terminal.run("list") == 1

        assert "Strike asked to wait" in terminal.err

    def test_strike_not_there(self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STRIKE_API_URL", "http://127.0.0.1:1/v1")

        assert terminal.run("list") == 1

        assert "could not be reached" in terminal.err

    def test_wrong_settings_are_named(self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CURRENCY", "euro")

        assert terminal.run("list") == 1

        assert "CURRENCY" in terminal.err


class TestMenu:
    def test_subscribes_and_ends(self, terminal: Terminal) -> None:
        assert terminal.run(answers=["s", "q"]) == 0

        assert len(terminal.subscriptions) == 1
        assert "There is no subscription" in terminal.out
        assert "Subscribed" in terminal.out

    def test_the_only_subscription_needs_no_number(self, terminal: Terminal) -> None:
        made = terminal.subscribed()

        assert terminal.run(answers=["d", "q"]) == 0
        assert made.is_enabled is False
        made.secret = "not-what-is-set-here"
        assert terminal.run(answers=["e", "r", "u", "y", "q"]) == 0
        assert (made.is_enabled, made.secret) == (True, SECRET)
        assert terminal.subscriptions == []

    def test_of_several_the_person_chooses_by_number(self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        first = terminal.subscribed()
        monkeypatch.setenv("WEBHOOK_URL", "https://other.example/webhook")
        assert terminal.run("subscribe") == 0

        assert terminal.run(answers=["d", "3", "d", "2", "q"]) == 0

        assert [one.is_enabled for one in terminal.subscriptions] == [True, False]
        assert first.is_enabled
        assert "not in the list" in terminal.err

    def test_what_fails_is_said_and_the_menu_goes_on(self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("WEBHOOK_URL")
        fault = Fault("DELETE", "/v1/subscriptions/*", "error", status=500)
        terminal.simulator.faults.add(fault)

        assert terminal.run(answers=["s", "x", "e", "", "q"]) == 0

        assert "WEBHOOK_URL is missing" in terminal.err
        assert "'x' is not a choice" in terminal.err
        assert "choose s" in terminal.err

    def test_a_refused_call_in_the_menu_is_a_sentence(self, terminal: Terminal) -> None:
        terminal.subscribed()
        terminal.simulator.faults.add(Fault("PATCH", "/v1/*", "error", status=500))

        assert terminal.run(answers=["e", "q"]) == 0

        assert "may or may not have been done" in terminal.err

    def test_a_closed_terminal_ends_it(self, terminal: Terminal) -> None:
        assert terminal.run(answers=[]) == 0

    def test_without_a_terminal_it_is_usage_and_exit_2(self, terminal: Terminal) -> None:
        assert terminal.run() == 2

        assert "usage:" in terminal.err
        assert terminal.out == ""


class TestTest:
    def happened(self, terminal: Terminal, *, age: timedelta = timedelta(minutes=5)) -> AccountEvent:
        """Something of which Strike should tell, a while ago."""
        with terminal.simulator.lock:
            event = terminal.simulator.webhooks.emit("invoice.updated", NO_ID, ["state"])
            event.created_at -= age
        return event

    def test_nothing_is_subscribed(self, terminal: Terminal) -> None:
        assert terminal.run("test") == 1

        assert f"no subscription for {URL}: `subscribe`" in terminal.err

    def test_nothing_has_happened_yet(self, terminal: Terminal) -> None:
        terminal.subscribed()

        assert terminal.run("test") == 0

        assert "pay an invoice for a small amount" in terminal.out

    def test_the_newest_call_did_not_arrive(self, terminal: Terminal) -> None:
        terminal.subscribed()
        self.happened(terminal)

        assert terminal.run("test") == 1

        assert re.search(rf"invoice\.updated +{NO_ID} +refused", terminal.out)
        assert "did not arrive (0 of the last 1 did)" in terminal.err
        assert "doctor" in terminal.err
        assert "another subscriber" not in terminal.err

    def test_of_two_subscribers_the_other_may_be_the_one(
        self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        terminal.subscribed()
        monkeypatch.setenv("WEBHOOK_URL", "https://other.example/webhook")
        assert terminal.run("subscribe") == 0
        self.happened(terminal)

        assert terminal.run("test") == 1

        assert "another subscriber" in terminal.err

    def test_a_call_of_this_minute_is_not_judged(self, terminal: Terminal) -> None:
        terminal.subscribed()
        self.happened(terminal, age=timedelta())

        assert terminal.run("test") == 0

        assert "trying" in terminal.out

    @pytest.mark.parametrize(("is_enabled", "events"), [(False, SUBSCRIBED_EVENTS), (True, ("invoice.updated",))])
    def test_a_subscription_that_cannot_do_is_said(
        self, terminal: Terminal, is_enabled: bool, events: tuple[str, ...]
    ) -> None:
        made = terminal.subscribed()
        made.is_enabled, made.event_types = is_enabled, list(events)

        assert terminal.run("test") == 1

        assert ("lacks payment.created, payment.updated" if is_enabled else "is disabled") in terminal.err
        assert "`subscribe`" in terminal.err

    def test_as_json_it_says_the_same(self, terminal: Terminal) -> None:
        terminal.subscribed()
        event = self.happened(terminal)

        assert terminal.run("test", "--json") == 1

        answer = terminal.answer_json()
        assert answer["arrive"] is False
        assert answer["message"] + "\n" == terminal.err
        assert answer["events"] == [
            {
                "created": event.created_at.isoformat(),
                "eventType": "invoice.updated",
                "entityId": NO_ID,
                "arrival": "refused",
            }
        ]

    def test_without_settings_for_it_it_names_them(self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("WEBHOOK_SECRET")

        assert terminal.run("test") == 1

        assert "WEBHOOK_SECRET is missing" in terminal.err

    def test_in_the_menu(self, terminal: Terminal) -> None:
        terminal.subscribed()

        assert terminal.run(answers=["t", "q"]) == 0

        assert "pay an invoice for a small amount" in terminal.out


class Server:
    """LNPay with no worker: what it knows of a payment it knows from a call. One restart for each change of secrets."""

    def __init__(self, terminal: Terminal, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._terminal, self._environ, self._monkeypatch = terminal, environ, monkeypatch
        self._port = free_port()
        self._running = ExitStack()
        monkeypatch.setenv("WEBHOOK_URL", f"http://127.0.0.1:{self._port}/webhook")

    def restart(self, secret: str, old: str = "") -> None:
        """Write these secrets into the settings, and restart."""
        self._monkeypatch.setenv("WEBHOOK_SECRET", secret)
        self._monkeypatch.setenv("WEBHOOK_SECRET_OLD", old)
        self.stop()
        world = self._environ["STRIKE_API_URL"].removesuffix("/v1")
        backend = build_live_backend(
            world,
            self._environ["DATABASE_URL"],
            self._terminal.simulator.clock.now,
            webhook_secret=secret,
            webhook_secret_old=old,
        )
        self.url = self._running.enter_context(serving(backend, self._port))

    def stop(self) -> None:
        self._running.close()

    def sees_a_payment(self) -> bool:
        """Whether LNPay learns of a new payment from Strike's call."""
        made = ask(self.url).json()["data"]
        self._terminal.simulator.pay_invoice(made["quote"]["lnInvoice"])
        address = f"{self.url}/invoices/{made['invoice']['invoiceId']}"
        return wait_until(lambda: requests.get(address, timeout=5).json()["state"] == "settled")

    def takes_a_call_signed_with(self, secret: str) -> bool:
        """Whether a call that was signed before the change is taken when it comes late."""
        body = b'{"eventType": "invoice.created", "data": {}}'
        headers = {"X-Webhook-Signature": hmac.digest(secret.encode(), body, "sha256").hex()}
        return requests.post(f"{self.url}/webhook", data=body, headers=headers, timeout=5).ok


@pytest.fixture
def server(terminal: Terminal, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server(terminal, environ, monkeypatch)
    yield made
    made.stop()


class TestRotation:
    def test_no_call_is_lost_while_the_secret_is_changed(self, terminal: Terminal, server: Server) -> None:
        server.restart(SECRET)
        made = terminal.subscribed()
        assert server.sees_a_payment()

        # Strike still signs with the old one.
        server.restart(OTHER_SECRET, old=SECRET)
        assert server.sees_a_payment()

        assert terminal.run("update", made.subscription_id, "--rotate-secret") == 0
        assert made.secret == OTHER_SECRET
        assert server.sees_a_payment()
        assert server.takes_a_call_signed_with(SECRET)

        server.restart(OTHER_SECRET)
        assert server.sees_a_payment()
        assert not server.takes_a_call_signed_with(SECRET)

        assert terminal.run("test") == 0
        assert "Strike's calls arrive: 4 of the last 4 did" in terminal.out


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(environ: dict[str, str], tmp_path: Path) -> Command:
    """webhook_settings.py as a process of its own, called from another folder."""

    def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "webhook_settings.py"), *arguments],
            env={**os.environ, **environ, **changes},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


class TestAsACommand:
    def test_subscribe_list_unsubscribe(self, command: Command, simulator: Simulator) -> None:
        assert command("subscribe").returncode == 0
        listed = command("list", "--json")
        [shown] = json.loads(listed.stdout)
        assert (shown["webhookUrl"], listed.stderr) == (URL, "")

        assert command("unsubscribe", shown["id"]).returncode == 2
        assert command("unsubscribe", shown["id"], "--yes").returncode == 0

        assert simulator.webhooks.subscriptions == {}

    def test_a_refusal_is_one_line_and_exit_1(self, command: Command, simulator: Simulator) -> None:
        simulator.config.api_keys = {"another-key": ["*"]}

        ended = command("list")

        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr.count("\n") == 1
        assert KEY not in ended.stderr

    def test_bare_without_a_terminal(self, command: Command) -> None:
        ended = command()

        assert (ended.returncode, ended.stdout) == (2, "")
        assert "usage: webhook_settings.py" in ended.stderr

    def test_help_needs_no_settings(self, command: Command) -> None:
        ended = command("--help", STRIKE_API_KEY="")

        assert ended.returncode == 0
        assert all(word in ended.stdout for word in ("list", "subscribe", "update", "unsubscribe", "test"))

    def test_a_table_in_a_pipe_is_plain_ascii(self, command: Command) -> None:
        assert command("subscribe").returncode == 0

        listed = command("list", PYTHONIOENCODING="ascii:strict")

        assert listed.returncode == 0
        assert listed.stdout.isascii()
        assert "\x1b" not in listed.stdout
