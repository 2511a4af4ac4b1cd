"""python main.py webhooks ...: a secret is printed once, and every action says what it did."""

from __future__ import annotations

import json

import pytest

from lnpay.deliveries.endpoints import list_endpoints
from lnpay.domain.model import WebhookEndpoint
from lnpay.domain.states import EndpointForm, EndpointSetter
from tests.endpoint_shop import add_endpoint, open_shops
from tests.integration.commands.test_commands import run
from tests.world import World

URL = "https://shop.example/hook"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")


def only(world: World) -> WebhookEndpoint:
    (endpoint,) = list_endpoints(world.backend.outbox)
    return endpoint


def test_programs_get_the_id_and_the_secret(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(world, "webhooks", "create", URL, "--form", "btcpay", "--event", "InvoiceSettled", "--json") == 0

    printed = json.loads(capsys.readouterr().out)
    endpoint = only(world)
    assert (printed["id"], printed["secret"]) == (endpoint.public_id, endpoint.secret)
    assert (endpoint.form, endpoint.events, endpoint.wants_everything) == (
        EndpointForm.BTCPAY,
        frozenset({"InvoiceSettled"}),
        False,
    )


def test_people_get_the_same_for_every_event(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(world, "webhooks", "create", "http://192.168.0.7/hook") == 0

    text, endpoint = capsys.readouterr().out, only(world)
    assert f"id      {endpoint.public_id}" in text
    assert f"secret  {endpoint.secret}" in text
    assert (endpoint.form, endpoint.wants_everything) == (EndpointForm.STANDARD, True)
    assert (endpoint.url, endpoint.set_by) == ("http://192.168.0.7/hook", EndpointSetter.OPERATOR)


def test_the_list_shows_everything_but_the_secret(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    shops = open_shops(world)
    endpoint = add_endpoint(world, URL, secret="a-secret-of-the-shop", events=["InvoiceSettled"])
    add_endpoint(world, "https://b.example/", EndpointForm.STANDARD, is_enabled=False)

    assert run(world, "webhooks", "list") == 0
    text = capsys.readouterr().out
    assert "never called" in text
    assert "disabled" in text
    shops.answers[URL] = lambda _: 403
    assert run(world, "webhooks", "test", endpoint.public_id) == 1
    assert "not accepted: the shop answered 403" in capsys.readouterr().out

    assert run(world, "webhooks", "list") == 0
    assert "the shop answered 403" in capsys.readouterr().out
    assert run(world, "webhooks", "list", "--json") == 0
    text = capsys.readouterr().out
    assert "a-secret-of-the-shop" not in text
    first, second = json.loads(text)
    assert (first["url"], first["events"], first["last_status"]) == (URL, ["InvoiceSettled"], 403)
    assert (second["is_enabled"], second["last_answer_at"]) == (False, None)


def test_an_empty_list_says_how_to_fill_it(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(world, "webhooks", "list") == 0

    assert "webhooks create" in capsys.readouterr().out


def test_a_test_message_reports_the_answer(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    shops = open_shops(world)
    endpoint = add_endpoint(world, URL)

    assert run(world, "webhooks", "test", endpoint.public_id) == 0
    assert "accepted: the endpoint answered 200" in capsys.readouterr().out
    assert run(world, "webhooks", "test", endpoint.public_id, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"is_accepted": True, "status": 200, "error": None}
    assert len(shops.calls) == 2


def test_an_endpoint_is_disabled_enabled_and_deleted(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = add_endpoint(world, URL)

    assert run(world, "webhooks", "disable", endpoint.public_id) == 0
    assert not only(world).is_enabled
    assert run(world, "webhooks", "enable", endpoint.public_id) == 0
    assert only(world).is_enabled
    assert run(world, "webhooks", "delete", endpoint.public_id) == 0
    assert list_endpoints(world.backend.outbox) == []
    assert "deleted; nothing more is sent to it" in capsys.readouterr().out


@pytest.mark.parametrize("action", ["delete", "test", "enable", "disable"])
def test_an_invalid_id_is_reported(world: World, capsys: pytest.CaptureFixture[str], action: str) -> None:
    assert run(world, "webhooks", action, "no-such-id") == 1

    assert "there is no webhook endpoint with this id" in capsys.readouterr().out


def test_an_invalid_address_is_reported(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(world, "webhooks", "create", "shop.example") == 1

    assert "url must be an absolute address" in capsys.readouterr().out


def test_messages_are_listed_with_the_endpoint_that_they_are_for(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    shops = open_shops(world)
    shops.answers[URL] = lambda _: 500
    endpoint = add_endpoint(world, URL)
    world.sell()

    assert run(world, "deliveries", "list") == 0
    assert f"InvoiceCreated to {endpoint.public_id}" in capsys.readouterr().out
    run(world, "webhooks", "delete", endpoint.public_id)
    assert run(world, "deliveries", "list", "--state", "withdrawn") == 0
    assert "InvoiceCreated to a deleted endpoint" in capsys.readouterr().out
