"""Probe a URL with one HTTP request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import requests

from lnpay.doctor.target import CHECK_TIMEOUT
from lnpay.http.outgoing import Timeout, call_for_status, pooled_session

MAX_ANSWER_BYTES = 4_096
"""Enough for an error body of LNPay; a shop may answer with a whole page."""


@dataclass(frozen=True)
class Answer:
    """The answer to a probe. status: None without an answer; `trouble` says why. code: LNPay's error code, if any.

    headers: names in lower case. is_slow: the answer did not arrive in time.
    """

    status: int | None
    code: str | None = None
    trouble: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    is_slow: bool = False


def send_probe(
    method: str,
    url: str,
    *,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    timeout: Timeout = CHECK_TIMEOUT,
) -> Answer:
    """Send one request. Redirects are not followed, because neither Strike nor LNPay follows them."""
    try:
        with pooled_session() as session:
            answer = call_for_status(
                session, method, url, data=body, headers=headers, timeout=timeout, peek_bytes=MAX_ANSWER_BYTES
            )
    except requests.RequestException as error:
        return Answer(None, trouble=_in_words(error, timeout), is_slow=isinstance(error, requests.ReadTimeout))
    named = {name.lower(): value for name, value in answer.headers.items()}
    return Answer(answer.status_code, _code(answer.content), headers=named)


def origin_of(url: str) -> str:
    """A URL's scheme, host and port. Its other parts may contain a secret and are not shown."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}"


def _code(content: bytes) -> str | None:
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        return None
    code = answer.get("code") if isinstance(answer, dict) else None
    return code if isinstance(code, str) else None


def _in_words(error: requests.RequestException, timeout: Timeout) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return "its TLS certificate is not accepted: expired, self-signed, or for another name"
    if isinstance(error, requests.Timeout):
        return f"it does not answer within {sum(timeout):g} seconds"
    if "NameResolutionError" in repr(error):
        return "its name cannot be resolved (DNS)"
    if isinstance(error, requests.ConnectionError):
        return "the connection was refused or closed"
    return f"it cannot be called ({type(error).__name__})"
