"""Server, key and store: what plugins read before each sale. None of it calls Strike."""

from __future__ import annotations

from typing import NoReturn

from flask import Response, jsonify

from lnpay.access import api_keys
from lnpay.domain.errors import PermissionMissing
from lnpay.domain.permissions import Permission
from lnpay.domain.states import LAPSE_MARGIN
from lnpay.runtime.version import version
from lnpay.web.authentication import require_key
from lnpay.web.context import current_backend
from lnpay.web.greenfield.access import require_store
from lnpay.web.greenfield.answers import (
    VERSION,
    CurrentKey,
    Health,
    ServerInfo,
    Store,
    StorePaymentMethod,
    StoreSettings,
)
from lnpay.web.greenfield.blueprint import blueprint
from lnpay.web.greenfield.errors import GENERIC, problem
from lnpay.web.greenfield.requests import DEFAULT_EXPIRATION_MINUTES, PAYMENT_METHOD

_FIXED: StoreSettings = {
    "invoiceExpiration": int(DEFAULT_EXPIRATION_MINUTES * 60),
    "monitoringExpiration": int(LAPSE_MARGIN.total_seconds()),
    "speedPolicy": "HighSpeed",
    "paymentTolerance": 0,
    "anyoneCanCreateInvoice": False,
    "requiresRefundEmail": False,
    "lightningDescriptionTemplate": "",
    "lightningAmountInSatoshi": True,
    "lightningPrivateRouteHints": False,
    "onChainWithLnInvoiceFallback": False,
    "redirectAutomatically": False,
    "lazyPaymentMethods": False,
    "payJoinEnabled": False,
    "showRecommendedFee": False,
    "recommendedFeeBlockTarget": 1,
    "networkFeeMode": "Never",
    "defaultLang": "en",
    "customLogo": "",
    "customCSS": "",
    "htmlTitle": "",
}
"""Fixed settings. The PHP client fails if a shop reads one that is missing or null."""

API_KEYS_LABEL = "API_KEYS"
"""The label of a key from API_KEYS."""


@blueprint.get("/health")
def show_health() -> Response:
    """Report that LNPay is up. There is nothing to synchronise."""
    return jsonify(Health(synchronized=True))


@blueprint.get("/server/info")
def show_server_info() -> Response:
    """The API's name and version."""
    require_key()
    return jsonify(
        ServerInfo(
            version=VERSION,
            onion="",
            supportedPaymentMethods=[PAYMENT_METHOD],
            fullySynched=True,
            syncStatus=[],
            lnpay=version(),
        )
    )


@blueprint.get("/api-keys/current")
def show_current_key() -> Response:
    """The permissions of this request's key. Plugins refuse a key with one too few or too many."""
    caller = require_key()
    store = api_keys.store_id(current_backend().repository)
    return jsonify(
        CurrentKey(
            apiKey=caller.secret,
            label=API_KEYS_LABEL if caller.key is None else caller.key.label,
            permissions=[f"{permission}:{store}" for permission in caller.permissions],
        )
    )


@blueprint.delete("/api-keys/current")
def revoke_current_key() -> Response:
    """Revoke the key of this request. Keys from API_KEYS are refused: only the operator can remove them."""
    caller = require_key()
    if caller.key is None:
        return problem(400, GENERIC, "this key is in the setting API_KEYS: only the operator can remove it")
    backend = current_backend()
    api_keys.revoke_key(backend.repository, caller.key.id, backend.clock())
    return jsonify({})


@blueprint.get("/stores")
def list_stores() -> Response:
    """The only store."""
    require_key(Permission.VIEW_STORE_SETTINGS)
    return jsonify([_store(api_keys.store_id(current_backend().repository))])


@blueprint.get("/stores/<store_id>")
def show_store(store_id: str) -> Response:
    """The store."""
    return jsonify(_store(require_store(store_id, Permission.VIEW_STORE_SETTINGS)))


@blueprint.get("/stores/<store_id>/payment-methods")
def show_payment_methods(store_id: str) -> Response:
    """Lightning, and nothing else."""
    require_store(store_id, Permission.VIEW_STORE_SETTINGS)
    return jsonify([StorePaymentMethod(paymentMethodId=PAYMENT_METHOD, enabled=True)])


@blueprint.get("/stores/<store_id>/pull-payments")
@blueprint.post("/stores/<store_id>/pull-payments")
@blueprint.post("/stores/<store_id>/invoices/<invoice_id>/refund")
def refuse_refund(store_id: str, invoice_id: str = "") -> NoReturn:
    """Always refused: no key is granted what refunds need. A 403 tells plugins that they cannot refund."""
    del store_id, invoice_id
    require_key()
    raise PermissionMissing(Permission.CREATE_PULL_PAYMENTS)


def _store(known: str) -> Store:
    return Store(
        id=known,
        name=current_backend().shop_face.name or "LNPay",
        website="",
        defaultCurrency=current_backend().currency.upper(),
        defaultPaymentMethod=PAYMENT_METHOD,
        archived=False,
        **_FIXED,
    )
