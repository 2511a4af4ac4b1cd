"""Reads a Lightning payment request (BOLT #11): amount, time, payment hash, description.

It reads only what a seller needs to check a payment request that the provider issued. Two checks are left to the paying
wallet, because they protect the payer and do not affect what is asked for: the signature (it names the node to pay, but
we do not know the provider's nodes, and the string came over TLS) and the feature bits (wallets may support one that we
do not know, and refusing it would cost sales). Source:
https://github.com/lightning/bolts/blob/master/11-payment-encoding.md, and BIP 173 for bech32.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lnpay.domain.encoding import bech32
from lnpay.domain.money import MAX_SATS, sats_to_msats

DEFAULT_EXPIRY_SECONDS = 3600
"""The default expiry of a payment request."""

MAX_CHARACTERS = 10_000
"""More than any QR code holds (4,296). Limits the work that a hostile string can cause."""

_PREFIX = re.compile(r"ln(?P<network>bcrt|bc|tbs|tb)(?P<amount>.*)", re.DOTALL)
_AMOUNT = re.compile(r"(?P<digits>[1-9][0-9]{0,19})(?P<multiplier>[munp]?)")
_PICO_BTC = {"": 10**12, "m": 10**9, "u": 10**6, "n": 10**3, "p": 1}
_PICO_BTC_PER_MSAT = 10

# Lengths in words: characters after the separator, 5 bits each.
_TIMESTAMP_WORDS = 7
_SIGNATURE_WORDS = 104
_FIELD_HEADER_WORDS = 3
_FIELD_WORDS = {"p": 52, "h": 52}
"""Known fields of a fixed length; one of another length is from a future version, and is skipped."""


class Bolt11Error(ValueError):
    """The text is not a valid payment request. The message says why and never contains the text."""


@dataclass(frozen=True)
class PaymentRequest:
    """A decoded payment request. Hashes are 64 lower-case hex digits, times are UTC."""

    network: str
    """bc (bitcoin), tb (testnet), tbs (signet) or bcrt (regtest)."""
    amount_msats: int | None
    """None: the payer chooses the amount."""
    created_at: datetime
    expiry_seconds: int
    payment_hash: str
    description: str | None
    """Untrusted: escape it before showing it."""
    description_hash: str | None

    @property
    def expires_at(self) -> datetime:
        """The moment after which it must be neither paid nor accepted."""
        return self.created_at + timedelta(seconds=self.expiry_seconds)


def decode(payment_request: str) -> PaymentRequest:
    """Decode a payment request in lower or upper case, with or without `lightning:`.

    Neither signature nor feature bits are checked (see the module). Fields that are unknown, or of an unknown length,
    are skipped; of several of one kind the first counts, as it is the one the specification prefers.
    Raises Bolt11Error for everything else.
    """
    try:
        prefix, words = bech32.decode(_without_scheme(payment_request))
    except bech32.Bech32Error as error:
        raise Bolt11Error(str(error)) from error
    network, amount_msats = _read_prefix(prefix)
    if len(words) < _TIMESTAMP_WORDS + _SIGNATURE_WORDS:
        raise Bolt11Error("too short: there is no room for time and signature")
    created_at = datetime.fromtimestamp(bech32.to_int(words[:_TIMESTAMP_WORDS]), UTC)
    fields = _read_fields(words[_TIMESTAMP_WORDS:-_SIGNATURE_WORDS])
    if "p" not in fields:
        raise Bolt11Error("there is no payment hash")
    return PaymentRequest(
        network=network,
        amount_msats=amount_msats,
        created_at=created_at,
        expiry_seconds=_read_expiry(fields.get("x"), created_at),
        payment_hash=bech32.to_bytes(fields["p"]).hex(),
        description=_read_description(fields.get("d")),
        description_hash=bech32.to_bytes(fields["h"]).hex() if "h" in fields else None,
    )


def _without_scheme(text: str) -> str:
    if len(text) > MAX_CHARACTERS:
        raise Bolt11Error(f"longer than {MAX_CHARACTERS} characters")
    scheme = "lightning:"
    return text[len(scheme) :] if text[: len(scheme)].lower() == scheme else text


def _read_prefix(prefix: str) -> tuple[str, int | None]:
    """Network, and the amount in msats."""
    match = _PREFIX.fullmatch(prefix)
    if match is None:
        raise Bolt11Error("the prefix is not one of a bitcoin network: lnbc, lntb, lntbs, lnbcrt")
    return match["network"], _read_amount(match["amount"]) if match["amount"] else None


def _read_amount(text: str) -> int:
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise Bolt11Error("the amount is not a whole number and one of m, u, n, p")
    msats, rest = divmod(int(match["digits"]) * _PICO_BTC[match["multiplier"]], _PICO_BTC_PER_MSAT)
    if rest:
        raise Bolt11Error("the amount is finer than a millisat")
    if msats > sats_to_msats(MAX_SATS):
        raise Bolt11Error("the amount is more than all the bitcoin there is")
    return msats


def _read_fields(words: Sequence[int]) -> dict[str, Sequence[int]]:
    """First payload of each kind of tagged field; a field is its type, two words of length, and the payload."""
    fields: dict[str, Sequence[int]] = {}
    start = 0
    while start < len(words):
        header = words[start : start + _FIELD_HEADER_WORDS]
        end = start + _FIELD_HEADER_WORDS + bech32.to_int(header[1:])
        if len(header) < _FIELD_HEADER_WORDS or end > len(words):
            raise Bolt11Error("a field ends after the data")
        kind, payload = bech32.CHARSET[header[0]], words[start + _FIELD_HEADER_WORDS : end]
        if len(payload) == _FIELD_WORDS.get(kind, len(payload)):
            fields.setdefault(kind, payload)
        start = end
    return fields


def _read_expiry(words: Sequence[int] | None, created_at: datetime) -> int:
    if words is None:
        return DEFAULT_EXPIRY_SECONDS
    seconds = bech32.to_int(words)
    try:
        created_at + timedelta(seconds=seconds)
    except OverflowError as error:
        raise Bolt11Error("the expiry is after the year 9999") from error
    return seconds


def _read_description(words: Sequence[int] | None) -> str | None:
    if words is None:
        return None
    try:
        return bech32.to_bytes(words).decode()
    except UnicodeDecodeError as error:
        raise Bolt11Error("the description is not UTF-8") from error
