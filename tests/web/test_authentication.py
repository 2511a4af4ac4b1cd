"""API keys over HTTP: what each permits, on every server, from its creation to its revocation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event
from werkzeug.test import TestResponse

from lnpay.access.api_keys import CreatedKey, create_key, list_keys, revoke_key
from lnpay.domain.permissions import GRANTABLE, KeyPurpose, Permission, Permissions
from lnpay.web import create_app
from lnpay.web.authentication import require, require_key
from tests.web.answers import assert_error
from tests.world import World

SETTINGS_KEY = "a-shop-key-for-the-tests"


def key_of(world: World, *permissions: Permission) -> CreatedKey:
    chosen: Permissions = permissions or GRANTABLE
    return create_key(world.backend.repository, KeyPurpose.CUSTOM, "My shop", world.backend.clock(), permissions=chosen)


def call(client: FlaskClient, method: str, path: str, authorization: str | None) -> TestResponse:
    headers = {} if authorization is None else {"Authorization": authorization}
    body: dict[str, Any] = {"json": {"amount_fiat": "5.00"}} if method == "POST" else {}
    return client.open(path, method=method, headers=headers, **body)


class TestKeys:
    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "token", "Token", "TOKEN"])
    def test_a_key_opens_every_route_that_its_permissions_cover(self, world: World, scheme: str) -> None:
        authorization = f"{scheme} {key_of(world).secret}"

        made = call(world.client, "POST", "/generate-invoice", authorization)
        invoice_id = made.get_json()["data"]["invoice"]["invoiceId"]

        assert call(world.client, "GET", f"/invoices/{invoice_id}", authorization).status_code == 200
        assert call(world.client, "GET", "/invoices?order_id=none", authorization).status_code == 200

    @pytest.mark.parametrize(
        ("method", "path", "needed"),
        [
            ("POST", "/generate-invoice", Permission.CREATE_INVOICE),
            ("GET", "/invoices?order_id=1", Permission.VIEW_INVOICES),
            ("GET", "/invoices/none", Permission.VIEW_INVOICES),
        ],
    )
    def test_a_key_without_the_permission_gets_a_403_that_names_it(
        self, world: World, method: str, path: str, needed: Permission
    ) -> None:
        others = tuple(one for one in GRANTABLE if one is not needed)
        key = key_of(world, *others)

        answer = call(world.client, method, path, f"Bearer {key.secret}")

        assert (answer.status_code, answer.get_json()["code"]) == (403, "permission_missing")
        assert answer.get_json()["permission"] == str(needed)
        assert str(needed) in answer.get_json()["message"]
        assert (world.count_rows(), world.calls()) == (0, [])

    def test_a_revoked_key_is_refused_at_once_on_every_server(self, world: World) -> None:
        key, second = key_of(world), create_app(world.neighbour(skew_seconds=0)).test_client()
        authorization = f"Bearer {key.secret}"
        assert call(second, "GET", "/invoices?order_id=1", authorization).status_code == 200

        revoke_key(world.backend.repository, key.key.id, world.backend.clock())

        for client in (second, world.client):
            for method, path in (("GET", "/invoices?order_id=1"), ("POST", "/generate-invoice")):
                assert_error(call(client, method, path, authorization), 401, "unauthorized")

    def test_the_last_use_is_known_to_the_operator(self, world: World) -> None:
        key = key_of(world)
        call(world.client, "GET", "/invoices?order_id=1", f"Bearer {key.secret}")

        (found,) = list_keys(world.backend.repository)

        assert found.last_used_at == world.backend.clock()


class TestWhoNeedsOne:
    def test_if_no_key_was_ever_created_everyone_may_call(self, world: World) -> None:
        for authorization in (None, "Bearer anything"):
            assert call(world.client, "POST", "/generate-invoice", authorization).status_code == 200

    @pytest.mark.parametrize("is_revoked", [False, True])
    def test_from_the_first_key_on_every_call_needs_one(self, world: World, is_revoked: bool) -> None:
        key = key_of(world)
        if is_revoked:
            revoke_key(world.backend.repository, key.key.id, world.backend.clock())

        for authorization in (None, "Bearer", "Bearer wrong", f"Bearer {key.secret}x", f"Basic {key.secret}"):
            answer = call(world.client, "POST", "/generate-invoice", authorization)
            assert_error(answer, 401, "unauthorized")
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert world.count_rows() == 0

    def test_a_key_of_the_settings_keeps_every_permission(self, make_world: Callable[..., World]) -> None:
        world = make_world(api_keys=(SETTINGS_KEY,))
        other = key_of(world, Permission.VIEW_INVOICES)

        for secret, status in ((SETTINGS_KEY, 200), (other.secret, 403), ("neither", 401)):
            answer = call(world.client, "POST", "/generate-invoice", f"Bearer {secret}")
            assert answer.status_code == status

    def test_the_customer_needs_none(self, world: World) -> None:
        invoice = world.sell()
        key_of(world)

        assert world.client.get(f"/checkout/{invoice.token}").status_code == 200
        assert world.client.get(f"/invoices/{invoice.strike_invoice_id}/qr.png").status_code == 200


class TestTheApiDocument:
    def test_it_asks_for_a_key_from_the_first_one_on(self, world: World) -> None:
        without = world.client.get("/openapi.json").get_json()
        key_of(world)

        found = world.client.get("/openapi.json").get_json()

        assert "security" not in without["paths"]["/invoices"]["get"]
        assert "403" not in without["paths"]["/invoices"]["get"]["responses"]
        assert found["paths"]["/invoices"]["get"]["security"] == [{"apiKey": []}]
        assert {"401", "403"} <= found["paths"]["/invoices"]["get"]["responses"].keys()

    def test_it_is_served_without_the_database(self, world: World) -> None:
        world.backend.repository.close()
        with world.backend.repository.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE api_keys RENAME TO elsewhere")

        answer = world.client.get("/openapi.json")

        assert answer.get_json()["paths"]["/invoices"]["get"]["security"] == [{"apiKey": []}]


class TestGreenfieldCallers:
    """`require_key`, which the Greenfield routes use."""

    def status(self, world: World, authorization: str | None, permission: Permission | None) -> int:
        app = create_app(world.backend)
        app.add_url_rule("/probe", "probe", lambda: {"who": require_key(permission).secret})
        return call(app.test_client(), "GET", "/probe", authorization).status_code

    def test_a_key_is_required_even_if_none_was_ever_created(self, world: World) -> None:
        assert self.status(world, None, None) == 401
        assert self.status(world, "token anything", Permission.VIEW_INVOICES) == 401

    def test_any_key_is_enough_if_no_permission_is_required(self, world: World) -> None:
        key = key_of(world, Permission.VIEW_INVOICES)

        assert self.status(world, f"token {key.secret}", None) == 200
        assert self.status(world, f"token {key.secret}", Permission.VIEW_INVOICES) == 200
        assert self.status(world, f"token {key.secret}", Permission.CREATE_INVOICE) == 403

    def test_a_key_is_looked_up_once_for_each_request(self, world: World) -> None:
        secret, looked_up = key_of(world).secret, []
        event.listen(world.backend.repository.engine, "before_cursor_execute", lambda *a: looked_up.append(a[2]))
        app = create_app(world.backend)
        app.add_url_rule("/probe", "probe", lambda: {"same": require_key() == require(Permission.VIEW_INVOICES)})

        answer = call(app.test_client(), "GET", "/probe", f"token {secret}")

        assert answer.get_json() == {"same": True}
        assert len([one for one in looked_up if "key_hash" in one]) == 1

    def test_a_key_whose_use_cannot_be_recorded_still_works(self, world: World) -> None:
        key = key_of(world)
        event.listen(
            world.backend.repository.engine, "begin", lambda one: one.exec_driver_sql("PRAGMA query_only = ON")
        )

        assert self.status(world, f"token {key.secret}", None) == 200
