"""The client's address, also behind a proxy."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from flask import Request

Address = IPv4Address | IPv6Address


def client_address(request: Request, trusted_proxies: Sequence[str]) -> str:
    """The client's address, for limits and logs.

    X-Forwarded-For counts only where a trusted proxy wrote it, read from the end: earlier entries may be forged.
    """
    address = request.remote_addr or ""
    forwarded = [one.strip() for one in ",".join(request.headers.getlist("X-Forwarded-For")).split(",")]
    while forwarded and _is_in(address, trusted_proxies):
        named = _parse(forwarded.pop())
        if named is None:
            break
        address = str(named)
    return address


def _is_in(address: str, networks: Sequence[str]) -> bool:
    known = _parse(address)
    return known is not None and any(known in ip_network(network) for network in networks)


def _parse(text: str) -> Address | None:
    try:
        known = ip_address(text)
    except ValueError:
        return None
    # A server that listens on `::` sees IPv4 clients in this form.
    return (known.ipv4_mapped or known) if isinstance(known, IPv6Address) else known
