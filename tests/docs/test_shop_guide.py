"""Every piece of code in docs/shop.md, run as it stands there against a live sandbox.

Nothing in the page's files is changed. Only what the reader types is: the ports that this machine has free, and an
order of its own for each language.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from playwright.sync_api import Browser, expect
from standardwebhooks import Webhook
from werkzeug.serving import make_server

from lnpay.deliveries.shop_answer import require_accepted
from lnpay.sandbox.server import wait_until
from tests.sandbox_process import RunningSandbox, free_ports, running_sandbox

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "shop.md").read_text("utf-8")
LIBRARY = "standardwebhooks@1.1.1"
"""What `npm install standardwebhooks` gives in the tests."""

STEPS = re.findall(r"then `([^`]+)`[^\n]*\n\n```(\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
"""(what the reader types, language, the file) of each step, in the order of the page."""

SHELL = re.findall(r"^```sh\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
PAGES = re.findall(r"^```html\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
LANGUAGES = {"python": "python", "js": "node", "php": "php"}
"""Language of a block to the program that must be there."""


def exported(block: str, port: int) -> dict[str, str]:
    """What a block of the page exports in a shell, for a shop on `port`."""
    exports = "\n".join(line for line in block.splitlines() if line.startswith("export "))
    said = subprocess.run(
        ["/bin/bash", "-c", f"{exports}\nexec env -0"], env={}, capture_output=True, text=True, timeout=30, check=True
    )
    pairs = dict(pair.split("=", 1) for pair in said.stdout.split("\0") if pair)
    return {
        name: value.replace("localhost:8000", f"localhost:{port}")
        for name, value in pairs.items()
        if name.isupper() and name not in ("PWD", "SHLVL", "_")
    }


@dataclass(frozen=True)
class Reader:
    """A reader who follows the page, in a folder of their own."""

    sandbox: RunningSandbox
    folder: Path
    language: str
    port: int
    environment: dict[str, str]

    def steps(self) -> list[tuple[str, str]]:
        """(what to type, the file) of the two steps in this language."""
        return [(command, text) for command, language, text in STEPS if language == self.language]

    def save(self, text: str) -> None:
        """Write a file of the page under the name in its first line."""
        name = re.match(r"(?:<\?php )?(?://|#) (\S+)\n", text)
        assert name is not None, text
        (self.folder / name[1]).write_text(text, "utf-8")

    def order(self, order_id: str) -> str:
        """Do the first step. Gives the checkout_url that it prints."""
        command, text = self.steps()[0]
        self.save(text)
        ended = subprocess.run(
            command.replace("1042", order_id).split(" "),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout.strip()

    @contextmanager
    def shop(self) -> Iterator[str]:
        """Do the second step: run the shop until the end of the block. Gives its URL."""
        (_, order), (command, text) = self.steps()
        self.save(order)
        self.save(text)
        log = self.folder / "shop.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command.replace("8000", str(self.port)).split(" "),
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=output,
            )
            try:
                url = f"http://localhost:{self.port}"
                is_up = wait_until(lambda: process.poll() is not None or self.shows("none"), 60)
                assert is_up and process.poll() is None, log.read_text()  # noqa: PT018 - one thing: it runs
                yield url
            finally:
                process.terminate()
                process.wait(30)

    def shows(self, order_id: str) -> str | None:
        """What the shop says of an order; None when it does not answer."""
        try:
            return requests.get(f"http://localhost:{self.port}/orders/{order_id}", timeout=10).text
        except requests.RequestException:
            return None

    def tell(
        self, webhook_id: str, event_type: str, order_id: str, *, secret: str | None = None, **changes: str
    ) -> int:
        """Tell the shop something, as LNPay would; `changes` are fields of data. Gives the status of its answer."""
        data = {
            "correlation_id": f"{order_id}-2",
            "order_id": order_id,
            "amount_fiat": "12.34",
            "currency": "usd",
            **changes,
        }
        body = json.dumps({"type": event_type, "data": data}, separators=(",", ":"))
        now = datetime.now(UTC)
        headers = {
            "Content-Type": "application/json",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(secret or self.environment["DELIVERY_SECRET"]).sign(webhook_id, now, body),
        }
        url = f"http://localhost:{self.port}/webhook"
        return requests.post(url, data=body, headers=headers, timeout=30).status_code


def payment_request(checkout_url: str) -> str:
    """What the customer copies from the payment page."""
    found = re.search(r"lnbc[0-9a-z]+", requests.get(checkout_url, timeout=30).text)
    assert found is not None
    return found[0]


@pytest.fixture(scope="module")
def shop_port() -> int:
    return free_ports()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory, shop_port: int) -> Iterator[RunningSandbox]:
    """The page's first step."""
    with running_sandbox(tmp_path_factory.mktemp("sandbox"), **exported(SHELL[0], shop_port)) as running:
        yield running


@pytest.fixture(params=LANGUAGES)
def reader(request: pytest.FixtureRequest, tmp_path: Path, sandbox: RunningSandbox, shop_port: int) -> Reader:
    """A reader for each language, on a machine that has it."""
    return reader_of(request.param, tmp_path, sandbox, shop_port)


def reader_of(language: str, folder: Path, sandbox: RunningSandbox, shop_port: int) -> Reader:
    """A reader of the page in one language."""
    program = LANGUAGES[language]
    # As in a terminal with the virtual environment active.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if shutil.which(program, path=path) is None:
        pytest.skip(f"{program} is not on this machine, so its part of docs/shop.md is not tested")
    if program == "node":
        _install_library(folder)
    theirs = {**exported(SHELL[1], shop_port), "LNPAY_URL": sandbox.url, "PATH": path, "PORT": str(shop_port)}
    kept = {name: os.environ[name] for name in ("HOME", "TMPDIR", "LANG", "SYSTEMROOT") if name in os.environ}
    return Reader(sandbox, folder, language, shop_port, {**kept, **theirs})


def _install_library(folder: Path) -> None:
    npm = shutil.which("npm")
    command = [npm or "npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), LIBRARY]
    if npm is None or subprocess.run(command, capture_output=True, timeout=300, check=False).returncode != 0:
        pytest.skip(f"npm cannot install {LIBRARY} here, so the Node part of docs/shop.md is not tested")


def test_an_order_goes_from_nothing_to_paid(reader: Reader) -> None:
    with reader.shop():
        order_id = f"1042-{reader.language}"
        checkout_url = reader.order(order_id)
        assert reader.shows(order_id) == "open"

        reader.sandbox.pay(payment_request(checkout_url))

        assert wait_until(lambda: reader.shows(order_id) == "paid", 60)


def test_a_request_sent_again_gives_the_same_invoice(reader: Reader) -> None:
    first, second = (reader.order(f"again-{reader.language}") for _ in range(2))

    assert "/checkout/" in first
    assert first == second


def test_the_shop_believes_only_lnpay(reader: Reader) -> None:
    with reader.shop() as url:
        stranger = "whsec_" + "A" * 32

        assert reader.tell("msg_1", "invoice.settled", "order-9", secret=stranger) == 401
        assert requests.post(f"{url}/webhook", json={"type": "invoice.settled"}, timeout=30).status_code == 401
        assert reader.shows("order-9") == "open"


def test_the_doctor_sees_that_the_shop_accepts_messages(reader: Reader) -> None:
    with reader.shop() as url:
        answer = requests.options(f"{url}/webhook", timeout=30)

    require_accepted(answer.status_code)
    assert "POST" in answer.headers["Allow"]


def test_the_shop_does_nothing_twice_and_only_for_a_settled_invoice(reader: Reader) -> None:
    with reader.shop():
        assert reader.tell("msg_1", "invoice.expired", "order-1") == 204
        assert reader.tell("msg_2", "invoice.settled", "order-2") == 204
        assert reader.tell("msg_2", "invoice.settled", "order-3") == 204

        assert [reader.shows(f"order-{number}") for number in (1, 2, 3)] == ["open", "paid", "open"]


@pytest.mark.parametrize("other", [{"amount_fiat": "0.01"}, {"currency": "jpy"}, {"amount_fiat": "12.3"}])
def test_the_shop_ships_nothing_for_another_amount_or_currency(reader: Reader, other: dict[str, str]) -> None:
    with reader.shop():
        assert reader.tell("msg_1", "invoice.settled", "order-1", **other) == 204
        assert reader.tell("msg_2", "invoice.settled", "order-2") == 204

        assert [reader.shows(f"order-{number}") for number in (1, 2)] == ["open", "paid"]


@pytest.fixture(params=LANGUAGES)
def expiring(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reader]:
    """A reader in a world of their own, whose clock may move: not so far that their shop refuses messages."""
    port = free_ports()
    with running_sandbox(tmp_path, **exported(SHELL[0], port)) as sandbox:
        yield reader_of(request.param, tmp_path, sandbox, port)


def test_an_order_that_expired_is_bought_again_and_the_shop_learns_that_it_is_paid(expiring: Reader) -> None:
    with expiring.shop() as url:
        first = expiring.order("4001")
        expiring.sandbox.wait(130)
        page = requests.get(first, timeout=30).text
        assert "http://localhost:8000/orders/4001/pay" in page

        second = requests.get(f"{url}/orders/4001/pay", allow_redirects=False, timeout=60).headers["Location"]
        assert second != first
        assert expiring.order("4001") == second
        assert expiring.shows("4001") == "open"
        expiring.sandbox.pay(payment_request(second))

        assert wait_until(lambda: expiring.shows("4001") == "paid", 60)
        # What is paid is not sold a third time: the customer sees that it is paid.
        assert expiring.order("4001") == second


@pytest.fixture
def customer(browser: Browser, sandbox: RunningSandbox, shop_port: int) -> Iterator[Any]:
    """A browser, in front of a shop that shows the pages of the guide: the first at /0, the second at /1."""
    environment = exported(SHELL[1], shop_port)
    shop = Flask("shop")

    @shop.get("/<int:number>")
    def show(number: int) -> str:
        order = {"amount_fiat": "12.34", "correlation_id": f"modal-{number}"}
        key = {"Authorization": f"Bearer {environment['LNPAY_KEY']}"}
        made = requests.post(f"{sandbox.url}/generate-invoice", json=order, headers=key, timeout=60).json()
        page: str = PAGES[number].replace("CHECKOUT_URL", made["data"]["checkout_url"])
        return "<!doctype html><title>Shop</title>" + page.replace("http://127.0.0.1:5000", sandbox.url)

    server = make_server("127.0.0.1", shop_port, shop, threaded=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        page = browser.new_page()
        page.set_default_timeout(60_000)
        yield page
        page.close()
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("number", range(len(PAGES)))
def test_the_customer_pays_in_the_modal(customer: Any, sandbox: RunningSandbox, shop_port: int, number: int) -> None:
    customer.goto(f"http://localhost:{shop_port}/{number}")
    customer.get_by_text("Pay with Bitcoin").click()
    frame = customer.frame_locator("dialog iframe")
    frame.locator("svg").first.wait_for()

    (checkout,) = [one.url for one in customer.frames if "/checkout/" in one.url]
    sandbox.pay(payment_request(checkout))

    expect(frame.get_by_text("Paid").first).to_be_visible(timeout=60_000)
    if number == 1:
        expect(customer.get_by_text("Thank you! Your order is on its way.")).to_be_visible(timeout=60_000)


def test_every_language_has_both_steps() -> None:
    assert [language for _, language, _ in STEPS] == [*LANGUAGES, *LANGUAGES]


def test_every_piece_of_code_of_the_page_is_run_by_a_test() -> None:
    blocks = re.findall(r"^```(\w+)$", GUIDE, re.MULTILINE)

    assert len(blocks) == len(STEPS) + len(SHELL) + len(PAGES)
    assert SHELL[0].splitlines()[-1] == "make sandbox"
    assert "sandbox: " in (ROOT / "Makefile").read_text()


def test_both_sides_are_given_the_same_secrets() -> None:
    backend, shop = exported(SHELL[0], 8000), exported(SHELL[1], 8000)

    assert backend["DELIVERY_SECRET"] == shop["DELIVERY_SECRET"]
    assert backend["API_KEYS"] == shop["LNPAY_KEY"]


def test_its_links_within_the_page_lead_somewhere() -> None:
    titles = re.findall(r"^## (.+)$", GUIDE, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}

    assert set(re.findall(r"\]\(#([\w-]+)\)", GUIDE)) == anchors
