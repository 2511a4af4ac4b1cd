"""Whether other machines can create invoices here without a key."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit


def why_api_is_open(host: str, webhook_url: str, *, has_keys: bool) -> str | None:
    """Why strangers may be able to create invoices; None if a key is needed or only this machine can call.

    host: what the server listens on. webhook_url: its public URL; empty if it has none.
    has_keys: whether API_KEYS is set or an API key was ever created.
    """
    if has_keys:
        return None
    if not is_this_machine(host):
        return f"HOST={host} lets other machines call LNPay, and there is no API key"
    public = urlsplit(webhook_url).hostname
    if public and not is_this_machine(public):
        return f"WEBHOOK_URL says that LNPay is public at {public}, and there is no API key"
    return None


def is_this_machine(host: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    name = host.strip("[]").rstrip(".").lower()
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
