"""The shapes of requests, validated by pydantic.

`GET /openapi.json` shows the same models, so what code validates is also stated as JSON Schema.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)
from werkzeug.wrappers import Request

from lnpay.domain.errors import InvalidRequest
from lnpay.domain.money import INVOICE_CURRENCIES, decimals_of, read_currency
from lnpay.domain.text import (
    DESCRIPTION_CHARACTERS,
    blank_lone_surrogates,
    blank_unprintable,
    fit_description,
    has_lone_surrogate,
    on_one_line,
)
from lnpay.invoices.create import MAX_EXPIRES_IN_SECONDS, MIN_EXPIRES_IN_SECONDS, check_expires_in
from lnpay.web.api.bodies import invalid_fields
from lnpay.web.api.links import LINK_PATTERN, MAX_LINK_CHARACTERS, customer_link

AMOUNT_LIMIT = 10**11
"""In any currency, an amount this large is a mistake."""

MAX_ID_CHARACTERS = 40

MAX_METADATA_KEYS = 20
MAX_METADATA_KEY_CHARACTERS = 40
MAX_METADATA_VALUE_CHARACTERS = 500
MAX_METADATA_BYTES = 4_096

IDEMPOTENCY_KEY = "Idempotency-Key"
MAX_KEY_CHARACTERS = 255
KEY_PATTERN = rf"[!-~]{{1,{MAX_KEY_CHARACTERS}}}"

_NO_TEXT = r"\x00-\x1f\x7f-\x9f"
"""Control characters, which neither a database nor Strike would accept."""

_TEXT_PATTERN = rf"^[\t-\r ]*[^{_NO_TEXT}]*[\t-\r ]*$"
_KEY_PATTERN = rf"^[^{_NO_TEXT}]+$"
_LINES_PATTERN = rf"^(?:[^{_NO_TEXT}]|[\t\n\r])*$"
"""A note may have more than one line."""


def _is(pattern: str, text: str) -> bool:
    """Whether a pattern of JSON Schema matches the whole of `text`, and `text` can be stored."""
    # Python's $ would also match before a line break at the end; lone surrogates cannot be written as UTF-8.
    fits = re.fullmatch(pattern.removeprefix("^").removesuffix("$"), text) is not None
    return fits and not has_lone_surrogate(text)


def _plain_text(text: str) -> str:
    if not _is(_TEXT_PATTERN, text):
        raise ValueError("has characters that are not text")
    return text.strip()


def _printable(value: object) -> object:
    """A text with spaces in place of characters that cannot be shown or stored; other values unchanged."""
    return blank_unprintable(value) if isinstance(value, str) else value


def _description(text: str) -> str:
    """One line, shortened to Strike's limit of characters. A limit in bytes applies only to the wallet's copy."""
    line = on_one_line(text)
    return line if len(line) <= DESCRIPTION_CHARACTERS else fit_description(line)


def _storable(value: object) -> object:
    """A text with spaces in place of lone surrogates: nothing else in it can prevent the sale."""
    return blank_lone_surrogates(value) if isinstance(value, str) else value


def _id_as_text(value: object) -> object:
    """An id as text: many shops number their orders."""
    if isinstance(value, bool | Decimal):
        raise ValueError("must be a string, or a whole number")
    return str(value) if isinstance(value, int) else value


def _amount_as_sent(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError('must be a string such as "12.34", or a number')
    return value


def _link(text: str) -> str | None:
    return customer_link(text) if text else None


def _metadata_as_text(value: object) -> object:
    """Metadata with every value as the text that is returned to the shop."""
    if not isinstance(value, dict):
        return value
    if len(value) > MAX_METADATA_KEYS:
        raise ValueError(f"has more than {MAX_METADATA_KEYS} keys")
    metadata = {_metadata_key(key): _metadata_value(key, one) for key, one in value.items()}
    if len(json.dumps(metadata, ensure_ascii=False).encode()) > MAX_METADATA_BYTES:
        raise ValueError(f"is larger than {MAX_METADATA_BYTES:,} bytes")
    return metadata


def _metadata_key(key: str) -> str:
    if len(key) > MAX_METADATA_KEY_CHARACTERS or not _is(_KEY_PATTERN, key):
        raise ValueError(f"has a key that is not 1 to {MAX_METADATA_KEY_CHARACTERS} characters of text")
    return key


def _metadata_value(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | Decimal):
        raise ValueError(f'must have a string, number or bool as "{key}"')
    text = str(value)
    if len(text) > MAX_METADATA_VALUE_CHARACTERS:
        raise ValueError(f'has more than {MAX_METADATA_VALUE_CHARACTERS} characters as "{key}"')
    if not _is(_LINES_PATTERN, text):
        raise ValueError(f'has characters that are not text as "{key}"')
    return text


def _currency(text: str) -> str | None:
    try:
        return read_currency(text) if text.strip() else None
    except InvalidRequest as error:
        raise ValueError(error.message) from error


def _seconds(value: object) -> object:
    """A whole number of seconds: 600, or 600.0 as some languages write it."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or value != int(value):
        raise ValueError("must be a whole number of seconds")
    return int(value)


def _time_to_pay(seconds: int) -> int:
    try:
        return check_expires_in(seconds)
    except InvalidRequest as error:
        raise ValueError(error.message) from error


def idempotency_key(request: Request) -> str | None:
    """The request's Idempotency-Key, if it has one. Raises InvalidRequest when that cannot be a key."""
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key is None:
        return None
    if not re.fullmatch(KEY_PATTERN, key, re.ASCII):
        why = f"must be 1 to {MAX_KEY_CHARACTERS} visible ASCII characters"
        raise invalid_fields({IDEMPOTENCY_KEY: why})
    return key


def rounded_amount_schema(currency: str) -> dict[str, Any]:
    """Amounts that are rounded to the currency's decimals; a half is rounded up."""
    text, _ = amount_schema(currency)["anyOf"]
    half = float(Decimal(5).scaleb(-decimals_of(currency) - 1))
    return {"anyOf": [text, {"type": "number", "minimum": half, "exclusiveMaximum": AMOUNT_LIMIT - half}]}


def amount_schema(currency: str) -> dict[str, Any]:
    """JSON Schema of an amount in `currency`: what is certainly accepted, and how it is best written.

    The code accepts a little more: spaces around it, and exponents, with which some languages write large numbers.
    """
    decimals = decimals_of(currency)
    digits = len(str(AMOUNT_LIMIT - 1))
    # Three digits after a point or comma look like thousands: they need a fourth, or more than three before.
    fractions = {
        0: f"[0-9]{{1,{digits}}}",
        2: rf"[0-9]{{1,{digits}}}(?:[.,][0-9]{{1,2}})?",
        8: rf"(?:[0-9]{{1,{digits}}}(?:[.,][0-9]{{1,2}}|\.[0-9]{{4,8}})?|(?:0|[0-9]{{4,{digits}}})\.[0-9]{{3}})",
        3: rf"(?:[0-9]{{1,{digits}}}(?:[.,][0-9]{{1,2}}|\.[0-9]{{3}}0)?|(?:0|[0-9]{{4,{digits}}})\.[0-9]{{3}})",
    }
    step = 1 if decimals == 0 else float(Decimal(1).scaleb(-decimals))
    text = {"type": "string", "pattern": f"^(?=.*[1-9]){fractions[decimals]}$"}
    number = {"type": "number", "minimum": step, "exclusiveMaximum": AMOUNT_LIMIT, "multipleOf": step}
    return {"anyOf": [text, number]}


_METADATA_SCHEMA = {
    "type": "object",
    "maxProperties": MAX_METADATA_KEYS,
    "propertyNames": {"maxLength": MAX_METADATA_KEY_CHARACTERS, "pattern": _KEY_PATTERN},
    "additionalProperties": {
        "anyOf": [
            {"type": "string", "maxLength": MAX_METADATA_VALUE_CHARACTERS, "pattern": _LINES_PATTERN},
            {"type": "number"},
            {"type": "boolean"},
        ]
    },
}

_ID_SCHEMA = {
    "anyOf": [
        {"type": "string", "maxLength": MAX_ID_CHARACTERS, "pattern": _TEXT_PATTERN},
        {
            "type": "integer",
            "exclusiveMinimum": -(10 ** (MAX_ID_CHARACTERS - 1)),
            "exclusiveMaximum": 10**MAX_ID_CHARACTERS,
        },
    ]
}

Amount = Annotated[Any, BeforeValidator(_amount_as_sent), WithJsonSchema(amount_schema("usd"))]
Description = Annotated[str, BeforeValidator(_printable), AfterValidator(_description)]
OrderId = Annotated[
    str,
    BeforeValidator(_id_as_text),
    Field(max_length=MAX_ID_CHARACTERS),
    AfterValidator(_plain_text),
    WithJsonSchema(_ID_SCHEMA),
]
Address = Annotated[str, BeforeValidator(_storable)]
Link = Annotated[
    str,
    Field(max_length=MAX_LINK_CHARACTERS, json_schema_extra={"pattern": f"^(?:{LINK_PATTERN})?$"}),
    AfterValidator(_link),
]
Currency = Annotated[
    str,
    AfterValidator(_currency),
    WithJsonSchema({"enum": sorted({*INVOICE_CURRENCIES, *(one.upper() for one in INVOICE_CURRENCIES)})}),
]
Seconds = Annotated[
    int,
    BeforeValidator(_seconds),
    AfterValidator(_time_to_pay),
    WithJsonSchema({"type": "integer", "minimum": MIN_EXPIRES_IN_SECONDS, "maximum": MAX_EXPIRES_IN_SECONDS}),
]
Metadata = Annotated[dict[str, str], BeforeValidator(_metadata_as_text), WithJsonSchema(_METADATA_SCHEMA)]


class GenerateInvoice(BaseModel):
    """What to sell, and for how much."""

    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)

    amount_fiat: Annotated[
        Amount,
        Field(
            description='In `currency`. A string keeps its digits: "12.34"; a decimal comma is understood. '
            'What two countries read differently, such as "15.000" or "1,234", is refused. '
            "Never rounded: more decimals than the currency has are refused.",
            examples=["12.34"],
        ),
    ]
    currency: Annotated[
        Currency | None,
        Field(
            description="Code of the amount's currency, in any case; that of the shop if omitted. `btc` and `sats` are "
            "exact and need no price.",
            examples=["eur"],
        ),
    ] = None
    expires_in: Annotated[
        Seconds | None,
        Field(
            description=f"Seconds to pay, {MIN_EXPIRES_IN_SECONDS} to {MAX_EXPIRES_IN_SECONDS:,}; TIME_OFFSET of the "
            "installation if omitted. Strike's quote may end sooner: `expiration_time` is what counts.",
            examples=[900],
        ),
    ] = None
    ln_address: Annotated[
        Address | None,
        Field(
            description="Where a refund would be sent: a Lightning address or an LNURL. An invalid one does not "
            "prevent the sale: `warnings` in the answer reports it, and the customer would be asked for another one.",
            examples=["alice@example.com"],
        ),
    ] = None
    description: Annotated[
        Description | None,
        Field(
            description="What the customer reads in the wallet and on the page, on one line: line breaks and control "
            f"characters become spaces. Shortened to {DESCRIPTION_CHARACTERS} characters, for a wallet to 639 bytes.",
            examples=["Two coffees"],
        ),
    ] = None
    correlation_id: Annotated[
        OrderId | None,
        Field(
            description="Your id for this invoice, generated if omitted. The same id with the same request returns the "
            "same open invoice, so a request can be repeated safely. A whole number is accepted too.",
            examples=["order-1042"],
        ),
    ] = None
    order_id: Annotated[
        OrderId | None,
        Field(
            description="Your order, if it may need several attempts: each has its own correlation_id and the same "
            "order_id. Every notification contains it. Once an attempt is paid, no further one is issued. "
            "The correlation_id if omitted.",
            examples=["1042"],
        ),
    ] = None
    return_url: Annotated[
        Link | None,
        Field(
            description="Where the payment page leads once it is paid: https, or http on localhost.",
            examples=["https://shop.example/orders/1042"],
        ),
    ] = None
    retry_url: Annotated[
        Link | None,
        Field(
            description="Where the payment page leads for a new invoice once the deadline has passed.",
            examples=["https://shop.example/cart"],
        ),
    ] = None
    metadata: Annotated[
        Metadata | None,
        Field(
            description="Returned as text in notifications and with the invoice's state. At most "
            f"{MAX_METADATA_BYTES} bytes in all. Anyone who knows the invoice's id can read it: keep secrets out.",
            examples=[{"cart": "17", "gift": True}],
        ),
    ] = None

    def invoice_name(self, idempotency_key: str | None = None, scope: str = "") -> str:
        """The correlation id for this invoice: the shop's own, one derived from the idempotency key, or a random one.

        scope: the caller, so that two shops using the same key do not receive each other's invoices.
        """
        if self.correlation_id or idempotency_key is None:
            return self.correlation_id or str(uuid.uuid4())
        # Keys may be too long for an id, and must not collide with a correlation_id that has the same text.
        # No part can hold the NUL between the two: a key is visible ASCII.
        digest = hashlib.sha256(f"{scope}\0{idempotency_key}".encode("utf-8", "surrogatepass")).hexdigest()
        return f"key-{digest[:36]}"
