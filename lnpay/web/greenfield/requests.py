"""Requests of Greenfield clients, validated. Unknown fields are ignored, and null counts as absent."""

from __future__ import annotations

import hashlib
import re
from decimal import Decimal
from typing import Annotated, Any

from flask import request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from lnpay.domain.encoding.json_text import MAX_METADATA_BYTES, check_metadata, read_json_text
from lnpay.domain.errors import InvalidRequest
from lnpay.domain.text import blank_unprintable, fit_description, is_storable, on_one_line
from lnpay.web.api.links import LINK_PATTERN, MAX_LINK_CHARACTERS, customer_link
from lnpay.web.customer.links import PLACEHOLDER
from lnpay.web.greenfield.errors import FieldsRefused

Json = dict[str, Any]

UNREADABLE = "the body is not a JSON object"

PAYMENT_METHOD = "BTC-LN"

DEFAULT_EXPIRATION_MINUTES = Decimal(15)
"""BTCPay Server's default, which shops expect."""

MIN_EXPIRATION_MINUTES = Decimal("0.5")
MAX_EXPIRATION_MINUTES = Decimal(60 * 24)
"""Strike's quote ends after about an hour, and the invoice with it."""

MAX_ORDER_ID_CHARACTERS = 40
"""How much of an order id is stored for searching."""

_LIGHTNING = {"BTC", "BTC-LN", "BTC-LIGHTNINGNETWORK", "BTC-LIGHTNINGLIKE", "BTC-LNURL", "BTC-LNURLPAY"}
"""Every name that clients use for Lightning, in upper case, with - for _."""

_LIST_INDEX = re.compile(r"\[[0-9]*\]\Z")


def _present(value: object) -> object:
    """An amount or a number. Refuses booleans and empty text."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError('must be a string such as "12.34", or a number')
    return value


def _number(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("must be a number")
    number = Decimal(value)
    if not number.is_finite() or abs(number) >= 10**9:
        raise ValueError("is too large")
    return number


def _minutes(value: object) -> Decimal:
    number = _number(value)
    if not MIN_EXPIRATION_MINUTES <= number <= MAX_EXPIRATION_MINUTES:
        raise ValueError(f"must be from {MIN_EXPIRATION_MINUTES} to {MAX_EXPIRATION_MINUTES:,} minutes")
    return number


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


def _redirect(value: object) -> str:
    """A link for the customer, with or without placeholders for ids."""
    text = _text(value)
    if text and len(text) > MAX_LINK_CHARACTERS:
        raise ValueError(f"is longer than {MAX_LINK_CHARACTERS:,} characters")
    if text:
        customer_link(PLACEHOLDER.sub("id", text))
    return text


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _methods(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError("must be a list of strings")
    if value and not any(one.upper().replace("_", "-") in _LIGHTNING for one in value):
        raise ValueError(f"must name {PAYMENT_METHOD}, the only payment method here")
    return list(value)


def _metadata(value: object) -> Json:
    if not isinstance(value, dict):
        raise ValueError("must be an object")
    try:
        return dict(check_metadata(value))
    except InvalidRequest as error:
        raise ValueError(error.message) from error


def _texts(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError("must be a list of strings")
    return list(value)


_EVENTS_SCHEMA = {"type": "array", "items": {"type": "string", "pattern": "^[A-Za-z._]{1,60}$"}, "maxItems": 100}
_SECRET_SCHEMA = {"type": "string", "pattern": "^[ -~]{0,200}$"}
_NUMBER_SCHEMA = {"type": "number", "exclusiveMinimum": -(10**9), "exclusiveMaximum": 10**9}
_MINUTES_SCHEMA = {
    "type": "number",
    "minimum": float(MIN_EXPIRATION_MINUTES),
    "maximum": float(MAX_EXPIRATION_MINUTES),
}

_METHODS_SCHEMA = {
    "type": "array",
    "items": {"type": "string"},
    "anyOf": [{"maxItems": 0}, {"contains": {"enum": sorted(_LIGHTNING)}}],
    "examples": [[]],
}

Amount = Annotated[
    Any,
    BeforeValidator(_present),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}], "examples": ["12.34"]}),
]
Minutes = Annotated[Any, BeforeValidator(_minutes), WithJsonSchema(_MINUTES_SCHEMA)]
Number = Annotated[Any, BeforeValidator(_number), WithJsonSchema(_NUMBER_SCHEMA)]
Text = Annotated[Any, BeforeValidator(_text), WithJsonSchema({"type": "string"})]
Flag = Annotated[Any, BeforeValidator(_flag), WithJsonSchema({"type": "boolean"})]
_LINK_SCHEMA = {"type": "string", "maxLength": MAX_LINK_CHARACTERS, "pattern": f"^(?:{LINK_PATTERN})?$"}
"""Of a link without placeholders; with them, braces are taken too."""

Redirect = Annotated[Any, BeforeValidator(_redirect), WithJsonSchema(_LINK_SCHEMA)]
Methods = Annotated[Any, BeforeValidator(_methods), WithJsonSchema(_METHODS_SCHEMA)]
Metadata = Annotated[Any, BeforeValidator(_metadata), WithJsonSchema({"type": "object"})]


Events = Annotated[Any, BeforeValidator(_texts), WithJsonSchema(_EVENTS_SCHEMA)]
Secret = Annotated[Any, BeforeValidator(_text), WithJsonSchema(_SECRET_SCHEMA)]
WebhookUrl = Annotated[Any, BeforeValidator(_text), WithJsonSchema({"type": "string"})]


class Lenient(BaseModel):
    """A model that ignores what it does not know."""

    model_config = ConfigDict(extra="ignore", arbitrary_types_allowed=True)


class CheckoutRequest(Lenient):
    """Options of the payment page."""

    expirationMinutes: Annotated[
        Minutes | None,
        Field(description="Minutes to pay, 15 if omitted. Strike's quote ends after about 60.", examples=[15]),
    ] = None
    redirectURL: Annotated[
        Redirect | None,
        Field(
            description="Where the payment page leads: https, or http on localhost. {InvoiceId} and {OrderId} in it "
            "are replaced.",
            examples=["https://shop.example/orders/%7BOrderId%7D"],
        ),
    ] = None
    redirectAutomatically: Annotated[Flag | None, Field(description="Redirect there as soon as it is paid.")] = None
    defaultLanguage: Annotated[
        Text | None, Field(description="Language of the payment page; an unknown one is ignored.", examples=["de"])
    ] = None
    paymentMethods: Annotated[
        Methods | None, Field(description="BTC-LN, the only one, or empty.", examples=[[PAYMENT_METHOD]])
    ] = None
    defaultPaymentMethod: Annotated[Text | None, Field(description="Ignored.")] = None
    speedPolicy: Annotated[Text | None, Field(description="Ignored: Lightning payments are final.")] = None
    monitoringMinutes: Annotated[Number | None, Field(description="Ignored.")] = None
    paymentTolerance: Annotated[Number | None, Field(description="Ignored: there are no partial payments.")] = None
    lazyPaymentMethods: Annotated[Flag | None, Field(description="Ignored.")] = None


class CreateInvoiceRequest(Lenient):
    """What to sell, and for how much."""

    amount: Annotated[Amount, Field(description="In `currency`, rounded to its decimals; a half is rounded up.")]
    currency: Annotated[
        Text | None,
        Field(
            description="Any currency that LNPay has a price for, `BTC` or `SATS`. The shop's own, which is "
            "shown here, if omitted.",
            examples=["EUR"],
        ),
    ] = None
    metadata: Annotated[
        Metadata | None,
        Field(
            description=f"Any JSON object of at most {MAX_METADATA_BYTES:,} bytes, returned unchanged. `orderId` can "
            "be searched for, `itemDesc` is shown to the customer.",
            examples=[{"orderId": "1042", "itemDesc": "Two coffees"}],
        ),
    ] = None
    checkout: CheckoutRequest | None = None


class MarkStatusRequest(Lenient):
    """The status to give an invoice."""

    status: Annotated[Text, Field(description='"Invalid", the only one that can be given.', examples=["Invalid"])]


class ChangeInvoiceRequest(Lenient):
    """New metadata in place of the old."""

    metadata: Annotated[Metadata, Field(description="Any JSON object.", examples=[{"orderId": "1042"}])]


class AuthorizedEventsRequest(Lenient):
    """The events that a webhook receives."""

    everything: Annotated[Flag | None, Field(description="Every event; true if no events are named.")] = None
    specificEvents: Annotated[
        Events | None, Field(description="Names of events.", examples=[["InvoiceSettled", "InvoiceExpired"]])
    ] = None


class ChangeWebhookRequest(Lenient):
    """The fields of a webhook to change; omitted ones stay as they are."""

    url: Annotated[WebhookUrl | None, Field(description="An absolute address.")] = None
    enabled: Annotated[Flag | None, Field(description="Whether any messages are sent to it.")] = None
    automaticRedelivery: Annotated[
        Flag | None, Field(description="Whether messages that it does not accept are retried.")
    ] = None
    authorizedEvents: AuthorizedEventsRequest | None = None
    secret: Annotated[Secret | None, Field(description="Signs the messages; kept if omitted.")] = None


class CreateWebhookRequest(ChangeWebhookRequest):
    """A new webhook."""

    url: Annotated[
        WebhookUrl,
        Field(
            description="An absolute address. One that leads into a private network is refused unless "
            "WEBHOOK_ALLOW_PRIVATE is on.",
            examples=["https://shop.example/webhook"],
        ),
    ]
    secret: Annotated[Secret | None, Field(description="Signs the messages; created if omitted.")] = None


def read_model(body: bytes, model: type[Lenient]) -> Any:  # noqa: ANN401 - an instance of `model`
    """A body as `model`. Raises InvalidRequest unless it is a JSON object, FieldsRefused for invalid fields."""
    return check_model(read_object(body), model)


def read_object(body: bytes) -> Json:
    """The JSON object that `body` is. Raises InvalidRequest for anything else."""
    try:
        # utf-8-sig drops a byte order mark.
        found = read_json_text(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(UNREADABLE) from error
    if not isinstance(found, dict):
        raise InvalidRequest(UNREADABLE)
    return found


def check_model(fields: Json, model: type[Lenient]) -> Any:  # noqa: ANN401 - an instance of `model`
    """A JSON object as `model`. Raises FieldsRefused."""
    present = _without_nulls(fields)
    try:
        return model.model_validate(present)
    except ValidationError as error:
        raise FieldsRefused({_path(one["loc"]): _sentence(dict(one)) for one in error.errors()}) from error


def order_id_of(metadata: Json) -> str | None:
    """The order id in the metadata, as text."""
    given = metadata.get("orderId")
    if isinstance(given, bool) or not isinstance(given, str | int | Decimal):
        return None
    return str(given) or None


def searchable(order_id: str | None) -> str | None:
    """An order id as stored: a long one is cut and ends with its hash. None if databases cannot store it."""
    if order_id is None or not is_storable(order_id):
        return None
    if len(order_id) <= MAX_ORDER_ID_CHARACTERS:
        return order_id
    digest = hashlib.sha256(order_id.encode()).hexdigest()[:12]
    return f"{order_id[: MAX_ORDER_ID_CHARACTERS - 13]}~{digest}"


def description_of(metadata: Json) -> str | None:
    """The description shown to the customer: `itemDesc`."""
    given = metadata.get("itemDesc")
    if not isinstance(given, str):
        return None
    return fit_description(on_one_line(blank_unprintable(given))) or None


def _without_nulls(fields: Json) -> Json:
    """The same without null members, including nested ones; metadata keeps its nulls."""
    kept = {name: value for name, value in fields.items() if value is not None}
    for name in ("checkout", "authorizedEvents"):
        if isinstance(kept.get(name), dict):
            kept[name] = {inner: value for inner, value in kept[name].items() if value is not None}
    return kept


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)[:100]


def _sentence(error: dict[str, Any]) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return {"missing": "is missing", "model_type": "must be an object"}.get(error["type"], "is not valid")


def query_values(name: str) -> list[str]:
    """The values of a query parameter that is written `name`, `name[]` or `name[0]`, in any case.

    BTCPay Server reads the name in any case too, and PHP numbers the values of a list. A filter that is not recognized
    would list the invoices of every order.
    """
    found = request.args.items(multi=True)
    return [value for key, value in found if _LIST_INDEX.sub("", key).lower() == name.lower()]


def query_value(name: str) -> str:
    """The first value of a query parameter; empty if there is none."""
    return next(iter(query_values(name)), "").strip()


def whole_number(name: str, default: int, most: int) -> int:
    """A numeric query parameter. Raises FieldsRefused unless it is a whole number from 0 to `most`."""
    text = query_value(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 15 and int(text) <= most):
        raise FieldsRefused({name: f"must be a whole number from 0 to {most:,}"})
    return int(text)
