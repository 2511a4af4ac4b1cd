"""How a payout to an address behaves: by a rule, or by the address's name.

A behaviour is "complete", "fail" (FAILED at once), "noroute" (422 LN_ROUTE_NOT_FOUND), "unknown" (no such
address), "pending" (until told), "pending:60" (COMPLETED after 60 s) or "pendingfail:60" (FAILED after 60 s).
Addresses say it in their name: fail@…, noroute@…, unknown@…, pending@…, pending60@…, pendingfail60@…; and
min500@… and max500@… (sats) bound what can be sent, comment20@… and comment0@… what can be said, dear@… costs.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass

from lnpay.sandbox.config import SimulatorConfig

_NAMED = re.compile(r"(complete|fail|noroute|unknown|pendingfail|pending|min|max|comment|dear)([0-9]*)")
_ADDRESS = re.compile(r"[a-z0-9._+\-]{1,64}@[a-z0-9.\-]+(:[0-9]+)?", re.IGNORECASE)
_LNURL = re.compile(r"lnurl1[a-z0-9]{20,}", re.IGNORECASE)
_URL = re.compile(r"(https?|lnurlp)://[^\s]{3,}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Destination:
    """What is known of a Lightning address or LNURL before paying it."""

    name: str
    behaviour: str
    min_sats: int
    max_sats: int
    comment_allowed: int
    is_dear: bool = False


def is_well_formed(name: str) -> bool:
    """Whether it looks like a Lightning address or an LNURL at all."""
    return any(pattern.fullmatch(name) for pattern in (_ADDRESS, _LNURL, _URL))


def look_up(name: str, config: SimulatorConfig) -> Destination:
    """The rules of a destination."""
    match = _NAMED.fullmatch(name.partition("@")[0].lower())
    word, number = (match[1], match[2]) if match else ("complete", "")
    amount = int(number or 0)
    return Destination(
        name=name,
        behaviour=_configured(name, config) or _behaviour_of(word, number),
        min_sats=amount if word == "min" else config.min_sendable_sats,
        max_sats=amount if word == "max" else config.max_sendable_sats,
        comment_allowed=amount if word == "comment" else config.comment_allowed,
        is_dear=word == "dear",
    )


def _configured(name: str, config: SimulatorConfig) -> str | None:
    rules = config.payout_behaviours.items()
    return next((behaviour for pattern, behaviour in rules if fnmatch.fnmatchcase(name, pattern)), None)


def _behaviour_of(word: str, number: str) -> str:
    if word in ("min", "max", "comment", "dear"):
        return "complete"
    return f"{word}:{number}" if number and word.startswith("pending") else word


def split_behaviour(behaviour: str) -> tuple[str, float | None]:
    """Its word and its seconds: "pending:60" gives ("pending", 60.0)."""
    word, _, seconds = behaviour.partition(":")
    return word, float(seconds) if seconds else None
