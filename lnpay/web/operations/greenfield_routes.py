"""The routes of the Greenfield API, as the OpenAPI document describes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lnpay.domain.permissions import Permission
from lnpay.web.greenfield import answers as a
from lnpay.web.greenfield import deliveries as d
from lnpay.web.greenfield import requests as r
from lnpay.web.greenfield.invoices import MAX_ORDER_IDS, MAX_SKIP, MAX_UNIX_TIME
from lnpay.web.greenfield.status import Status

_UNIX_TIME = {"type": "integer", "minimum": 0, "maximum": MAX_UNIX_TIME}

_COUNT = {"type": "integer", "minimum": 0, "maximum": MAX_SKIP}
_TEXTS = {"type": "array", "items": {"type": "string"}, "maxItems": MAX_ORDER_IDS}

QUERY = {
    "orderId": (_TEXTS, "Any of these orders; may be repeated."),
    "status": (_TEXTS, f"Any of {', '.join(Status)}; may be repeated."),
    "textSearch": ({"type": "string"}, "The complete id of an invoice or order."),
    "startDate": (_UNIX_TIME, "Created at this Unix time or later."),
    "endDate": (_UNIX_TIME, "Created at this Unix time or earlier."),
    "skip": (_COUNT, "Skips this many of the newest invoices."),
    "take": (_COUNT, "At most so many: 100 if omitted, never over 250."),
    "count": (_COUNT, "At most so many: 100 if omitted, never over 250."),
}
"""Parameters of queries: the schema and the meaning of each."""


@dataclass(frozen=True)
class GreenfieldOperation:
    """One route. permission: None: any key. A list is answered where `is_list`, always a 403 where
    `is_refused`. answer: `str` for the id of a delivery.
    """

    method: str
    path: str
    name: str
    summary: str
    answer: Any
    permission: Permission | None = None
    description: str = ""
    request: Any = None
    is_list: bool = False
    is_open: bool = False
    is_refused: bool = False
    query: tuple[str, ...] = ()
    errors: tuple[int, ...] = ()


_INVOICES = "/stores/{store_id}/invoices"
_INVOICE = f"{_INVOICES}/{{invoice_id}}"
_WEBHOOKS = "/stores/{store_id}/webhooks"
_WEBHOOK = f"{_WEBHOOKS}/{{webhook_id}}"
_DELIVERIES = f"{_WEBHOOK}/deliveries"
_DELIVERY = f"{_DELIVERIES}/{{delivery_id}}"

OPERATIONS = (
    GreenfieldOperation("get", "/health", "greenfieldHealth", "LNPay answers", a.Health, is_open=True),
    GreenfieldOperation("get", "/server/info", "greenfieldServerInfo", "The API and its version", a.ServerInfo),
    GreenfieldOperation(
        "get", "/api-keys/current", "greenfieldCurrentKey", "The permissions of the request's key", a.CurrentKey
    ),
    GreenfieldOperation(
        "delete",
        "/api-keys/current",
        "greenfieldRevokeKey",
        "Revoke the key of the request",
        a.Empty,
        description="A key from the setting API_KEYS is refused with 400: only the operator can remove it there.",
        errors=(400,),
    ),
    GreenfieldOperation(
        "get",
        "/stores",
        "greenfieldStores",
        "The only store",
        a.Store,
        Permission.VIEW_STORE_SETTINGS,
        is_list=True,
    ),
    GreenfieldOperation(
        "get", "/stores/{store_id}", "greenfieldStore", "The store", a.Store, Permission.VIEW_STORE_SETTINGS
    ),
    GreenfieldOperation(
        "get",
        "/stores/{store_id}/payment-methods",
        "greenfieldPaymentMethods",
        "How customers can pay: over Lightning",
        a.StorePaymentMethod,
        Permission.VIEW_STORE_SETTINGS,
        is_list=True,
    ),
    GreenfieldOperation(
        "post",
        _INVOICES,
        "greenfieldCreateInvoice",
        "Create an invoice",
        a.InvoiceData,
        Permission.CREATE_INVOICE,
        description="Each call creates another invoice, even for the same order.",
        request=r.CreateInvoiceRequest,
        errors=(400, 413, 422),
    ),
    GreenfieldOperation(
        "get",
        _INVOICES,
        "greenfieldInvoices",
        "List invoices, the newest first",
        a.InvoiceData,
        Permission.VIEW_INVOICES,
        is_list=True,
        query=("orderId", "status", "textSearch", "startDate", "endDate", "skip", "take"),
        errors=(422,),
    ),
    GreenfieldOperation(
        "get",
        _INVOICE,
        "greenfieldInvoice",
        "Read an invoice",
        a.InvoiceData,
        Permission.VIEW_INVOICES,
        errors=(404,),
    ),
    GreenfieldOperation(
        "put",
        _INVOICE,
        "greenfieldChangeInvoice",
        "Replace an invoice's metadata",
        a.InvoiceData,
        Permission.MODIFY_INVOICES,
        request=r.ChangeInvoiceRequest,
        errors=(400, 404, 413, 422),
    ),
    GreenfieldOperation(
        "get",
        f"{_INVOICE}/payment-methods",
        "greenfieldInvoicePayment",
        "How an invoice is or was paid",
        a.PaymentMethodData,
        Permission.VIEW_INVOICES,
        is_list=True,
        errors=(404,),
    ),
    GreenfieldOperation(
        "post",
        f"{_INVOICE}/status",
        "greenfieldMarkInvoice",
        "Mark an open invoice as invalid",
        a.InvoiceData,
        Permission.MODIFY_INVOICES,
        description="Its deadline ends at once. A payment that still arrives is late and will be refunded.",
        request=r.MarkStatusRequest,
        errors=(400, 404, 413, 422),
    ),
    *(
        GreenfieldOperation(
            method,
            path,
            name,
            "Refused: no key can refund",
            a.Empty,
            Permission.CREATE_PULL_PAYMENTS,
            description="LNPay never grants this permission; plugins then report that they cannot refund.",
            is_refused=True,
        )
        for method, path, name in (
            ("post", f"{_INVOICE}/refund", "greenfieldRefund"),
            ("post", "/stores/{store_id}/pull-payments", "greenfieldCreatePullPayment"),
            ("get", "/stores/{store_id}/pull-payments", "greenfieldPullPayments"),
        )
    ),
    GreenfieldOperation(
        "post",
        _WEBHOOKS,
        "greenfieldCreateWebhook",
        "Create a webhook",
        a.CreatedWebhook,
        Permission.MODIFY_WEBHOOKS,
        description="The events of each invoice are sent one after the other, in their order. A webhook that a key "
        "has set at the same address is replaced: it keeps its id and what it is owed.",
        request=r.CreateWebhookRequest,
        errors=(400, 413, 422),
    ),
    GreenfieldOperation(
        "get",
        _WEBHOOKS,
        "greenfieldWebhooks",
        "List webhooks",
        a.WebhookAnswer,
        Permission.MODIFY_WEBHOOKS,
        is_list=True,
    ),
    GreenfieldOperation(
        "get",
        _WEBHOOK,
        "greenfieldWebhook",
        "Read a webhook",
        a.WebhookAnswer,
        Permission.MODIFY_WEBHOOKS,
        errors=(404,),
    ),
    GreenfieldOperation(
        "put",
        _WEBHOOK,
        "greenfieldChangeWebhook",
        "Change a webhook",
        a.WebhookAnswer,
        Permission.MODIFY_WEBHOOKS,
        request=r.ChangeWebhookRequest,
        errors=(400, 404, 413, 422),
    ),
    GreenfieldOperation(
        "delete",
        _WEBHOOK,
        "greenfieldDeleteWebhook",
        "Delete a webhook",
        a.Empty,
        Permission.MODIFY_WEBHOOKS,
        errors=(404,),
    ),
    GreenfieldOperation(
        "get",
        _DELIVERIES,
        "greenfieldDeliveries",
        "List what was sent to a webhook, the newest first",
        d.DeliveryAnswer,
        Permission.MODIFY_WEBHOOKS,
        description="Retries of a message are attempts of the same delivery.",
        is_list=True,
        query=("count",),
        errors=(404, 422),
    ),
    GreenfieldOperation(
        "get",
        _DELIVERY,
        "greenfieldDelivery",
        "Read a delivery",
        d.DeliveryAnswer,
        Permission.MODIFY_WEBHOOKS,
        errors=(404,),
    ),
    GreenfieldOperation(
        "get",
        f"{_DELIVERY}/request",
        "greenfieldDeliveryRequest",
        "Read the message of a delivery",
        d.WebhookEvent,
        Permission.MODIFY_WEBHOOKS,
        description="The exact body that is sent.",
        errors=(404,),
    ),
    GreenfieldOperation(
        "post",
        f"{_DELIVERY}/redeliver",
        "greenfieldRedeliver",
        "Send a delivery again",
        str,
        Permission.MODIFY_WEBHOOKS,
        description="The answer is the id of the new delivery, which says `isRedelivery` and names the first one as "
        "`originalDeliveryId`. It is sent soon, after what waits to be sent about the same invoice; in the place of a "
        "delivery that is being retried. One that was never sent keeps its id and is due at once. What is no longer "
        "true, such as the expiry of an invoice that was paid after all, is refused with 409.",
        errors=(404, 409),
    ),
)
"""What the document describes. A test holds it against the routes of the app."""
