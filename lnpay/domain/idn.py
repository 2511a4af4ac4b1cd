"""Host names in any script, in the form that the DNS and Strike know (`xn--…`)."""

from __future__ import annotations

import idna


def ascii_host(host: str) -> str:
    """`münchen.example` as `xn--mnchen-3ya.example`; an ASCII name as it is, in lower case.

    IDNA 2008, as browsers have it: ß stays a letter of its own. Raises ValueError for a name that cannot exist.
    """
    if host.isascii():
        return host.lower()
    try:
        return idna.encode(host, uts46=True).decode()
    except UnicodeError as error:
        raise ValueError(f"{host} cannot be the name of a host") from error
