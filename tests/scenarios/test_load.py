"""Many customers at once, over real HTTP."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests

from lnpay.domain.money import btc_to_sats
from lnpay.repository import Repository
from lnpay.sandbox import (
    SandboxServer,
    Simulator,
    SimulatorConfig,
    VirtualClock,
)
from tests.scenarios.live import ask, build_live_backend, main_process, serving

CLIENTS = 32
INVOICES = 500


def order(number: int) -> dict[str, Any]:
    """The fields of order `number`; each has an amount of its own."""
    return {"correlation_id": f"order-{number}", "amount_fiat": f"{10 + number / 100:.2f}"}


def test_500_invoices_made_by_32_clients_at_once_are_all_there_and_all_different(tmp_path: Path) -> None:
    database_url = f"sqlite:///{tmp_path}/invoices.sqlite"
    simulator = Simulator(seed=1, config=SimulatorConfig(rate_limits="off"))

    with (
        SandboxServer(simulator) as provider,
        main_process(provider.url, database_url, tmp_path / "log") as url,
        ThreadPoolExecutor(CLIENTS) as clients,
        requests.Session() as session,
    ):
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=CLIENTS))
        answers = list(clients.map(lambda number: ask(url, session, **order(number)), range(INVOICES)))

    assert {answer.status_code for answer in answers} == {200}
    shown = [answer.json()["data"] for answer in answers]
    assert len({one["invoice"]["invoiceId"] for one in shown}) == INVOICES
    assert len({one["quote"]["lnInvoice"] for one in shown}) == INVOICES
    assert len(simulator.invoices.by_id) == INVOICES
    repository = Repository(database_url)
    with repository.reading() as tx:
        for number, one in enumerate(shown):
            ours = tx.invoices.find_by_strike_id(one["invoice"]["invoiceId"])
            theirs = simulator.invoices.by_id[one["invoice"]["invoiceId"]]
            assert ours is not None
            assert ours.correlation_id == f"order-{number}"
            assert str(theirs.correlation_id).startswith(f"order-{number}.")
            assert ours.order.amount_fiat == Decimal(order(number)["amount_fiat"])
            assert ours.amount_sats == theirs.amount.units == theirs.quotes[0].sats
            assert ours.amount_sats == btc_to_sats(one["quote"]["sourceAmount"]["amount"])
            assert ours.issue.bolt11 == theirs.quotes[0].payment_request == one["quote"]["lnInvoice"]
    repository.close()


def test_32_clients_that_ask_for_the_same_order_get_the_same_invoice(tmp_path: Path) -> None:
    simulator = Simulator(seed=1, config=SimulatorConfig(rate_limits="off"))

    with (
        SandboxServer(simulator) as provider,
        main_process(provider.url, f"sqlite:///{tmp_path}/invoices.sqlite", tmp_path / "log") as url,
        ThreadPoolExecutor(CLIENTS) as clients,
    ):
        answers = list(clients.map(lambda number: ask(url, **order(number % 4)), range(2 * CLIENTS)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["data"]["quote"]["lnInvoice"] for answer in answers}) == 4
    assert len(simulator.invoices.by_id) == 4


def test_what_exceeds_the_providers_limit_waits_and_then_succeeds(tmp_path: Path) -> None:
    simulator = Simulator(clock=VirtualClock(running=False), seed=1)
    database_url = f"sqlite:///{tmp_path}/invoices.sqlite"

    with (
        SandboxServer(simulator) as provider,
        serving(build_live_backend(provider.url, database_url, simulator.clock.now)) as url,
    ):
        with ThreadPoolExecutor(8) as clients:
            first = list(clients.map(lambda number: ask(url, **order(number)), range(330)))
        refused = [number for number, answer in enumerate(first) if answer.status_code == 503]
        waits = {int(first[number].headers["Retry-After"]) for number in refused}
        assert {answer.status_code for answer in first} == {200, 503}
        assert len(refused) == 330 - 250
        assert max(waits) <= 60

        simulator.clock.advance(max(waits))
        again = [ask(url, **order(number)) for number in refused]

    assert {answer.status_code for answer in again} == {200}
    shown = [answer.json()["data"] for answer in (*first, *again) if answer.ok]
    assert len({one["invoice"]["invoiceId"] for one in shown}) == 330
    assert len({one["quote"]["lnInvoice"] for one in shown}) == 330


def test_customers_whose_browsers_keep_connections_open_do_not_keep_the_shop_out(tmp_path: Path) -> None:
    with (
        SandboxServer(Simulator(seed=1)) as provider,
        main_process(provider.url, f"sqlite:///{tmp_path}/invoices.sqlite", tmp_path / "log") as url,
        ExitStack() as browsers,
    ):
        for _ in range(200):
            browser = browsers.enter_context(requests.Session())
            assert browser.get(f"{url}/healthz", timeout=5).ok

        assert ask(url).status_code == 200
