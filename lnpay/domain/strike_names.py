"""The names that LNPay gives its invoices at Strike: the `correlationId`, unique within the account.

`<order>.<installation><random>`: the safe characters of the shop's order id, so that people recognise it in Strike's
dashboard; the database that created it; and a part that is unique to the draft. Other programs on the account can
neither guess such a name nor choose it by accident, so a DUPLICATE_INVOICE always means an earlier call of ours.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

MAX_CHARACTERS = 40
"""Strike's limit for a correlationId."""

INSTALLATION_CHARACTERS = 6
RANDOM_CHARACTERS = 12
"""60 bits: among a million invoices for one order id, the chance of any collision is one in two million."""

ORDER_CHARACTERS = MAX_CHARACTERS - 1 - INSTALLATION_CHARACTERS - RANDOM_CHARACTERS

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
"""Lower case only, as Strike does not document whether case matters. None has a meaning in OData or a URL."""

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_NAME = re.compile(
    rf"(?P<order>[A-Za-z0-9_-]{{0,{ORDER_CHARACTERS}}})"
    rf"\.(?P<installation>[a-z2-7]{{{INSTALLATION_CHARACTERS}}})[a-z2-7]{{{RANDOM_CHARACTERS}}}"
)


@dataclass(frozen=True)
class StrikeName:
    """The parts of a name at Strike. order: the shop's order id, or as much of it as fits."""

    order: str
    installation: str


def new_installation() -> str:
    """The part that all names from one database share, generated once for it."""
    return _random(INSTALLATION_CHARACTERS)


def new_strike_name(correlation_id: str, installation: str) -> str:
    """A new name at Strike for an order: no two calls give the same one."""
    order = _UNSAFE.sub("-", correlation_id)[:ORDER_CHARACTERS]
    return f"{order}.{installation}{_random(RANDOM_CHARACTERS)}"


def read_strike_name(text: str) -> StrikeName | None:
    """Parse a name; None if it is not LNPay's, or comes from a version that used plain order ids."""
    match = _NAME.fullmatch(text)
    return StrikeName(match["order"], match["installation"]) if match else None


def _random(characters: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(characters))
