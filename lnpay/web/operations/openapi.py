"""The OpenAPI 3.1 document, made from the models that the code validates with and answers with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from lnpay.domain.events import WORDS, EventType
from lnpay.domain.money import INVOICE_CURRENCIES, decimals_of
from lnpay.runtime.version import version
from lnpay.web.api import answers as a
from lnpay.web.api.endpoints import CreateEndpoint
from lnpay.web.api.error_codes import ERRORS, problem_example
from lnpay.web.api.refunds import REFUND_ID, CreateRefund
from lnpay.web.api.schemas import GenerateInvoice, amount_schema, rounded_amount_schema
from lnpay.web.operations import greenfield
from lnpay.web.operations.native import OPERATIONS, OPERATOR, SHOP, STRIKE, Json, Operation

_INTRODUCTION = """\
Lightning payments for your shop.

Ask for an invoice with `POST /generate-invoice`, send your customer to its `checkout_url`, and wait for the message: \
a paid order is a POST to your DELIVERY_URL (see the messages below).

Every error has one shape: `{"status": "error", "code": "...", "message": "...", "errors": {}}`. `code` is a stable \
word; `errors` names the fields of the request that are wrong. In addition to those listed with each route there are \
`not_found` (404), `method_not_allowed` (405, with Allow) and `internal_error` (500, never your fault).

A 503 says when to try again (Retry-After). Repeating a request with its `correlation_id` never makes a second invoice.
"""


_STATUS_WORDS = {
    400: "The request is invalid, and will be refused again unless it is changed.",
    401: "The key or signature is missing or wrong.",
    403: "The key lacks a permission.",
    404: "There is nothing under this id or address.",
    409: "It conflicts with what is stored.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    502: "The payment provider refused it. Repeating the request will not help.",
    503: "Not possible right now, and nothing is lost: repeat it after Retry-After.",
}


_MESSAGES = {
    EventType.INVOICE_SETTLED: "An order is paid: deliver the goods.",
    EventType.INVOICE_EXPIRED: "The time to pay is over, or the invoice was cancelled, and nothing was paid.",
    EventType.INVOICE_PAID_LATE: "A payment came too late and is being refunded: the order is not paid.",
    EventType.INVOICE_UNDERPAID: "Less than the price has been paid so far: do not deliver the goods yet.",
    EventType.REFUND_CREATED: "You have requested a refund of a paid order.",
    EventType.REFUND_SENT: "The customer has received a refund.",
    EventType.REFUND_NEEDS_ADDRESS: "The customer must say where the refund should go; the payment page asks.",
    EventType.REFUND_CANCELED: "A refund was canceled, or was not claimed in time; nothing of it was sent.",
}

_LINKS = {
    name: {"operationId": operation, "parameters": {"invoice_id": "$response.body#/data/invoice/invoiceId"}}
    for name, operation in (("standing", "showInvoice"), ("png", "showPng"), ("svg", "showSvg"))
}

_RETRY_AFTER = {"description": "Seconds to wait.", "required": True, "schema": {"type": "integer", "minimum": 1}}
_AUTHENTICATE = {"description": "Always `Bearer`.", "required": True, "schema": {"type": "string"}}

_REF = "#/components/schemas/{model}"


class _WithoutTitles(GenerateJsonSchema):
    """JSON Schema without field titles, which only repeat the field names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401 - pydantic's own signature
        return False


def openapi_document(
    currency: str,
    *,
    needs_key: bool,
    needs_token: bool = False,
    server_url: str = "/",
    is_greenfield_on: bool = True,
) -> Json:
    """The document for a shop in `currency`. needs_key: whether there are API keys. needs_token: METRICS_TOKEN."""
    schemes = _security_schemes(needs_key=needs_key, needs_token=needs_token)
    paths: dict[str, Json] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method] = _operation(one, schemes)
    tags = [SHOP, STRIKE, OPERATOR]
    if is_greenfield_on:
        paths.update(greenfield.greenfield_paths())
        schemes[greenfield.SCHEME] = greenfield.SECURITY_SCHEME
        tags.insert(1, greenfield.TAG)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "LNPay",
            "version": version(),
            "description": _INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": server_url}],
        "tags": [{"name": tag} for tag in tags],
        "paths": paths,
        "webhooks": {str(event_type): _webhook(event_type) for event_type in EventType},
        "components": {"schemas": _schemas(currency, is_greenfield_on), "securitySchemes": schemes},
    }


def _security_schemes(*, needs_key: bool, needs_token: bool) -> Json:
    """How a caller authenticates. Unused schemes are left out."""
    schemes: Json = {
        "apiKey": {"type": "http", "scheme": "bearer", "description": "An API key."},
        "requiredApiKey": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key; required even if none was ever created.",
        },
        "metricsToken": {"type": "http", "scheme": "bearer", "description": "The value of METRICS_TOKEN."},
        "strikeSignature": {
            "type": "apiKey",
            "in": "header",
            "name": "X-Webhook-Signature",
            "description": "Hex HMAC-SHA256 of the body, keyed with WEBHOOK_SECRET.",
        },
    }
    if not needs_key:
        del schemes["apiKey"]
    if not needs_token:
        del schemes["metricsToken"]
    return schemes


def _schemas(currency: str, is_greenfield_on: bool) -> Json:
    requests = [
        GenerateInvoice,
        CreateEndpoint,
        CreateRefund,
        *(greenfield.request_models() if is_greenfield_on else []),
    ]
    answers = [*_answer_models(), *(greenfield.answer_models() if is_greenfield_on else [])]
    adapters = [
        *(("validation", TypeAdapter(model)) for model in requests),
        *(("serialization", TypeAdapter(model)) for model in answers),
    ]
    _, found = TypeAdapter.json_schemas(
        [(index, mode, adapter) for index, (mode, adapter) in enumerate(adapters)],  # type: ignore[misc]
        ref_template=_REF,
        schema_generator=_WithoutTitles,
    )
    schemas: Json = found["$defs"]
    _describe_amounts(schemas["GenerateInvoice"], currency)
    if is_greenfield_on:
        fields = schemas["CreateInvoiceRequest"]["properties"]
        fields["amount"].update(rounded_amount_schema(currency))
        codes = [currency.upper(), currency]
        fields["currency"].update({"anyOf": [{"enum": codes}, {"type": "null"}], "examples": codes[:1]})
    return schemas


def _describe_amounts(request: Json, currency: str) -> None:
    """Describe how amounts are written, which depends on the decimals of their currency."""
    by_decimals: dict[int, list[str | None]] = {}
    for code in sorted(INVOICE_CURRENCIES):
        by_decimals.setdefault(decimals_of(code), []).extend((code, code.upper()))
    by_decimals[decimals_of(currency)].append(None)
    request["properties"]["amount_fiat"].update(amount_schema(currency), anyOf=[{"type": "string"}, {"type": "number"}])
    request["anyOf"] = [
        {
            "properties": {"amount_fiat": amount_schema(codes[0] or currency), "currency": {"enum": codes}},
            "required": ["amount_fiat"] if None in codes else ["amount_fiat", "currency"],
        }
        for _, codes in sorted(by_decimals.items())
    ]


def _answer_models() -> Iterable[Any]:
    return [
        *(model for one in OPERATIONS for model in _answers_of(one)),
        a.Problem,
        a.PermissionProblem,
        a.OrderProblem,
        a.Delivery,
    ]


def _answers_of(one: Operation) -> tuple[Any, ...]:
    """The models of a successful answer."""
    if one.answer is None:
        return ()
    return one.answer if isinstance(one.answer, tuple) else (one.answer,)


def _operation(one: Operation, schemes: Json) -> Json:
    described: Json = {"operationId": one.name, "tags": [one.tag], "summary": one.summary}
    if one.description:
        described["description"] = one.description
    parameters = [_parameter(name) for name in _PATH_PARAMETERS if f"{{{name}}}" in one.path]
    parameters += [_parameter_in("query", name, schema) for name, schema in one.query.items()]
    parameters += [_parameter_in("header", name, schema) for name, schema in one.headers.items()]
    if parameters:
        described["parameters"] = parameters
    if one.request:
        described["requestBody"] = one.request
    is_secured = one.security in schemes
    if is_secured:
        described["security"] = [{one.security: []}]
    codes = [code for code in one.errors if code not in ("unauthorized", "permission_missing") or is_secured]
    described["responses"] = {"200": _success(one), **_failures(codes)}
    return described


_PATH_PARAMETERS = {
    "invoice_id": ("Strike's `invoiceId`, as in the answer to POST /generate-invoice.", a.INVOICE_ID),
    "refund_id": ("The `id` of a refund.", str(REFUND_ID)),
    "endpoint_id": ("The `id` of a webhook endpoint.", a.ENDPOINT_ID),
}


def _parameter(name: str) -> Json:
    description, example = _PATH_PARAMETERS[name]
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }


def _parameter_in(place: str, name: str, schema: Json) -> Json:
    about = schema.get("description", f"The `{name}` that you gave to POST /generate-invoice.")
    is_required = schema.get("required", False)
    schema = {key: value for key, value in schema.items() if key not in ("description", "required")}
    return {"name": name, "in": place, "required": is_required, "description": about, "schema": schema}


def _success(one: Operation) -> Json:
    schema: Json
    models = [{"$ref": _REF.format(model=model.__name__)} for model in _answers_of(one)]
    if models:
        schema = models[0] if len(models) == 1 else {"anyOf": models}
    else:
        schema = {"type": "object"} if one.content_type == "application/json" else {"type": "string"}
    answer: Json = {"description": "Done.", "content": {one.content_type: {"schema": schema}}}
    if one.name == "generateInvoice":
        answer["links"] = _LINKS
    return answer


def _failures(codes: Iterable[str]) -> Json:
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(ERRORS[code].status, []).append(code)
    return {str(status): _failure(status, by_status[status]) for status in sorted(by_status)}


def _failure(status: int, codes: list[str]) -> Json:
    model = {403: "PermissionProblem", 409: "OrderProblem"}.get(status, "Problem")
    if codes == ["too_many_endpoints"]:  # the one conflict that is about no invoice
        model = "Problem"
    schema = {"allOf": [{"$ref": _REF.format(model=model)}, {"properties": {"code": {"enum": codes}}}]}
    answer: Json = {
        "description": _STATUS_WORDS[status],
        "content": {
            "application/json": {
                "schema": schema,
                "examples": {code: {"value": problem_example(code)} for code in codes},
            }
        },
    }
    if status == 503:
        answer["headers"] = {"Retry-After": _RETRY_AFTER}
    if status == 401:
        answer["headers"] = {"WWW-Authenticate": _AUTHENTICATE}
    return answer


def _webhook(event_type: EventType) -> Json:
    description = (
        f"POSTed to DELIVERY_URL{'' if event_type is EventType.INVOICE_SETTLED else ' when DELIVERY_EVENTS names it'}: "
        "at once, and again with growing pauses for more than three days until you answer 2xx within 15 seconds. "
        "It may come twice: `webhook-id` is the same each time. With DELIVERY_SECRET set it is signed as Standard "
        "Webhooks has it, and their libraries verify it."
    )
    text = {"type": "string"}
    return {
        "post": {
            "operationId": f"told.{event_type}",
            "summary": _MESSAGES[event_type],
            "description": description,
            "parameters": [
                {"name": "webhook-id", "in": "header", "required": True, "schema": text,
                 "description": "The same on every attempt: ignore a message whose id you have seen."},
                {"name": "webhook-timestamp", "in": "header", "required": True, "schema": text,
                 "description": "Seconds since 1970, of this attempt."},
                {"name": "webhook-signature", "in": "header", "required": False, "schema": text,
                 "description": "`v1,` and the base64 HMAC-SHA256 of `id.timestamp.body`."},
            ],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {"$ref": "#/components/schemas/Delivery"},
                        "example": _delivery_example(event_type),
                    }
                },
            },
            "responses": {
                "2XX": {"description": "You have it."},
                "410": {"description": "You refuse it permanently: it is never sent again."},
                "default": {"description": "Sent again later; redirects are not followed."},
            },
        }
    }  # fmt: skip


def _delivery_example(event_type: EventType) -> Json:
    status, message = WORDS[event_type]
    is_settled = event_type is EventType.INVOICE_SETTLED
    at = "2026-01-01T00:00:42+00:00" if is_settled else "2026-01-01T00:05:00+00:00"
    return {
        "status": status,
        "message": message,
        "invoice": a.BOLT11,
        "type": str(event_type),
        "timestamp": at,
        "data": {
            "invoice_id": a.INVOICE_ID,
            "correlation_id": "order-1042",
            "order_id": "1042",
            "amount_fiat": "12.34",
            "currency": "usd",
            "amount_sats": 19_207,
            "settled_at": at if is_settled else None,
            "metadata": {"cart": "17"},
            **({"refund": {"id": 17, "kind": "merchant", "amount_sats": 19_207}} if "refund." in event_type else {}),
        },
    }
