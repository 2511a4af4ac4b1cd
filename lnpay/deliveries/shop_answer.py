"""What the shop's answer to a delivery means. The delivery hook and the doctor judge by it alike."""

from __future__ import annotations

from lnpay.domain.errors import ShopGone, ShopRefused

ANSWER_SECONDS = 15
"""How long the shop may take to answer, connecting included."""


def require_accepted(status: int) -> None:
    """Return when `status` means that the shop has the message: 2xx. Redirects are not followed, so they do not.

    Raises ShopGone for 410, otherwise ShopRefused.
    """
    if status == 410:
        raise ShopGone("the shop answered 410: it does not want this message")
    if not 200 <= status < 300:
        raise ShopRefused(f"the shop answered {status}")
