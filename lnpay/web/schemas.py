"""The shapes of requests, checked by pydantic, and the sentences for what is wrong with one."""

from __future__ import annotations

import json
import re
import uuid
from decimal import Decimal
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from werkzeug.exceptions import UnsupportedMediaType
from werkzeug.wrappers import Request

from lnpay.errors import InvalidRequest
from lnpay.web.links import customer_link

MAX_METADATA_KEYS = 20
MAX_METADATA_KEY_CHARACTERS = 40
MAX_METADATA_VALUE_CHARACTERS = 500
MAX_METADATA_BYTES = 4_096


def _plain_text(text: str) -> str:
    """Text without control characters and halves of characters, which no database and no Strike would take."""
    text = text.strip()
    if not _is_text(text):
        raise ValueError("has characters that are not text")
    return text


def _is_text(text: str) -> bool:
    return not any(
        character < " " or "\x7f" <= character <= "\x9f" or "\ud800" <= character <= "\udfff" for character in text
    )


def _amount_as_sent(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError('must be a string such as "12.34", or a number')
    return value


def _link(text: str) -> str | None:
    return customer_link(text) if text.strip() else None


def _metadata_as_text(value: object) -> object:
    """Metadata with every value as the text that the shop will read again."""
    if not isinstance(value, dict):
        return value
    if len(value) > MAX_METADATA_KEYS:
        raise ValueError(f"has more than {MAX_METADATA_KEYS} keys")
    metadata = {_metadata_key(key): _metadata_value(key, one) for key, one in value.items()}
    if len(json.dumps(metadata, ensure_ascii=False).encode()) > MAX_METADATA_BYTES:
        raise ValueError(f"is larger than {MAX_METADATA_BYTES} bytes")
    return metadata


def _metadata_key(key: str) -> str:
    if not (0 < len(key) <= MAX_METADATA_KEY_CHARACTERS and _is_text(key)):
        raise ValueError(f"has a key that is not 1 to {MAX_METADATA_KEY_CHARACTERS} characters of text")
    return key


def _metadata_value(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | Decimal):
        raise ValueError(f'must have a string, number or bool as "{key}"')
    text = str(value)
    # A note may have more than one line.
    if len(text) > MAX_METADATA_VALUE_CHARACTERS or not _is_text(re.sub(r"[\t\n\r]", "", text)):
        raise ValueError(f'must have at most {MAX_METADATA_VALUE_CHARACTERS} characters of text as "{key}"')
    return text


Amount = Annotated[Any, BeforeValidator(_amount_as_sent)]
Text = Annotated[str, AfterValidator(_plain_text)]
Link = Annotated[str, AfterValidator(_link)]
Metadata = Annotated[dict[str, str], BeforeValidator(_metadata_as_text)]


class GenerateInvoice(BaseModel):
    """Body of POST /generate-invoice."""

    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)

    amount_fiat: Amount
    ln_address: str | None = None
    description: Annotated[Text, Field(max_length=200)] | None = None
    correlation_id: Annotated[Text, Field(max_length=40)] | None = None
    return_url: Link | None = None
    retry_url: Link | None = None
    metadata: Metadata | None = None

    def order_id(self) -> str:
        """The shop's order id, or one made up when it sent none."""
        return self.correlation_id or str(uuid.uuid4())


Model = TypeVar("Model", bound=BaseModel)


def read_json(request: Request, model: type[Model]) -> Model:
    """The request's JSON body as `model`; numbers with a fraction become Decimal.

    Raises UnsupportedMediaType when it is not sent as JSON, InvalidRequest, naming the fields, for what is wrong in it.
    """
    if not request.is_json:
        raise UnsupportedMediaType
    try:
        body = json.loads(request.get_data(), parse_float=Decimal, parse_constant=_refuse_constant)
    # Arithmetic: an exponent of twenty digits is JSON, and more than Decimal holds.
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise InvalidRequest("the body is not JSON that can be read", code="invalid_json") from error
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object", code="invalid_json")
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise invalid_fields({_field(one["loc"]): _sentence(dict(one)) for one in error.errors()}) from error


def invalid_fields(fields: dict[str, str]) -> InvalidRequest:
    """An InvalidRequest that says of each field what is wrong with it."""
    said = "; ".join(f"{field} {why}" for field, why in fields.items())
    return InvalidRequest(said[:1000], errors=fields)


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _field(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)[:100] or "body"


_SENTENCES = {
    "missing": "is missing",
    "extra_forbidden": "is not a field of this request",
    "string_type": "must be a string",
    "dict_type": "must be an object",
}


def _sentence(error: dict[str, Any]) -> str:
    if error["type"] == "string_too_long":
        return f"is longer than {error['ctx']['max_length']} characters"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return _SENTENCES.get(error["type"], "is not valid")
