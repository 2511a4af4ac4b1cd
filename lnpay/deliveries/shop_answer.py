"""What the shop's answer to a delivery means. The delivery hook and the doctor both use this."""

from __future__ import annotations

from lnpay.domain.errors import ShopGone, ShopRefused

ANSWER_SECONDS = 15
"""How long the shop may take to answer, including the connection."""


def require_accepted(status: int) -> None:
    """Return if `status` means that the shop accepted the message: 2xx. Redirects are not followed and do not count.

    Raises ShopGone for 410, otherwise ShopRefused.
    """
    if status == 410:
        raise ShopGone("the shop answered 410: it does not want this message")
    if not 200 <= status < 300:
        raise ShopRefused(f"the shop answered {status}")
