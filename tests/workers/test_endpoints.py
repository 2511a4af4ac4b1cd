"""Webhook endpoints over real HTTP, told by workers/main_worker.py."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator

import pytest

from lnpay.deliveries.endpoints import create_endpoint
from lnpay.domain.states import EndpointForm, EndpointSetter
from tests.endpoint_shop import FOUR
from tests.integration.http.test_public_address import Listener
from tests.scenarios.live import build_live_backend
from tests.workers.conftest import LIMIT_SECONDS, Cron

WORKER = "main_worker.py"


@pytest.fixture
def plugin() -> Iterator[Listener]:
    """A shop's plugin on this machine."""
    made = Listener()
    yield made
    made.close()


def add_endpoint(cron: Cron, plugin: Listener, by: EndpointSetter) -> None:
    backend = build_live_backend(cron.server.url, cron.database_url, cron.simulator.clock.now)
    try:
        # A key cannot set such an address; it may have been public then.
        url = f"http://127.0.0.1:{plugin.port}/hook"
        endpoint = create_endpoint(backend.outbox, url=url, form=EndpointForm.BTCPAY, by=EndpointSetter.OPERATOR)
        with backend.repository.transaction() as tx:
            tx.webhook_endpoints.update(endpoint.id, endpoint, by)
    finally:
        backend.close()


def test_two_passes_at_once_tell_it_of_each_order_by_four_events_in_order(cron: Cron, plugin: Listener) -> None:
    add_endpoint(cron, plugin, EndpointSetter.OPERATOR)
    for _ in range(3):
        cron.pay(cron.sell())

    workers = [cron.start(WORKER) for _ in range(2)]
    outputs = [worker.communicate(timeout=LIMIT_SECONDS) for worker in workers]

    assert [worker.returncode for worker in workers] == [0, 0], outputs
    heard: dict[str, list[str]] = defaultdict(list)
    for request in plugin.requests:
        body = json.loads(request.partition(b"\r\n\r\n")[2])
        heard[body["invoiceId"]].append(body["type"])
    assert list(heard.values()) == [["InvoiceCreated", *FOUR]] * 3
    assert all(b"BTCPay-Sig: sha256=" in request for request in plugin.requests)


def test_an_address_that_a_key_has_set_is_not_connected_to_on_this_machine(cron: Cron, plugin: Listener) -> None:
    add_endpoint(cron, plugin, EndpointSetter.KEY)
    cron.pay(cron.sell())

    run = cron.run(WORKER)

    assert plugin.requests == []
    assert "delivered=1 refused=1" in run.stdout, run.stderr
    assert cron.run(WORKER, WEBHOOK_ALLOW_PRIVATE="on").returncode == 0
