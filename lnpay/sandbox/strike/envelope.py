"""Strike's error envelope, and the checks of request bodies that lead to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from lnpay.sandbox.strike.models import CURRENCIES, Money, decimals_of
from lnpay.sandbox.web import Reply, json_reply

UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")

STATUS_OF_CODE = {
    "INVALID_DATA": 400,
    "INVALID_DATA_QUERY": 400,
    "UNAUTHORIZED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "PROCESSING_CONFLICT": 409,
    "DUPLICATE_INVOICE": 409,
    "ACCOUNT_NOT_READY": 425,
    "RATE_LIMIT_EXCEEDED": 429,
    "TOO_MANY_ATTEMPTS": 429,
    "INTERNAL_SERVER_ERROR": 500,
    "BAD_GATEWAY": 502,
    "MAINTENANCE_MODE": 503,
    "SERVICE_UNAVAILABLE": 503,
    "LN_UNAVAILABLE": 503,
    "GATEWAY_TIMEOUT": 504,
}
"""All other codes are 422."""

MESSAGES = {
    "NOT_FOUND": "Resource not found.",
    "UNAUTHORIZED": "Invalid or unspecified identity.",
    "FORBIDDEN": "Insufficient permissions.",
    "INVALID_DATA": "One or more validation errors occurred.",
    "DUPLICATE_INVOICE": "Invoice with the given correlation id already exists.",
    "PAYMENT_PROCESSED": "Payment was already processed.",
    "INTERNAL_SERVER_ERROR": "An unexpected error occurred.",
    "PAYLOAD_TOO_LARGE": "The body is too large.",
}

ValidationErrors = dict[str, list[dict[str, object]]]


class ApiError(Exception):
    """An error with one of Strike's codes."""

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        status: int | None = None,
        values: Mapping[str, object] | None = None,
        validation: ValidationErrors | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.status = status or STATUS_OF_CODE.get(code, 422)
        self.message = message or MESSAGES.get(code) or code.replace("_", " ").capitalize() + "."
        self.values = values
        self.validation = validation


def error_reply(error: ApiError, trace_id: str) -> Reply:
    """The envelope of `error`; a 401 carries no trace id."""
    data: dict[str, object] = {"status": error.status, "code": error.code, "message": error.message}
    if error.values is not None:
        data["values"] = dict(error.values)
    if error.validation is not None:
        data["validationErrors"] = error.validation
    envelope: dict[str, object] = {} if error.status == 401 else {"traceId": trace_id}
    return json_reply(error.status, {**envelope, "data": data})


def invalid(field: str, code: str, message: str, **values: object) -> ApiError:
    """INVALID_DATA for one field."""
    problem: dict[str, object] = {"code": code, "message": message, "values": {"field": field, **values}}
    return ApiError("INVALID_DATA", validation={field: [problem]})


class Body:
    """Reads the fields of a request body, collects the errors, and raises them together."""

    def __init__(self, fields: dict[str, Any], prefix: str = "", errors: ValidationErrors | None = None) -> None:
        self.fields = fields
        self._prefix = prefix
        self._errors: ValidationErrors = {} if errors is None else errors

    def section(self, field: str) -> Body | None:
        """The object in a field, whose mistakes count as this body's; None when it is absent or null."""
        value = self.fields.get(field)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.fail(field, "INVALID_DATA", f"The value of {field} is not valid.")
            return None
        return Body(value, f"{self._prefix}{field}.", self._errors)

    def fail(self, field: str, code: str, message: str, **values: object) -> None:
        """Note that a field is wrong."""
        field = self._prefix + field
        problem: dict[str, object] = {"code": code, "message": message, "values": {"field": field, **values}}
        self._errors.setdefault(field, []).append(problem)

    def check(self) -> None:
        """Raise an error for everything found so far."""
        if self._errors:
            raise ApiError("INVALID_DATA", validation=self._errors)

    def text(self, field: str, *, most: int, least: int = 0, required: bool = False) -> str | None:
        """A string of a permitted length; None when absent or wrong."""
        value = self.fields.get(field)
        if value is None:
            if required:
                self.fail(field, "INVALID_DATA_REQUIRED", f"The {field} field is required.")
            return None
        if not isinstance(value, str) or not _is_text(value):
            self.fail(field, "INVALID_DATA", f"The value of {field} is not valid.")
            return None
        # As the platform that Strike is built on counts: in UTF-16, where an emoji is two.
        if len(value.encode("utf-16-le")) // 2 > most:
            message = f"The field {field} must be a value with a maximum length of '{most}'"
            self.fail(field, "INVALID_DATA_MAXLENGTH", message, maxLength=most)
        if len(value) < least:
            message = f"The field {field} must be a value with a minimum length of '{least}'"
            self.fail(field, "INVALID_DATA_MINLENGTH", message, minLength=least)
        return value

    def money(self, field: str) -> Money:
        """A required money object of a positive amount. What it returns counts only after `check`."""
        value = self.fields.get(field)
        nothing = Money(0, "BTC")
        if value is None:
            self.fail(field, "INVALID_DATA_REQUIRED", f"The {field} field is required.")
            return nothing
        if not isinstance(value, dict):
            self.fail(field, "INVALID_DATA", f"The value of {field} is not valid.")
            return nothing
        return Money(self._units(field, value), str(value.get("currency")))

    def optional_money(self, field: str) -> Money | None:
        """A money object that may be absent or null."""
        return None if self.fields.get(field) is None else self.money(field)

    def whole_number(self, field: str, *, least: int, most: int) -> int | None:
        """A JSON integer between two bounds; None when absent or wrong."""
        value = self.fields.get(field)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            self.fail(field, "INVALID_DATA", f"The value of {field} is not valid.")
            return None
        if not least <= value <= most:
            self.fail(field, "INVALID_DATA_VALUE", f"The value '{value}' is not valid.", minimum=least, maximum=most)
            return None
        return value

    def hash_text(self, field: str) -> str | None:
        """Sixty-four hexadecimal digits, in lower case; None when absent or wrong."""
        text = self.text(field, most=64, least=64)
        if text is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", text):
            self.fail(field, "INVALID_DATA", f"The value of {field} is not valid.")
            return None
        return text.lower() if text else None

    def _units(self, field: str, value: dict[str, Any]) -> int:
        currency, amount = value.get("currency"), value.get("amount")
        if currency not in CURRENCIES:
            self.fail(f"{field}.currency", "INVALID_DATA_CURRENCY", f"Currency '{currency}' is not supported.")
            return 0
        if not isinstance(amount, str):
            self.fail(f"{field}.amount", "INVALID_DATA", f"The value of {field}.amount is not valid.")
            return 0
        units = parse_units(amount, currency)
        if units is None:
            self.fail(f"{field}.amount", "INVALID_DATA_VALUE", f"The value '{amount}' is not valid.")
            return 0
        return units


def _is_text(value: str) -> bool:
    """Whether it can be encoded: JSON permits lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def parse_units(text: str, currency: str) -> int | None:
    """Whole units of a decimal string; None for no number or too many decimals."""
    if not re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,18})?", text):
        return None
    try:
        units = Decimal(text).scaleb(decimals_of(currency))
    except InvalidOperation:
        return None
    return int(units) if units == units.to_integral_value() else None
