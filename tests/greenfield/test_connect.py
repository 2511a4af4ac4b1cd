"""From a plugin's "connect" to its first calls: each gets a key with exactly the permissions that it accepts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lnpay.access.api_keys import revoke_key
from lnpay.domain.permissions import PERMISSIONS_FOR, KeyPurpose
from lnpay.web import create_app
from tests.greenfield.shop import Plugin
from tests.web.test_admin import PASSWORD, log_in
from tests.web.test_connections import authorize, hidden, query
from tests.world import World

WEBHOOK = {"url": "https://shop.example/wc-api/btcpaygf_default/", "secret": "b7" * 24}


@pytest.fixture
def admin(make_world: Callable[..., World]) -> World:
    """A world whose operator is logged in."""
    world = make_world(admin_password=PASSWORD)
    log_in(world)
    return world


def connect(world: World, text: str) -> Plugin:
    """What the plugin keeps of the form that the operator's browser brings it."""
    fields = hidden(authorize(world, text).text)
    stores = {value.partition(":")[2] for name, value in fields if name == "permissions[]"}
    return Plugin(world, dict(fields)["apiKey"], stores.pop())


@pytest.mark.parametrize(
    ("name", "made_for"),
    [
        ("WooCommerce", KeyPurpose.WOOCOMMERCE),
        ("PrestaShop", KeyPurpose.PRESTASHOP),
        ("Magento", KeyPurpose.MAGENTO),
    ],
)
def test_a_plugin_that_connects_can_sell_with_exactly_its_permissions(
    admin: World, name: str, made_for: KeyPurpose
) -> None:
    plugin = connect(admin, query(name=name, permissions=list(PERMISSIONS_FOR[made_for])))

    current = plugin.get("api-keys/current")

    assert set(current["permissions"]) == {f"{one}:{plugin.store}" for one in PERMISSIONS_FOR[made_for]}
    assert current["apiKey"] == plugin.key
    assert [one["id"] for one in plugin.get("stores")] == [plugin.store]
    assert plugin.succeed("POST", "stores/{store}/webhooks", WEBHOOK)["secret"] == WEBHOOK["secret"]
    assert plugin.create()["status"] == "New"


def test_woocommerce_asks_for_refunds_and_works_without(admin: World) -> None:
    plugin = connect(admin, query())

    current = plugin.get("api-keys/current")

    assert set(current["permissions"]) == {f"{one}:{plugin.store}" for one in PERMISSIONS_FOR[KeyPurpose.WOOCOMMERCE]}


def test_a_key_that_is_revoked_is_refused_at_once_on_another_server(admin: World) -> None:
    plugin = connect(admin, query())
    second = create_app(admin.neighbour(skew_seconds=0)).test_client()
    headers = {"Authorization": f"token {plugin.key}"}
    assert second.get("/api/v1/api-keys/current", headers=headers).status_code == 200

    revoke_key(admin.backend.repository, 1, admin.backend.clock())

    answer = second.get("/api/v1/api-keys/current", headers=headers)
    assert (answer.status_code, answer.get_json()["code"]) == (401, "unauthenticated")


def test_the_operator_sees_that_a_shop_has_been_connected_before(admin: World) -> None:
    page = f"/admin/connect?{query()}"
    assert "has been connected before" not in admin.client.get(page).text

    first, second = connect(admin, query()), connect(admin, query())

    assert "the earlier keys keep working" in admin.client.get(page).text
    assert "has been connected before" not in admin.client.get(f"/admin/connect?{query(name='Magento')}").text
    webhooks = [one.succeed("POST", "stores/{store}/webhooks", WEBHOOK)["id"] for one in (first, second)]
    assert webhooks[0] == webhooks[1]


def test_a_revoked_key_is_no_earlier_connection(admin: World) -> None:
    connect(admin, query())
    revoke_key(admin.backend.repository, 1, admin.backend.clock())

    assert "has been connected before" not in admin.client.get(f"/admin/connect?{query()}").text
