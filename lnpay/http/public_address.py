"""Whether IP addresses and host names are on the public internet.

An API key may set the URL that LNPay notifies. It must not give access to machines in LNPay's own network (SSRF).
"""

from __future__ import annotations

import socket
import threading
from concurrent.futures import Future
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

LOOKUP_SECONDS = 5.0

_NAT64 = IPv6Network("64:ff9b::/96")
"""IPv6 addresses that a gateway translates to the IPv4 address in their last 32 bits (RFC 6052)."""

_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
"""The same for local-use translation (RFC 8215)."""

_IPV4_COMPATIBLE = IPv6Network("::/96")

_LAST_32_BITS = 0xFFFF_FFFF


def is_public(address: str) -> bool:
    """Whether an IP address, as text, is public. Text that is not an address is not public."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        inner = _ipv4_inside(ip)
        if inner is not None:
            return _is_global(inner)
        if ip.is_site_local or ip in _LOCAL_NAT64 or ip in _IPV4_COMPATIBLE:
            return False
    return _is_global(ip)


def _is_global(ip: IPv4Address | IPv6Address) -> bool:
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _ipv4_inside(ip: IPv6Address) -> IPv4Address | None:
    """The IPv4 address embedded in an IPv6 address, to which its packets are delivered; None if there is none."""
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip.sixtofour is not None:
        return ip.sixtofour
    if ip.teredo is not None:
        return ip.teredo[1]
    return IPv4Address(int(ip) & _LAST_32_BITS) if ip in _NAT64 else None


def look_up(host: str, port: int) -> list[str]:
    """The distinct IP addresses of a host. Raises OSError or ValueError if it has none.

    The resolver also accepts forms such as 2130706433, 0x7f.1 or 0177.0.0.1, so only its result is checked.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def is_host_private(host: str) -> bool:
    """Whether a host resolves to any non-public address. False if the lookup takes longer than LOOKUP_SECONDS."""
    # This machine by definition (RFC 6761), also where the resolver does not know it.
    if f".{host.rstrip('.').lower()}".endswith(".localhost"):
        return True
    future: Future[list[str]] = Future()

    def work() -> None:
        try:
            future.set_result(look_up(host, 0))
        except (OSError, ValueError):
            future.set_result([])

    threading.Thread(target=work, name="look up", daemon=True).start()
    try:
        found = future.result(LOOKUP_SECONDS)
    except TimeoutError:
        return False
    return not all(is_public(one) for one in found)
