"""Write BOLT11 payment requests, signed with a real node key.

Written from the specification (BOLT 11, BIP 173), and deliberately independent of the code that reads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from coincurve import PrivateKey

NODE_KEY = PrivateKey(hashlib.sha256(b"a lightning node of the sandbox").digest())
WALLET_KEY = PrivateKey(hashlib.sha256(b"the customer's wallet of the sandbox").digest())

ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
FINAL_CLTV_BLOCKS = 18

# var_onion_optin and payment_secret required (8, 14), basic_mpp offered (17).
FEATURE_BITS = 1 << 8 | 1 << 14 | 1 << 17

_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_MSATS_PER_UNIT = (("", 100_000_000_000), ("m", 100_000_000), ("u", 100_000), ("n", 100))


@dataclass(frozen=True, slots=True)
class PaymentTerms:
    """What a payment request says. Exactly one of description and description_hash (32 bytes) counts.

    sats: None leaves the amount to the payer.
    """

    sats: int | None
    timestamp: int
    expiry_seconds: int
    payment_hash: bytes
    payment_secret: bytes
    description: str = ""
    description_hash: bytes | None = None


def write_payment_request(terms: PaymentTerms, key: PrivateKey = NODE_KEY) -> str:
    """The bech32 text of `terms` on mainnet, signed so that the node's key can be recovered from it."""
    prefix = "lnbc" + format_amount(terms.sats)
    words = _to_words(terms.timestamp, 7) + _tagged_fields(terms)
    digest = hashlib.sha256(prefix.encode() + _to_bytes(words)).digest()
    signature = key.sign_recoverable(digest, hasher=None)
    words += _from_bytes(signature)
    return _bech32(prefix, words)


def write_address(program: bytes) -> str:
    """The bitcoin address on mainnet that pays to a key's hash of 20 bytes (BIP 141, version 0)."""
    return _bech32("bc", [0, *_from_bytes(program)])


def _bech32(prefix: str, words: list[int]) -> str:
    return prefix + "1" + "".join(map(ALPHABET.__getitem__, words + _checksum(prefix, words)))


def format_amount(sats: int | None) -> str:
    """The shortest amount of a prefix: 51636 is "516360n", 2100000 is "21m", 1 is "10n"; None is ""."""
    if sats is None:
        return ""
    msats = sats * 1000
    for letter, unit in _MSATS_PER_UNIT:
        if msats % unit == 0:
            return f"{msats // unit}{letter}"
    raise ValueError("whole sats only")


def _tagged_fields(terms: PaymentTerms) -> list[int]:
    words = _field("p", _from_bytes(terms.payment_hash)) + _field("s", _from_bytes(terms.payment_secret))
    if terms.description_hash is None:
        words += _field("d", _from_bytes(terms.description.encode()))
    else:
        words += _field("h", _from_bytes(terms.description_hash))
    words += _field("x", _to_shortest_words(terms.expiry_seconds))
    words += _field("c", _to_shortest_words(FINAL_CLTV_BLOCKS))
    return words + _field("9", _to_shortest_words(FEATURE_BITS))


def _field(tag: str, words: list[int]) -> list[int]:
    return [ALPHABET.index(tag), len(words) >> 5, len(words) & 31, *words]


def _to_words(number: int, count: int) -> list[int]:
    return [number >> 5 * place & 31 for place in reversed(range(count))]


def _to_shortest_words(number: int) -> list[int]:
    return _to_words(number, max(1, -(-number.bit_length() // 5)))


def _from_bytes(data: bytes) -> list[int]:
    """Words of five bits, the last one filled up with zeros on the right."""
    count = -(-len(data) * 8 // 5)
    return _to_words(int.from_bytes(data, "big") << count * 5 - len(data) * 8, count)


def _to_bytes(words: list[int]) -> bytes:
    """Whole bytes of `words`, zero bits appended: what the signature covers."""
    size = -(-len(words) * 5 // 8)
    number = 0
    for word in words:
        number = number << 5 | word
    return (number << size * 8 - len(words) * 5).to_bytes(size, "big")


def _polymod(values: Iterable[int], state: int = 1) -> int:
    for value in values:
        top = state >> 25
        state = _STEPS[top] ^ (state & 0x1FFFFFF) << 5 ^ value
    return state


def _step(top: int) -> int:
    mask = 0
    for bit, generator in enumerate(_GENERATOR):
        if top >> bit & 1:
            mask ^= generator
    return mask


_STEPS = tuple(_step(top) for top in range(32))


def _checksum(prefix: str, words: list[int]) -> list[int]:
    state = _polymod(ord(letter) >> 5 for letter in prefix)
    state = _polymod((0,), state)
    state = _polymod((ord(letter) & 31 for letter in prefix), state)
    state = _polymod((*words, 0, 0, 0, 0, 0, 0), state) ^ 1
    return _to_words(state, 6)
