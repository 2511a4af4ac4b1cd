"""One POST to an address that is data, not a setting: a webhook endpoint of the shop."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import requests

from lnpay.domain.errors import ShopRefused
from lnpay.http.outgoing import PrivateAddress, call_for_status, pooled_session

TIMEOUT_SECONDS = (3, 12)
"""To connect, and to answer; as for DELIVERY_URL."""

Post = Callable[[str, bytes, Mapping[str, str], bool], int]
"""Sends content with headers to a URL, and gives the status of the answer. The last: to public addresses only."""


def post_for_status(url: str, content: bytes, headers: Mapping[str, str], is_public_only: bool) -> int:
    """POST and give the status of the answer. Redirects are not followed. Raises ShopRefused when there is none."""
    try:
        # A session of its own: no connection that was made under other rules is used again.
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
