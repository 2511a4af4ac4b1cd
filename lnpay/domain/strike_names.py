"""The names that we give to invoices at Strike: its `correlationId`, unique in the whole account.

`<order>.<installation><random>`: the shop's order id as far as it is safe to write, so that people recognise it in
Strike's dashboard; which database made it; and a part that only this draft has. Other programs on the same account
can neither guess a name in advance nor happen to choose it, so a DUPLICATE_INVOICE is always an earlier call of ours.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

MAX_CHARACTERS = 40
"""Strike's limit for a correlationId."""

INSTALLATION_CHARACTERS = 6
RANDOM_CHARACTERS = 12
"""60 bits: with a million invoices of one order id, two are the same with a probability of one in two million."""

ORDER_CHARACTERS = MAX_CHARACTERS - 1 - INSTALLATION_CHARACTERS - RANDOM_CHARACTERS

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
"""One case only: nothing says whether Strike compares case. None of them means anything in OData or a URL."""

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_NAME = re.compile(
    rf"(?P<order>[A-Za-z0-9_-]{{0,{ORDER_CHARACTERS}}})"
    rf"\.(?P<installation>[a-z2-7]{{{INSTALLATION_CHARACTERS}}})[a-z2-7]{{{RANDOM_CHARACTERS}}}"
)


@dataclass(frozen=True)
class StrikeName:
    """What a name at Strike says. order: the shop's order id, or as much of it as the name has room for."""

    order: str
    installation: str


def new_installation() -> str:
    """The part that names of one database have in common, made once for it."""
    return _random(INSTALLATION_CHARACTERS)


def new_strike_name(correlation_id: str, installation: str) -> str:
    """A new name at Strike for an order: no two calls give the same one."""
    order = _UNSAFE.sub("-", correlation_id)[:ORDER_CHARACTERS]
    return f"{order}.{installation}{_random(RANDOM_CHARACTERS)}"


def read_strike_name(text: str) -> StrikeName | None:
    """What a name says; None for one that LNPay did not make, or that a version before these names made."""
    match = _NAME.fullmatch(text)
    return StrikeName(match["order"], match["installation"]) if match else None


def _random(characters: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(characters))
