"""One POST to a URL that comes from data rather than settings: a webhook endpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import requests

from lnpay.domain.errors import ShopRefused
from lnpay.http.outgoing import PrivateAddress, call_for_status, pooled_session

TIMEOUT_SECONDS = (3, 12)
"""Connect and read timeouts, the same as for DELIVERY_URL."""

Post = Callable[[str, bytes, Mapping[str, str], bool], int]
"""Sends content with headers to a URL and returns the status. The last argument: public addresses only."""


def post_for_status(url: str, content: bytes, headers: Mapping[str, str], is_public_only: bool) -> int:
    """POST and return the answer's status. Redirects are not followed. Raises ShopRefused without an answer."""
    try:
        # A new session, so that no connection opened under other rules is reused.
        with pooled_session() as session:
            answer = call_for_status(
                session, "POST", url, data=content, headers=headers, timeout=TIMEOUT_SECONDS,
                is_public_only=is_public_only,
            )  # fmt: skip
    except PrivateAddress as error:
        raise ShopRefused(
            "the address is in a private network, where an API key may not point (WEBHOOK_ALLOW_PRIVATE)"
        ) from error
    except (requests.RequestException, ValueError) as error:
        raise ShopRefused(f"the endpoint could not be reached: {type(error).__name__}") from error
    return answer.status_code
