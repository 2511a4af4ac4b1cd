"""What README and docs say is what the code does: states, settings, routes, errors, commands, and the first request."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image
from standardwebhooks import Webhook

import key_generator
import main
import webhook_settings
from config import settings as settings_module
from config.settings import load_settings
from lnpay.deliveries.send import PAUSES
from lnpay.domain import errors, events
from lnpay.domain.events import EventType
from lnpay.domain.states import (
    DELIVERY_MOVES,
    INVOICE_MOVES,
    REFUND_MOVES,
    DeliveryState,
    InvoiceState,
    RefundState,
)
from lnpay.web import errors as web_errors
from lnpay.web.api.schemas import GenerateInvoice
from tests.docs.pages import EVERYTHING, PAGES, ROOT, anchors, section, without_code
from tests.world import World

NO_FILE = Path("no such file")
PLACEHOLDERS = {"ORDER": "x", "LN_ADDRESS": "a@b.example", "TEXT": "seen", "STATE": "held"}
NAMED_FILE = re.compile(r"(?<![\w./-])(?:workers|docs|config|lnpay|tests|\.ci)/[\w./-]+\w")
MAKE = re.compile(r"(?:`|^ {4,}|^)(?:PYTHON=\S+ |PORT=\d+ )?make ([a-z]+)\b(?=[^\n]*`|[^`\n]*$)", re.MULTILINE)
LINKS = sorted(
    (page, link)
    for page, text in PAGES.items()
    for link in {*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'(?:src|href)="([^"]+)"', without_code(text))}
    if not link.startswith(("https://", "http://"))
)
"""Every link to another page or heading, by the page that has it."""


def rows(text: str) -> list[list[str]]:
    """Cells of the tables in a text, without their headings."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = {number - 1 for number, line in enumerate(lines) if set(line) <= set("|-: ")}
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for number, line in enumerate(lines)
        if number not in heads and number - 1 not in heads
    ]


def words(cell: str) -> list[str]:
    """What a cell has in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def json_blocks(text: str) -> list[Any]:
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]


@pytest.mark.parametrize(
    ("title", "states", "moves"),
    [
        ("Invoice", InvoiceState, INVOICE_MOVES),
        ("Refund", RefundState, REFUND_MOVES),
        ("Delivery", DeliveryState, DELIVERY_MOVES),
    ],
)
def test_the_states_are_the_code_s(
    title: str, states: type[StrEnum], moves: Mapping[StrEnum, frozenset[StrEnum]]
) -> None:
    shown = {words(state)[0]: set(words(after)) for state, _, after in rows(section(title))}

    assert shown == {str(state): {str(after) for after in moves[state]} for state in states}


class TestSettings:
    def shown(self) -> dict[str, str]:
        return {words(name)[0]: (words(default) or [default])[0] for name, default, _ in rows(section("Settings"))}

    def test_every_setting_is_named(self) -> None:
        reader = settings_module._Reader({"STRIKE_API_KEY": "k"}, [])
        settings_module._read_settings(reader, Path())

        assert sorted(self.shown()) == sorted(reader.names)

    def test_the_defaults_are_the_code_s(self) -> None:
        named = {name: "" if default in ("empty", "required") else default for name, default in self.shown().items()}

        assert load_settings({**named, "STRIKE_API_KEY": "k"}, NO_FILE) == load_settings(
            {"STRIKE_API_KEY": "k"}, NO_FILE
        )
        assert [name for name, default in self.shown().items() if default == "required"] == ["STRIKE_API_KEY"]


def test_every_route_is_named(world: World) -> None:
    tables = (section("Routes"), section("The routes of shop plugins"))
    shown = {words(request)[0] for table in tables for request, _ in rows(table)}

    served = {
        f"{method} {rule.rule}"
        for rule in world.client.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.endpoint != "static"
    }
    assert shown == served


def test_the_error_codes_are_the_code_s() -> None:
    shown = {(int(status), code) for status, codes, _ in rows(section("Errors")) for code in words(codes)}

    # A conflict always comes with a word of its own.
    kinds = [kind for kind in errors.kinds_of() if kind.__module__ == errors.__name__]
    ours = {(kind.http_status, kind.code) for kind in kinds if kind.http_status and kind.code != "conflict"}
    ours |= {(status, code) for status, (code, _) in web_errors.HTTP_WORDS.items()}
    assert ours <= shown
    source = "".join(file.read_text("utf-8") for file in (ROOT / "lnpay").rglob("*.py"))
    assert all(f'"{code}"' in source for _, code in shown)
    assert errors.LnpayError.code in {code for _, code in shown}


def test_the_delays_are_those_of_the_code() -> None:
    said = re.search(r"delays of (.*?)\. ", section("Notifications").replace("\n", " "))
    assert said is not None
    units = {"s": "seconds", "min": "minutes", "h": "hours"}

    pauses = re.findall(r"(\d+) (s|min|h)\b", said[1])

    assert tuple(timedelta(**{units[unit]: int(number)}) for number, unit in pauses) == PAUSES
    assert f"{len(PAUSES)} times" in section("Notifications")


def test_the_types_of_message_are_the_code_s() -> None:
    table = rows(section("Notifications"))[: len(EventType)]

    assert {words(kind)[0]: words(status)[0] for kind, status, _ in table} == {
        str(kind): status for kind, (status, _) in events.WORDS.items()
    }


def test_the_fields_of_an_order_are_the_code_s() -> None:
    assert [words(field)[0] for field, _ in rows(section("Make an invoice"))] == list(GenerateInvoice.model_fields)


class TestCommands:
    @pytest.mark.parametrize("line", sorted(set(re.findall(r"python main\.py([^`#\n&|)]*)", EVERYTHING))))
    def test_main_knows_it(self, line: str) -> None:
        arguments = [PLACEHOLDERS.get(word, word) for word in shlex.split(line)]
        if arguments[1:] == ["ACTION"]:
            return
        if arguments == ["--version"]:
            with pytest.raises(SystemExit) as ended:
                main._parse(arguments)
            assert ended.value.code == 0
            return

        assert vars(main._parse(arguments))

    @pytest.mark.parametrize("line", sorted(set(re.findall(r"webhook_settings\.py([^`#;\n]*)", EVERYTHING))))
    def test_webhook_settings_knows_it(self, line: str) -> None:
        arguments = ["00000000-0000-0000-0000-000000000000" if word == "ID" else word for word in shlex.split(line)]

        assert vars(webhook_settings._parser().parse_args(arguments))

    @pytest.mark.parametrize("line", sorted(set(re.findall(r"key_generator\.py([^`#\n]*)", EVERYTHING))))
    def test_key_generator_knows_it(self, line: str) -> None:
        assert vars(key_generator._parser().parse_args(shlex.split(line)))

    @pytest.mark.parametrize("target", sorted(set(MAKE.findall(EVERYTHING))))
    def test_make_knows_it(self, target: str) -> None:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE), target

    def test_a_worker_knows_watch(self) -> None:
        helped = subprocess.run(
            [sys.executable, str(ROOT / "workers" / "main_worker.py"), "--help"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )

        assert "--watch SECONDS" in helped.stdout


class TestReadme:
    TEXT = PAGES["README.md"]

    def test_it_is_short(self) -> None:
        assert len(self.TEXT.splitlines()) <= 200

    def test_it_leads_to_every_page(self) -> None:
        pages = {page for page in PAGES if page not in ("README.md", "docs/index.md")}

        assert pages <= set(re.findall(r"\]\(([^)#]+)\)", self.TEXT))

    def test_it_names_the_scopes_of_going_live(self) -> None:
        scopes = re.findall(r"`(partner\.[\w.-]+)`", self.TEXT)

        assert len(scopes) == 11
        assert re.findall(r"`(partner\.[\w.-]+)`", PAGES["docs/going-live.md"]) == scopes


class TestWhatItPointsTo:
    @pytest.mark.parametrize("path", sorted(set(NAMED_FILE.findall(EVERYTHING))))
    def test_the_file_is_there(self, path: str) -> None:
        assert (ROOT / path).exists() or path in ("config/.env", "config/local/delivery.py"), path

    @pytest.mark.parametrize(("page", "link"), LINKS)
    def test_the_link_leads_somewhere(self, page: str, link: str) -> None:
        path, _, fragment = link.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page

        assert file.exists()
        assert not fragment or fragment in anchors(file.read_text("utf-8"))

    def test_the_pictures_are_light(self) -> None:
        assert all(file.stat().st_size < 100_000 for file in (ROOT / "docs" / "images").iterdir())

    def test_the_picture_of_the_readme_moves(self) -> None:
        [picture] = re.findall(r"!\[.+\]\((\S+)\)", PAGES["README.md"])

        with Image.open(ROOT / picture) as opened:
            assert getattr(opened, "n_frames", 1) == 3  # order, pay, paid


@pytest.fixture(scope="module")
def sandbox() -> Iterator[str]:
    """URL of LNPay in a sandbox that was started as the README says, on a port of its own."""
    port = free_pair_of_ports()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), "--sandbox"],
        env={**os.environ, "PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://localhost:{port}"
    try:
        wait_for(f"{url}/readyz")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)
        for file in ROOT.glob(f"sandbox-{port}.sqlite*"):
            file.unlink()


def free_pair_of_ports() -> int:
    for _ in range(100):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port
    raise AssertionError("no two free ports in a row")


def wait_for(url: str) -> None:
    for _ in range(150):
        try:
            if requests.get(url, timeout=2).ok:
                return
        except requests.RequestException:
            time.sleep(0.1)
    raise AssertionError(f"{url} did not answer in time")


def curl(line: str, url: str) -> Any:
    """Run a page's line against `url`. Where there is no curl, what it says is sent all the same."""
    arguments = shlex.split(line.replace("http://localhost:5000", url))
    if shutil.which("curl"):
        return json.loads(subprocess.run([*arguments, "--silent", "--fail"], capture_output=True, check=True).stdout)
    method, address, header, body = (arguments[number] for number in (2, 3, 5, 7))
    name, _, value = header.partition(": ")
    answer = requests.request(method, address, headers={name: value}, data=body, timeout=30)
    answer.raise_for_status()
    return answer.json()


class TestInTheSandbox:
    LINE = re.compile(r"^    (curl -X POST http://localhost:5000/generate-invoice .*)$", re.MULTILINE)

    def test_the_curl_of_the_first_request_gives_what_is_shown(self, sandbox: str) -> None:
        text = section("First request")
        line = self.LINE.search(text)
        assert line is not None
        [shown] = json_blocks(text)

        answer = curl(line[1], sandbox)

        assert answer["status"] == "success"
        assert set(answer["data"]) == set(shown["data"])
        for part in ("invoice", "quote"):
            assert set(shown["data"][part]) <= set(answer["data"][part])
        assert answer["data"]["invoice"]["correlationId"] == "abc123xyz"

    def test_the_curl_of_every_other_page_makes_an_invoice(self, sandbox: str) -> None:
        lines = {page: line for page, text in PAGES.items() for line in self.LINE.findall(text)}

        assert set(lines) == {"README.md", "docs/api.md", "docs/windows.md"}
        for page in ("docs/api.md", "docs/windows.md"):
            assert curl(lines[page], sandbox)["status"] == "success"

    def test_what_the_shop_gets_and_asks_is_what_is_shown(self, sandbox: str) -> None:
        base, _, port = sandbox.rpartition(":")
        simulator = f"{base}:{int(port) + 1}"
        order = {"amount_fiat": "12.50", "correlation_id": "ok-1", "metadata": {"table": 7}}
        made = requests.post(f"{sandbox}/generate-invoice", json=order, timeout=30).json()["data"]
        payment = {"payment_request": made["quote"]["lnInvoice"]}
        requests.post(f"{simulator}/_control/pay", json=payment, timeout=30).raise_for_status()

        deliveries: list[Any] = []
        for _ in range(100):
            deliveries = requests.get(f"{simulator}/_control/deliveries", timeout=30).json()
            if deliveries:
                break
            time.sleep(0.1)
        [told] = deliveries
        state = requests.get(f"{sandbox}/invoices/{made['invoice']['invoiceId']}", timeout=30).json()

        [body] = json_blocks(section("Notifications"))
        assert keys_of(told["json"]) == keys_of(body)
        assert told["json"]["data"]["metadata"] == body["data"]["metadata"]
        headers = [words(name)[0] for name, _ in rows(section("Headers"))]
        assert {"webhook-id", "webhook-timestamp"} <= set(headers) & set(told["headers"])
        shown = next(block for block in json_blocks(section("Routes")) if "invoice_id" in block)
        assert (keys_of(state), state["state"]) == (keys_of(shown), shown["state"])


def keys_of(value: Any) -> Any:
    """The shape of a JSON object: its keys, with the shapes below them."""
    return {name: keys_of(one) for name, one in value.items()} if isinstance(value, dict) else None


class Ordered:
    """An order of the shop that docs/notifications.md's receiver serves."""

    amount, currency = "12.34", "usd"
    is_shipped = False

    def ship(self) -> None:
        self.is_shipped = True


def receive(order: Ordered, **changes: str) -> None:
    """Run the receiver of "Notifications" with a signed message about `order`; `changes` are fields of its data."""
    (receiver,) = re.findall(r"```python\n(.*?)```", section("Notifications"), re.DOTALL)
    secret, now = "whsec_" + "A" * 32, datetime.now(UTC)
    data = {"correlation_id": "1042-2", "order_id": "1042", "amount_fiat": "12.34", "currency": "usd", **changes}
    body = json.dumps({"type": "invoice.settled", "data": data})
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", now, body),
    }
    # The page's own code, run as it stands there.
    exec(receiver, {"DELIVERY_SECRET": secret, "body": body, "headers": headers, "orders": {"1042": order}})  # noqa: S102


def test_its_receiver_ships_a_paid_order() -> None:
    order = Ordered()

    receive(order)

    assert order.is_shipped


@pytest.mark.parametrize("other", [{"amount_fiat": "0.01"}, {"currency": "jpy"}])
def test_its_receiver_ships_nothing_for_another_amount_or_currency(other: dict[str, str]) -> None:
    order = Ordered()

    with pytest.raises(ValueError, match="not the price"):
        receive(order, **other)

    assert not order.is_shipped
