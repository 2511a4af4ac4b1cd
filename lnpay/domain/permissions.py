"""What an API key may do, in the names that Greenfield clients know, and the sets that each shop plugin needs."""

from __future__ import annotations

from enum import StrEnum

from lnpay.domain.errors import InvalidRequest


class Permission(StrEnum):
    """One right of an API key. Native routes and the Greenfield API ask for the same ones."""

    VIEW_INVOICES = "btcpay.store.canviewinvoices"
    CREATE_INVOICE = "btcpay.store.cancreateinvoice"
    VIEW_STORE_SETTINGS = "btcpay.store.canviewstoresettings"
    MODIFY_INVOICES = "btcpay.store.canmodifyinvoices"
    MODIFY_WEBHOOKS = "btcpay.store.webhooks.canmodifywebhooks"
    MODIFY_STORE_SETTINGS = "btcpay.store.canmodifystoresettings"
    REFUND_INVOICES = "lnpay.store.canrefundinvoices"
    """LNPay's own permission, because refunds send money. No plugin's key has it."""
    CREATE_PULL_PAYMENTS = "btcpay.store.cancreatenonapprovedpullpayments"
    """Refunds through Greenfield: plugins ask for it, but it is never granted."""


class KeyPurpose(StrEnum):
    """What a key is made for."""

    WOOCOMMERCE = "woocommerce"
    PRESTASHOP = "prestashop"
    MAGENTO = "magento"
    CUSTOM = "custom"


Permissions = tuple[Permission, ...]
"""Without duplicates, in the order of `Permission`."""

GRANTABLE: Permissions = tuple(one for one in Permission if one is not Permission.CREATE_PULL_PAYMENTS)
"""Every right that a key can have."""

_INVOICES_AND_SETTINGS = (
    Permission.VIEW_INVOICES,
    Permission.CREATE_INVOICE,
    Permission.VIEW_STORE_SETTINGS,
    Permission.MODIFY_INVOICES,
)

PERMISSIONS_FOR: dict[KeyPurpose, Permissions] = {
    KeyPurpose.WOOCOMMERCE: (*_INVOICES_AND_SETTINGS, Permission.MODIFY_WEBHOOKS),
    KeyPurpose.PRESTASHOP: (*_INVOICES_AND_SETTINGS, Permission.MODIFY_WEBHOOKS, Permission.MODIFY_STORE_SETTINGS),
    KeyPurpose.MAGENTO: (*_INVOICES_AND_SETTINGS, Permission.MODIFY_WEBHOOKS),
    KeyPurpose.CUSTOM: (*_INVOICES_AND_SETTINGS, Permission.MODIFY_WEBHOOKS),
}
"""The exact set for each purpose: plugins reject a key with fewer or more rights. A custom key may have any others."""

WORDS: dict[Permission, str] = {
    Permission.VIEW_INVOICES: "seeing invoices and their payments",
    Permission.CREATE_INVOICE: "creating invoices",
    Permission.VIEW_STORE_SETTINGS: "seeing the shop's name and payment methods",
    Permission.MODIFY_INVOICES: "cancelling invoices and changing their metadata",
    Permission.MODIFY_WEBHOOKS: "setting where LNPay reports payments",
    Permission.MODIFY_STORE_SETTINGS: "changing the shop's settings",
    Permission.REFUND_INVOICES: "refunding paid orders, and seeing and cancelling refunds",
    Permission.CREATE_PULL_PAYMENTS: "refunding orders through a plugin",
}
"""What each right permits, for people: "the key permits ..."."""


def parse_permissions(names: list[str]) -> Permissions:
    """The rights of these names. Raises InvalidRequest for an unknown one, and for one that is never granted."""
    for name in names:
        if name not in GRANTABLE:
            known = ", ".join(GRANTABLE)
            reason = "cannot be granted" if name in list(Permission) else "is unknown"
            raise InvalidRequest(f"the permission {name!r} {reason}; choose from {known}")
    return tuple(one for one in Permission if one in names)
