"""What a Lightning payment request (BOLT #11) asks: amount, time, payment hash, description.

Only what the seller needs to check what a provider issued. Two checks are left to the wallet that pays, because they
protect the payer and change nothing of what is asked: the signature (it names the node to pay; we do not know the
provider's nodes, and the string came over TLS) and the feature bits (one that we do not know may be known to every
wallet, and refusing it would cost sales).
Source: https://github.com/lightning/bolts/blob/master/11-payment-encoding.md, and BIP 173 for bech32.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lnpay.money import MAX_SATS, sats_to_msats

DEFAULT_EXPIRY_SECONDS = 3600
"""What a payment request without an expiry means."""

MAX_CHARACTERS = 10_000
"""More than any QR code holds (4,296); it bounds the work that a hostile string can cause."""

_PREFIX = re.compile(r"ln(?P<network>bcrt|bc|tbs|tb)(?P<amount>.*)", re.DOTALL)
_AMOUNT = re.compile(r"(?P<digits>[1-9][0-9]{0,19})(?P<multiplier>[munp]?)")
_PICO_BTC = {"": 10**12, "m": 10**9, "u": 10**6, "n": 10**3, "p": 1}
_PICO_BTC_PER_MSAT = 10

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_WORD_OF = {character: word for word, character in enumerate(_CHARSET)}
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)

# Lengths in words: characters after the separator, 5 bits each.
_CHECKSUM_WORDS = 6
_TIMESTAMP_WORDS = 7
_SIGNATURE_WORDS = 104
_FIELD_HEADER_WORDS = 3
_FIELD_WORDS = {"p": 52, "h": 52}
"""Known fields of a fixed length; one of another length is from a future version, and is skipped."""


class Bolt11Error(ValueError):
    """The text is not a payment request that can be read. The message says why, never the text itself."""


@dataclass(frozen=True)
class PaymentRequest:
    """What a payer is asked for. Hashes are 64 lower-case hex digits, times are UTC."""

    network: str
    """bc (bitcoin), tb (testnet), tbs (signet) or bcrt (regtest)."""
    amount_msats: int | None
    """None: the payer chooses the amount."""
    created_at: datetime
    expiry_seconds: int
    payment_hash: str
    description: str | None
    """From a stranger: escape it before it is shown."""
    description_hash: str | None

    @property
    def expires_at(self) -> datetime:
        """The moment after which it should neither be paid nor its payment be taken."""
        return self.created_at + timedelta(seconds=self.expiry_seconds)


def decode(payment_request: str) -> PaymentRequest:
    """Read a payment request: all lower or all upper case, `lightning:` before it or not.

    Neither signature nor feature bits are checked (see the module). Fields that are unknown, or of an unknown length,
    are skipped; of several of one kind the first counts, as it is the one the specification prefers.
    Raises Bolt11Error for everything else.
    """
    prefix, words = _decode_bech32(_without_scheme(payment_request))
    network, amount_msats = _read_prefix(prefix)
    if len(words) < _TIMESTAMP_WORDS + _SIGNATURE_WORDS:
        raise Bolt11Error("too short: there is no room for time and signature")
    created_at = datetime.fromtimestamp(_to_int(words[:_TIMESTAMP_WORDS]), UTC)
    fields = _read_fields(words[_TIMESTAMP_WORDS:-_SIGNATURE_WORDS])
    if "p" not in fields:
        raise Bolt11Error("there is no payment hash")
    return PaymentRequest(
        network=network,
        amount_msats=amount_msats,
        created_at=created_at,
        expiry_seconds=_read_expiry(fields.get("x"), created_at),
        payment_hash=_to_bytes(fields["p"]).hex(),
        description=_read_description(fields.get("d")),
        description_hash=_to_bytes(fields["h"]).hex() if "h" in fields else None,
    )


def _without_scheme(text: str) -> str:
    if len(text) > MAX_CHARACTERS:
        raise Bolt11Error(f"longer than {MAX_CHARACTERS} characters")
    scheme = "lightning:"
    return text[len(scheme) :] if text[: len(scheme)].lower() == scheme else text


def _decode_bech32(text: str) -> tuple[str, list[int]]:
    """Prefix in lower case, and the words after the separator without the checksum."""
    # Some letters outside ASCII become ASCII in lower case (the Kelvin sign a k); they must not pass for it.
    if not text.isascii():
        raise Bolt11Error("there are characters that no payment request has")
    if text not in (text.lower(), text.upper()):
        raise Bolt11Error("upper and lower case are mixed")
    prefix, separator, data = text.lower().rpartition("1")
    if not separator or not prefix:
        raise Bolt11Error("there is no separator 1 after a prefix")
    if not set(data) <= _WORD_OF.keys():
        raise Bolt11Error("there are characters that no payment request has")
    words = [_WORD_OF[character] for character in data]
    if len(words) < _CHECKSUM_WORDS or not _is_checksum_right(prefix, words):
        raise Bolt11Error("the checksum is wrong: characters were changed or lost")
    return prefix, words[:-_CHECKSUM_WORDS]


def _is_checksum_right(prefix: str, words: Sequence[int]) -> bool:
    """BIP 173: the polynomial of prefix and words, checksum included, leaves 1."""
    spread = [ord(character) >> 5 for character in prefix] + [0] + [ord(character) & 31 for character in prefix]
    remainder = 1
    for word in (*spread, *words):
        remainder = (remainder & 0x1FFFFFF) << 5 ^ word ^ _REDUCED[remainder >> 25]
    return remainder == 1


def _reduce(top: int) -> int:
    reduced = 0
    for bit, generator in enumerate(_GENERATORS):
        reduced ^= generator if top >> bit & 1 else 0
    return reduced


# All 32 outcomes at once: a third of the time of working them out for each word.
_REDUCED = tuple(_reduce(top) for top in range(32))


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
        end = start + _FIELD_HEADER_WORDS + _to_int(header[1:])
        if len(header) < _FIELD_HEADER_WORDS or end > len(words):
            raise Bolt11Error("a field ends after the data")
        kind, payload = _CHARSET[header[0]], words[start + _FIELD_HEADER_WORDS : end]
        if len(payload) == _FIELD_WORDS.get(kind, len(payload)):
            fields.setdefault(kind, payload)
        start = end
    return fields


def _read_expiry(words: Sequence[int] | None, created_at: datetime) -> int:
    if words is None:
        return DEFAULT_EXPIRY_SECONDS
    seconds = _to_int(words)
    try:
        created_at + timedelta(seconds=seconds)
    except OverflowError as error:
        raise Bolt11Error("the expiry is after the year 9999") from error
    return seconds


def _read_description(words: Sequence[int] | None) -> str | None:
    if words is None:
        return None
    try:
        return _to_bytes(words).decode()
    except UnicodeDecodeError as error:
        raise Bolt11Error("the description is not UTF-8") from error


def _to_int(words: Sequence[int]) -> int:
    """Big-endian."""
    value = 0
    for word in words:
        value = value << 5 | word
    return value


def _to_bytes(words: Sequence[int]) -> bytes:
    """Whole bytes in `words`; the bits left over at the end are padding."""
    size, padding = divmod(5 * len(words), 8)
    return (_to_int(words) >> padding).to_bytes(size)
