"""The address the server listens on, and why it cannot listen there."""

from __future__ import annotations

import errno
import re
import socket
from ipaddress import AddressValueError, IPv6Address

_NAME = re.compile(r"[0-9A-Za-z_](?:[0-9A-Za-z._-]*[0-9A-Za-z_.])?", re.ASCII)
_LISTENING_ONLY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing listens there because of this
"""Hosts to listen on that no client can call, and what they mean on this machine."""


def parse_host(text: str) -> str:
    """A host to listen on, IPv6 without brackets. Raises ValueError; the message continues "HOST ..."."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if _is_ipv6(bare) or (bare == text and _NAME.fullmatch(text)):
        return bare
    raise ValueError(
        "must be the address to listen on, without http:// and without a port: 127.0.0.1, or 0.0.0.0 for all of IPv4, "
        ":: for all of IPv6"
    )


def url_of(host: str, port: int) -> str:
    """The server's URL, with IPv6 in brackets."""
    return f"http://{_in_url(host)}:{port}"


def local_url_of(host: str, port: int) -> str:
    """The URL at which this machine reaches the server."""
    return url_of(_LISTENING_ONLY.get(host, host), port)


def find_port(host: str, port: int) -> int:
    """`port`, or for 0 a free one on `host`. Raises OSError if `host` is not an address of this machine."""
    if port:
        return port
    family, _, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind(address)
        return int(probe.getsockname()[1])


def find_pair_of_ports(host: str) -> int:
    """The first of two consecutive free ports on `host`."""
    while True:
        first = find_port(host, 0)
        try:
            with socket.create_server((host, first + 1)):
                return first
        except (OSError, OverflowError):
            continue


def explain_trouble(host: str, port: int, error: BaseException) -> str:
    """Why nothing can listen there, and what to do."""
    where = f"cannot listen on {_in_url(host)}:{port}"
    number = getattr(error, "errno", None)
    if isinstance(error, socket.gaierror | ValueError) or number == errno.EADDRNOTAVAIL:
        return f"{where}: HOST={host} is not an address of this machine. Use 127.0.0.1, or 0.0.0.0 for all."
    if number == errno.EACCES:
        return f"{where}: this user may not. Choose a port from 1024 on (PORT=5000) and put a proxy in front."
    why = getattr(error, "strerror", None) or "the port is taken"
    hint = f"choose another with PORT=5050 (macOS keeps 5000 for AirPlay), or end what listens on {port}"
    return f"{where}: {why}. {hint}."


def _in_url(host: str) -> str:
    return f"[{host.replace('%', '%25')}]" if ":" in host else host


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True
