"""What typed clients read: the PHP client fails on a field that is missing or null, as soon as a shop asks for it."""

from __future__ import annotations

import pytest

from lnpay.access.api_keys import list_keys
from lnpay.domain.permissions import Permission
from tests.greenfield.shop import Plugin
from tests.world import World

STORE_TYPES: dict[str, type] = {
    "id": str, "name": str, "website": str, "defaultCurrency": str, "invoiceExpiration": int,
    "monitoringExpiration": int, "speedPolicy": str, "lightningDescriptionTemplate": str, "paymentTolerance": int,
    "anyoneCanCreateInvoice": bool, "requiresRefundEmail": bool, "lightningAmountInSatoshi": bool,
    "lightningPrivateRouteHints": bool, "onChainWithLnInvoiceFallback": bool, "redirectAutomatically": bool,
    "showRecommendedFee": bool, "recommendedFeeBlockTarget": int, "defaultLang": str, "customLogo": str,
    "customCSS": str, "htmlTitle": str, "networkFeeMode": str, "payJoinEnabled": bool, "lazyPaymentMethods": bool,
    "defaultPaymentMethod": str,
}  # fmt: skip
"""What the PHP client reads of a store, each with the only type that it takes."""

INVOICE_TYPES: dict[str, type] = {
    "id": str, "amount": str, "currency": str, "type": str, "checkoutLink": str, "createdTime": int,
    "expirationTime": int, "monitoringTime": int, "archived": bool, "status": str, "additionalStatus": str,
    "availableStatusesForManualMarking": list,
}  # fmt: skip

REFUNDS = (
    ("POST", "stores/{store}/invoices/{invoice}/refund"),
    ("POST", "stores/{store}/pull-payments"),
    ("GET", "stores/{store}/pull-payments"),
)


def test_a_store_has_every_field_of_its_type(plugin: Plugin) -> None:
    (store,) = plugin.get("stores")

    assert plugin.get("stores/{store}") == store
    assert {name: type(store.get(name)) for name in STORE_TYPES} == STORE_TYPES


def test_an_invoice_has_every_field_of_its_type(plugin: Plugin) -> None:
    made = plugin.create()

    assert {name: type(made.get(name)) for name in INVOICE_TYPES} == INVOICE_TYPES
    assert made["monitoringTime"] == made["monitoringExpiration"]


def test_the_servers_onion_address_is_text(plugin: Plugin) -> None:
    assert plugin.get("server/info")["onion"] == ""


@pytest.mark.parametrize(
    "path",
    [
        "server/info", "api-keys/current", "stores", "stores/{store}", "stores/{store}/payment-methods",
        "stores/{store}/invoices", "stores/{store}/invoices/{invoice}",
        "stores/{store}/invoices/{invoice}/payment-methods", "stores/{store}/webhooks",
    ],
)  # fmt: skip
def test_a_slash_at_the_end_changes_nothing(plugin: Plugin, path: str) -> None:
    path = path.replace("{invoice}", plugin.create()["id"])

    assert plugin.get(f"{path}/") == plugin.get(path)


class TestRefunds:
    @pytest.mark.parametrize(("method", "path"), REFUNDS)
    def test_they_lack_a_permission_regardless_of_the_key(self, plugin: Plugin, method: str, path: str) -> None:
        answer = plugin.call(method, path.replace("{invoice}", plugin.create()["id"]), {})

        assert answer.status_code == 403
        assert answer.get_json()["missingPermission"] == Permission.CREATE_PULL_PAYMENTS

    @pytest.mark.parametrize(("method", "path"), REFUNDS)
    def test_without_a_key_they_are_unauthenticated(self, world: World, method: str, path: str) -> None:
        assert world.client.open(f"/api/v1/{path}", method=method).status_code == 401


class TestRevoking:
    def test_a_key_revokes_itself_and_no_other(self, plugin: Plugin, world: World) -> None:
        other = Plugin.connect(world)

        assert plugin.succeed("DELETE", "api-keys/current") == {}

        answer = plugin.call("GET", "stores")
        assert (answer.status_code, answer.get_json()["code"]) == (401, "unauthenticated")
        assert "token <key>" in answer.get_json()["message"]
        assert other.get("stores")
        assert [key.revoked_at is None for key in list_keys(world.backend.repository)] == [True, False]

    def test_a_key_of_the_settings_stays(self, world: World) -> None:
        world.restart(api_keys=("from-the-settings",))
        plugin = Plugin(world, "from-the-settings", "")

        answer = plugin.call("DELETE", "api-keys/current")

        assert (answer.status_code, answer.get_json()["code"]) == (400, "generic-error")
        assert plugin.get("stores")
