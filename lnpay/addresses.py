"""Where a refund can go: a Lightning address or an LNURL.

Only the form is looked at here. Whether anybody answers there is for Strike to say, when money is owed.
"""

from __future__ import annotations

import re

MAX_ADDRESS_CHARACTERS = 1_000

_LIGHTNING_ADDRESS = re.compile(
    r"[a-z0-9._+-]{1,64}@(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]\Z"
)
_LNURL = re.compile(r"lnurl1[02-9ac-hj-np-z]{8,}\Z")


def refund_address(text: str | None) -> str | None:
    """The address in `text`, ready for Strike, or None when it cannot be one.

    "lightning:Alice@Example.com" gives "alice@example.com"; an LNURL keeps its letters, in lower case.
    Source: LUD-16 (Lightning address) and LUD-01 (LNURL).
    """
    if text is None or len(text) > MAX_ADDRESS_CHARACTERS:
        return None
    text = text.strip()
    address = text.lower().removeprefix("lightning:")
    is_address = _LIGHTNING_ADDRESS.match(address) or _LNURL.match(address)
    # lower() makes a plain k of the Kelvin sign, and so another address.
    return address if is_address and text.isascii() else None
