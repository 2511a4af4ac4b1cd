"""The name that distinguishes this machine's workers from those of other machines."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable

MAX_LENGTH = 64

_ID_OF_A_CONTAINER = re.compile(r"[0-9a-f]{12}")
"""The host name of a container that was given none. It changes with each start, so it names nothing."""

_ODD = re.compile(r"[^A-Za-z0-9._-]+")


def find_host(database_url: str, machine_name: Callable[[], str] = socket.gethostname) -> str:
    """This machine's name; empty where it says nothing, as with SQLite, which only one machine uses."""
    if database_url.startswith("sqlite"):
        return ""
    name = machine_name()
    return "" if _ID_OF_A_CONTAINER.fullmatch(name) else _ODD.sub("-", name)[:MAX_LENGTH]
