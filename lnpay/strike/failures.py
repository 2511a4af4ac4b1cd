"""What a refusal or a missing answer means: repeating helps, does not help, or the outcome is unknown."""

from __future__ import annotations

import logging
import math
from datetime import datetime
from typing import Any

import requests
import urllib3.exceptions

from lnpay.domain.errors import (
    StrikeAmbiguous,
    StrikeError,
    StrikeRejected,
    StrikeUnanswered,
    StrikeUnavailable,
)
from lnpay.http.outgoing import AnswerTooLarge, HttpAnswer
from lnpay.strike.dates import read_date
from lnpay.strike.reading import parse_json

log = logging.getLogger(__name__)

_SAFE_TO_REPEAT = frozenset(
    {"PROCESSING_CONFLICT", "ACCOUNT_NOT_READY", "EXCHANGE_RATE_NOT_AVAILABLE"}
    | {"RATE_LIMIT_EXCEEDED", "TOO_MANY_ATTEMPTS"}
)
"""Codes with which Strike did nothing and asks for a retry.

Not LN_UNAVAILABLE: that is a 503, and a payment may have been sent before it.
"""

_LATER = frozenset({425, 429})
"""The same for statuses: too early, too many requests."""

_REQUEST_TIMEOUT = 408
"""Sent by a proxy that timed out, possibly after it had forwarded the request."""

LONGEST_WAIT_SECONDS = 86_400
"""A Retry-After of more than a day is ignored."""


def kind_of(method: str, status: int, code: str | None) -> type[StrikeError]:
    if status in _LATER or code in _SAFE_TO_REPEAT:
        return StrikeUnavailable
    if status < 500 and status != _REQUEST_TIMEOUT:
        return StrikeRejected
    # A 5xx may come after the server has done what was asked, so it is ambiguous.
    return StrikeUnavailable if method == "GET" else StrikeAmbiguous


def unanswered(method: str, path: str, error: requests.RequestException) -> StrikeError:
    log.warning("strike unreachable method=%s path=%s error=%s", method, path, type(error).__name__)
    if isinstance(error, requests.ConnectTimeout) or _was_never_sent(error):
        return StrikeUnavailable("Strike could not be reached")
    if isinstance(error, AnswerTooLarge):
        return StrikeAmbiguous("Strike's answer is too large")
    return StrikeUnanswered("Strike did not answer") if method == "GET" else StrikeAmbiguous("Strike did not answer")


def _was_never_sent(error: requests.RequestException) -> bool:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, urllib3.exceptions.NewConnectionError | urllib3.exceptions.NameResolutionError)


def error_data(response: HttpAnswer) -> dict[str, Any]:
    """`code`, `traceId`, `values` and invalid fields of the error envelope; empty for the edge proxy's HTML."""
    try:
        envelope = parse_json(response.content)
    except ValueError:
        return {}
    if not isinstance(envelope, dict) or not isinstance(envelope.get("data"), dict):
        return {}
    data = envelope["data"]
    values = data.get("values")
    return {
        "code": data["code"] if isinstance(data.get("code"), str) else None,
        "traceId": envelope.get("traceId") if isinstance(envelope.get("traceId"), str) else None,
        "values": values if isinstance(values, dict) else None,
        "invalidFields": frozenset(errors) if isinstance(errors := data.get("validationErrors"), dict) else frozenset(),
    }


def retry_after_seconds(header: str | None, now: datetime) -> int | None:
    """Seconds to wait, from a number of seconds or an HTTP date; None if there is neither."""
    text = (header or "").strip()
    if text.isdecimal():
        seconds = float(text)
        # Too many digits for a waiting time.
        return None if seconds == math.inf else math.ceil(min(seconds, LONGEST_WAIT_SECONDS))
    moment = read_date(text)
    return None if moment is None else math.ceil(min(max(0.0, (moment - now).total_seconds()), LONGEST_WAIT_SECONDS))


def is_word_of_strike(error: StrikeRejected) -> bool:
    """Whether Strike itself gave the reason. A truncated refusal, or one from a proxy, may hide PAYMENT_PROCESSED."""
    is_front_door = error.status in (401, 403)
    return bool(error.strike_code) or is_front_door


def named_in(error: StrikeError, name: str) -> str | None:
    """An id in the `values` of Strike's error, such as paymentQuoteId or paymentId."""
    value = error.values.get(name)
    return value if isinstance(value, str) and value else None
