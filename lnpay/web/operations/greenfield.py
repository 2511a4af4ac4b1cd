"""The part of the OpenAPI document about the Greenfield API, made from the models that its routes use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lnpay.domain.permissions import Permission
from lnpay.web.api.answers import INVOICE_ID
from lnpay.web.greenfield import answers as a
from lnpay.web.greenfield import requests as r
from lnpay.web.greenfield.errors import API_PREFIX, GENERIC
from lnpay.web.greenfield.invoices import MAX_ORDER_IDS, MAX_SKIP, MAX_UNIX_TIME
from lnpay.web.greenfield.status import Status

Json = dict[str, Any]

TAG = "For shop plugins (Greenfield)"

SCHEME = "greenfieldKey"

SECURITY_SCHEME: Json = {
    "type": "apiKey",
    "in": "header",
    "name": "Authorization",
    "description": "`token` and an API key, with a space between: the word that plugins of BTCPay Server use. Every "
    f"call of `{API_PREFIX}` but `/health` needs one.",
}

_REF = "#/components/schemas/{model}"

_EXAMPLES: dict[int, tuple[str, Any]] = {
    400: (GENERIC, {"code": GENERIC, "message": "the body is not a JSON object"}),
    401: ("unauthenticated", {"code": "unauthenticated", "message": "send a valid API key"}),
    403: (
        "missing-permission",
        {
            "code": "missing-permission",
            "message": f"this API key lacks the permission {Permission.VIEW_INVOICES}",
            "missingPermission": str(Permission.VIEW_INVOICES),
        },
    ),
    404: ("invoice-not-found", {"code": "invoice-not-found", "message": "there is no such invoice"}),
    413: ("payload-too-large", {"code": "payload-too-large", "message": "the body is larger than 64 KiB"}),
    422: ("fields", [{"path": "amount", "message": "amount must be more than zero"}]),
    503: (GENERIC, {"code": GENERIC, "message": "the payment provider cannot be used right now"}),
}

_STATUS_WORDS = {
    400: "The request cannot be read, or it is refused.",
    401: "No key, or one that is unknown or revoked.",
    403: "The key lacks the permission that `missingPermission` names, or the store is not its own.",
    404: "There is nothing of that id.",
    413: "The body is too large.",
    422: "Fields are wrong: a list with the `path` and a `message` for each.",
    503: "Not possible right now, and nothing is lost: repeat it after Retry-After.",
}

_MODELS = {403: a.PermissionRefusal}

_IDS = {
    "store_id": ("The id of the store: this installation.", a.STORE_ID),
    "invoice_id": ("The `id` of an invoice.", INVOICE_ID),
    "webhook_id": ("The `id` of a webhook.", a.WEBHOOK_ID),
}

_UNIX_TIME = {"type": "integer", "minimum": 0, "maximum": MAX_UNIX_TIME}

_COUNT = {"type": "integer", "minimum": 0, "maximum": MAX_SKIP}
_TEXTS = {"type": "array", "items": {"type": "string"}, "maxItems": MAX_ORDER_IDS}

_LIST_QUERY = {
    "orderId": (_TEXTS, "Any of these orders; may be repeated."),
    "status": (_TEXTS, f"Any of {', '.join(Status)}; may be repeated."),
    "textSearch": ({"type": "string"}, "The whole id of an invoice or of an order."),
    "startDate": (_UNIX_TIME, "Created at this Unix time or later."),
    "endDate": (_UNIX_TIME, "Created at this Unix time or earlier."),
    "skip": (_COUNT, "So many of the newest are left out."),
    "take": (_COUNT, "At most so many: 100 if omitted, never over 250."),
}


@dataclass(frozen=True)
class GreenfieldOperation:
    """One route. permission: None: any key. A list is answered where `is_list`, always a 403 where
    `is_refused`.
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

OPERATIONS = (
    GreenfieldOperation("get", "/health", "greenfieldHealth", "LNPay answers", a.Health, is_open=True),
    GreenfieldOperation("get", "/server/info", "greenfieldServerInfo", "Which API this is", a.ServerInfo),
    GreenfieldOperation(
        "get", "/api-keys/current", "greenfieldCurrentKey", "What the key of the request may do", a.CurrentKey
    ),
    GreenfieldOperation(
        "delete",
        "/api-keys/current",
        "greenfieldRevokeKey",
        "Revoke the key of the request",
        a.Empty,
        description="A key of the setting API_KEYS is refused with 400: the operator removes it there.",
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
        description="Each call creates another invoice, also for the same order.",
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
        query=tuple(_LIST_QUERY),
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
        "Give an open invoice up",
        a.InvoiceData,
        Permission.MODIFY_INVOICES,
        description="Its deadline ends at once. A payment that still comes is late, and refunded.",
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
            description="LNPay never grants it to a key, and plugins then say that they cannot refund.",
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
)
"""What the document describes. A test holds it against the routes of the app."""


def request_models() -> list[Any]:
    """Models of what clients send."""
    return list(dict.fromkeys(one.request for one in OPERATIONS if one.request is not None))


def answer_models() -> list[Any]:
    """Models of what clients are answered."""
    return [*dict.fromkeys(one.answer for one in OPERATIONS), a.Refusal, a.PermissionRefusal, a.FieldRefusal]


def greenfield_paths() -> dict[str, Json]:
    """The paths of the document."""
    paths: dict[str, Json] = {}
    for one in OPERATIONS:
        paths.setdefault(API_PREFIX + one.path, {})[one.method] = _describe(one)
    return paths


def _describe(one: GreenfieldOperation) -> Json:
    needs = "" if one.permission is None else f"Needs the permission `{one.permission}`."
    described: Json = {"operationId": one.name, "tags": [TAG], "summary": one.summary}
    if one.description or needs:
        described["description"] = f"{one.description} {needs}".strip()
    parameters = [_id_parameter(name) for name in _IDS if f"{{{name}}}" in one.path]
    parameters += [_query_parameter(name) for name in one.query]
    if parameters:
        described["parameters"] = parameters
    if one.request is not None:
        schema = {"$ref": _REF.format(model=one.request.__name__)}
        # No body is read as an empty object, which is refused only where a field is missing in it.
        is_needed = any(field.is_required() for field in one.request.model_fields.values())
        described["requestBody"] = {"required": is_needed, "content": {"application/json": {"schema": schema}}}
    if not one.is_open:
        described["security"] = [{SCHEME: []}]
    success = {} if one.is_refused else {"200": _success(one)}
    described["responses"] = {**success, **{str(code): _failure(code) for code in _codes(one)}}
    return described


def _codes(one: GreenfieldOperation) -> list[int]:
    if one.is_open:
        return []
    return sorted({401, 503, *one.errors, *([403] if one.permission is not None else [])})


def _success(one: GreenfieldOperation) -> Json:
    schema: Json = {"$ref": _REF.format(model=one.answer.__name__)}
    if one.is_list:
        schema = {"type": "array", "items": schema}
    return {"description": "Done.", "content": {"application/json": {"schema": schema}}}


def _failure(status: int) -> Json:
    name, example = _EXAMPLES[status]
    schema: Json = {"$ref": _REF.format(model=_MODELS.get(status, a.Refusal).__name__)}
    if status == 422:
        schema = {"type": "array", "items": {"$ref": _REF.format(model=a.FieldRefusal.__name__)}}
    answer: Json = {
        "description": _STATUS_WORDS[status],
        "content": {"application/json": {"schema": schema, "examples": {name: {"value": example}}}},
    }
    if status == 503:
        seconds = {"type": "integer", "minimum": 1}
        answer["headers"] = {"Retry-After": {"description": "Seconds to wait.", "required": True, "schema": seconds}}
    return answer


def _id_parameter(name: str) -> Json:
    description, example = _IDS[name]
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }


def _query_parameter(name: str) -> Json:
    schema, description = _LIST_QUERY[name]
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}
