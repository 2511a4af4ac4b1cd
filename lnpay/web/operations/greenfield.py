"""The part of the OpenAPI document about the Greenfield API, made from the models that its routes use."""

from __future__ import annotations

from typing import Any

from lnpay.domain.permissions import Permission
from lnpay.web.api.answers import INVOICE_ID
from lnpay.web.greenfield import answers as a
from lnpay.web.greenfield.deliveries import DELIVERY_ID
from lnpay.web.greenfield.errors import API_PREFIX, GENERIC
from lnpay.web.operations.greenfield_routes import OPERATIONS, QUERY, GreenfieldOperation

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
    409: (
        "webhookdelivery-withdrawn",
        {
            "code": "webhookdelivery-withdrawn",
            "message": "the invoice has been paid since: this message is no longer true and is not sent again",
        },
    ),
    413: ("payload-too-large", {"code": "payload-too-large", "message": "the body is larger than 64 KiB"}),
    422: ("fields", [{"path": "amount", "message": "amount must be more than zero"}]),
    503: (GENERIC, {"code": GENERIC, "message": "the payment provider cannot be used right now"}),
}

_STATUS_WORDS = {
    400: "The request cannot be read, or it is refused.",
    401: "The key is missing, unknown or revoked.",
    403: "The key lacks the permission that `missingPermission` names, or the store is not its own.",
    404: "There is nothing under this id.",
    409: "The message is no longer true, and is not sent again.",
    413: "The body is too large.",
    422: "Fields are wrong: a list with the `path` and a `message` for each.",
    503: "Not possible right now, and nothing is lost: repeat it after Retry-After.",
}

_MODELS = {403: a.PermissionRefusal}

_IDS = {
    "store_id": ("The id of the store: this installation.", a.STORE_ID),
    "invoice_id": ("The `id` of an invoice.", INVOICE_ID),
    "webhook_id": ("The `id` of a webhook.", a.WEBHOOK_ID),
    "delivery_id": ("The `id` of a delivery.", DELIVERY_ID),
}


def request_models() -> list[Any]:
    """The models of requests."""
    return list(dict.fromkeys(one.request for one in OPERATIONS if one.request is not None))


def answer_models() -> list[Any]:
    """The models of answers."""
    answers = dict.fromkeys(one.answer for one in OPERATIONS if one.answer is not str)
    return [*answers, a.Refusal, a.PermissionRefusal, a.FieldRefusal]


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
        # A missing body counts as an empty object, which is refused only if a field is required.
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
    if one.answer is str:
        schema = {"type": "string", "examples": [DELIVERY_ID]}
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
    schema, description = QUERY[name]
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}
