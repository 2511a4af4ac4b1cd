"""The payment requests the sandbox writes, read back by the independent `bolt11` package."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from lnpay.sandbox.strike.bolt11_writer import (
    NODE_KEY,
    WALLET_KEY,
    PaymentTerms,
    format_amount,
    write_payment_request,
)

with warnings.catch_warnings():
    # The package's own dependency warns about itself; that says nothing about what is tested here.
    warnings.simplefilter("ignore")
    bolt11 = pytest.importorskip("bolt11", reason="there is no bolt11 for Python 3.13 and later")

AMOUNTS = {
    1: "10n",
    9: "90n",
    10: "100n",
    99: "990n",
    100: "1u",
    51636: "516360n",
    100_000: "1m",
    2_100_000: "21m",
    123_456_789: "1234567890n",
    100_000_000: "1",
    2_100_000_000_000_000: "21000000",
}
HASH, PAYMENT_SECRET = b"\x01" * 32, b"\xfe" * 32


def terms(**changes: Any) -> PaymentTerms:
    known: dict[str, Any] = {
        "sats": 51636,
        "timestamp": 1_767_225_600,
        "expiry_seconds": 3600,
        "payment_hash": HASH,
        "payment_secret": PAYMENT_SECRET,
    }
    return PaymentTerms(**{**known, **changes})


decode: Callable[[str], Any] = bolt11.decode


@pytest.mark.parametrize(("sats", "text"), AMOUNTS.items())
def test_an_amount_is_written_with_the_shortest_multiplier(sats: int, text: str) -> None:
    assert format_amount(sats) == text


@pytest.mark.parametrize("sats", AMOUNTS)
def test_another_reader_sees_the_amount_that_was_written(sats: int) -> None:
    request = write_payment_request(terms(sats=sats))

    assert request.startswith(f"lnbc{AMOUNTS[sats]}1")
    assert decode(request).amount_msat == sats * 1000


def test_another_reader_sees_every_field() -> None:
    read = decode(write_payment_request(terms(description="Kaffee für zwei ☕", expiry_seconds=120)))

    assert (read.date, read.expiry) == (1_767_225_600, 120)
    assert (read.payment_hash, read.payment_secret) == (HASH.hex(), PAYMENT_SECRET.hex())
    assert read.description == "Kaffee für zwei ☕"
    assert read.min_final_cltv_expiry == 18


def test_a_description_hash_takes_the_place_of_the_description() -> None:
    digest = hashlib.sha256(b"a longer story").digest()

    read = decode(write_payment_request(terms(description="ignored", description_hash=digest)))

    assert read.description_hash == digest.hex()
    assert read.description is None


@pytest.mark.parametrize("length", range(12))
def test_the_signature_covers_a_data_part_of_any_length(length: int) -> None:
    """Five-bit words fill whole bytes only now and then; the padding must be right in every case."""
    read = decode(write_payment_request(terms(description="x" * length)))

    assert read.payee == NODE_KEY.public_key.format().hex()


def test_the_wallet_signs_with_a_key_of_its_own() -> None:
    read = decode(write_payment_request(terms(), WALLET_KEY))

    assert read.payee == WALLET_KEY.public_key.format().hex() != NODE_KEY.public_key.format().hex()
