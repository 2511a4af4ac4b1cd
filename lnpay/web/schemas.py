"""The shapes of requests, checked by pydantic, and the sentences for what is wrong with one."""

from __future__ import annotations

import json
import uuid
from decimal import Decimal
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from werkzeug.exceptions import UnsupportedMediaType
from werkzeug.wrappers import Request

from lnpay.errors import InvalidRequest


def _plain_text(text: str) -> str:
    """Text without control characters and halves of characters, which no database and no Strike would take."""
    text = text.strip()
    if any(character < " " or "\x7f" <= character <= "\x9f" or "\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("has characters that are not text")
    return text


def _amount_as_sent(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError('must be a string such as "12.34", or a number')
    return value


Amount = Annotated[Any, BeforeValidator(_amount_as_sent)]
Text = Annotated[str, AfterValidator(_plain_text)]


class GenerateInvoice(BaseModel):
    """Body of POST /generate-invoice."""

    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)

    amount_fiat: Amount
    ln_address: str | None = None
    description: Annotated[Text, Field(max_length=200)] | None = None
    correlation_id: Annotated[Text, Field(max_length=40)] | None = None

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
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("the body is not JSON", code="invalid_json") from error
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
    return ".".join(str(part) for part in location)[:100]


_SENTENCES = {
    "missing": "is missing",
    "extra_forbidden": "is not a field of this request",
    "string_type": "must be a string",
}


def _sentence(error: dict[str, Any]) -> str:
    if error["type"] == "string_too_long":
        return f"is longer than {error['ctx']['max_length']} characters"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return _SENTENCES.get(error["type"], "is not valid")
