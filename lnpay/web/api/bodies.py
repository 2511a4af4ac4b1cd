"""JSON request bodies, and the messages about what is wrong with one."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import UnsupportedMediaType
from werkzeug.wrappers import Request

from lnpay.domain.errors import InvalidRequest

MAX_EXPONENT = 1_000
"""The furthest a number's first digit may be from its decimal point.

Writing out `1e9999999` as a whole number would occupy the process for minutes.
"""

Model = TypeVar("Model", bound=BaseModel)


def read_json(request: Request, model: type[Model]) -> Model:
    """The request's JSON body as `model`; numbers with a fraction become Decimal.

    Raises UnsupportedMediaType if it is not sent as JSON, InvalidRequest if it is invalid, naming every wrong field.
    """
    if not request.is_json:
        raise UnsupportedMediaType
    sent = request.get_data()
    if not sent.strip():
        raise InvalidRequest("the body is empty: send a JSON object", code="invalid_json")
    try:
        body = json.loads(sent, parse_float=_fraction, parse_int=_whole_number, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise _invalid_json(f"look at line {error.lineno}, column {error.colno}") from error
    except UnicodeDecodeError as error:
        raise _invalid_json("send it as UTF-8") from error
    except RecursionError as error:
        raise _invalid_json("it is nested too deeply") from error
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object", code="invalid_json")
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise invalid_fields({_field(one["loc"]): _sentence(dict(one)) for one in error.errors()}) from error


def invalid_fields(fields: dict[str, str]) -> InvalidRequest:
    """An InvalidRequest that says what is wrong with each field."""
    sentence = "; ".join(f"{field} {why}" for field, why in fields.items())
    return InvalidRequest(sentence[:1000], errors=fields)


def _invalid_json(why: str) -> InvalidRequest:
    return InvalidRequest(f"the body is not valid JSON: {why}", code="invalid_json")


def _fraction(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except ArithmeticError as error:  # an exponent of twenty digits is JSON, and more than Decimal holds
        raise _out_of_range() from error
    if abs(number.adjusted()) > MAX_EXPONENT:
        raise _out_of_range()
    return number


def _whole_number(text: str) -> int:
    if len(text) > MAX_EXPONENT:  # Python refuses more than 4,300 digits
        raise _out_of_range()
    return int(text)


def _out_of_range() -> InvalidRequest:
    return InvalidRequest("the body has a number that is too large or too small", code="invalid_json")


def _refuse_constant(word: str) -> NoReturn:
    raise _invalid_json(f"{word} is not a JSON number")


def _field(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)[:100] or "body"


_SENTENCES = {
    "missing": "is missing",
    "extra_forbidden": "is not a field of this request",
    "string_type": "must be a string",
    "string_unicode": "has characters that are not text",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "int_type": "must be a whole number, without quotes or a point",
    "greater_than_equal": "must be at least {ge:,}",
    "less_than_equal": "must be at most {le:,}",
    "literal_error": "must be {expected}",
    "too_short": "must not be empty: leave it out instead",
}
"""The message for each kind of mistake that pydantic finds, with its limits."""


def _sentence(error: dict[str, Any]) -> str:
    if error["type"] in ("string_too_long", "too_long"):  # too_long: if one of our validators ran first
        return f"is longer than {error['ctx']['max_length']:,} characters"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return _SENTENCES.get(error["type"], "is not valid").format(**error.get("ctx", {}))
