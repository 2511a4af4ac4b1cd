"""What may be a Lightning address or an LNURL."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnpay.addresses import MAX_ADDRESS_CHARACTERS, refund_address

# The example of LUD-01.
LNURL = (
    "LNURL1DP68GURN8GHJ7UM9WFMXJCM99E3K7MF0V9CXJ0M385EKVCENXC6R2C35XVUKXEFCV5MKVV34X5EKZD3EV56NYD3HXQURZEPEXEJXXEPNXSCRV"
    "WFNV9NXZCN9XQ6XYEFHVGCXXCMYXYMNSERXFQ5FNS"
)
LONGEST_DOMAIN = ".".join(["d" * 61, "d" * 61, "d" * 61, "d" * 61, "comms"])


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("alice@example.com", "alice@example.com"),
        ("lightning:Alice@Example.com", "alice@example.com"),
        ("LIGHTNING:ALICE@EXAMPLE.COM", "alice@example.com"),
        ("  alice@example.com\n", "alice@example.com"),
        ("\u00a0alice@example.com\u00a0", "alice@example.com"),
        ("alice+tip.jar-2_x@pay.example.co.uk", "alice+tip.jar-2_x@pay.example.co.uk"),
        ("_@example.com", "_@example.com"),
        ("7@a.io", "7@a.io"),
        ("alice@xn--bcher-kva.example", "alice@xn--bcher-kva.example"),
        ("alice@example.xn--p1ai", "alice@example.xn--p1ai"),
        ("alice@" + "d" * 56 + ".onion", "alice@" + "d" * 56 + ".onion"),
        ("a" * 64 + "@example.com", "a" * 64 + "@example.com"),
        ("alice@" + LONGEST_DOMAIN, "alice@" + LONGEST_DOMAIN),
        (LNURL, LNURL.lower()),
        (LNURL.lower(), LNURL.lower()),
        (f"lightning:{LNURL}", LNURL.lower()),
    ],
)
def test_an_address_comes_out_ready_for_the_provider(text: str, address: str) -> None:
    assert refund_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        None, "", " ", "alice", "alice@", "@example.com", "alice@example", "alice@localhost", "alice@127.0.0.1",
        "alice@[::1]", "alice@example.com:8080", "alice@example.com/path", "alice@example.com.", "alice@.com",
        "alice@-example.com", "alice@example-.com", "alice@exa mple.com", "al ice@example.com", "alice@example.c",
        "alice@example.123", "alice@@example.com", "alice@bob@example.com", "alice<script>@example.com",
        "alice@example.com\nbob@example.com", "alice@example.com\x00", "lightning:lightning:alice@example.com",
        "lightning: alice@example.com", "mailto:alice@example.com", "ln_address_or_lnurl", "älice@example.com",
        "alice@bücher.example", "a" * 65 + "@example.com", "alice@" + "d" * 64 + ".com", "alice@x" + LONGEST_DOMAIN,
        "lnurl1", "lnurl1short", "lnurl1dp68gurn8ghj7b", "lnurl1dp68gurn8ghj7!", "lnbc1pvjluezpp5qqqsyq", "https://example.com",
        "https://example.com/?lightning=LNURL1DP68GURN8GHJ7", "lnurl1" + "q" * MAX_ADDRESS_CHARACTERS,
    ],
)  # fmt: skip
def test_what_cannot_be_an_address_is_none(text: str | None) -> None:
    assert refund_address(text) is None


@pytest.mark.parametrize(
    "text", ["\u212aate@example.com", "\u017fam@example.com", "alice@example.\u212aom", "\uff41@b.com"]
)
def test_a_letter_that_only_looks_like_one_of_ours_does_not_become_another_address(text: str) -> None:
    assert refund_address(text) is None


@given(st.text() | st.emails())
def test_any_text_is_none_or_a_plain_address_that_stays_as_it_is(text: str) -> None:
    address = refund_address(text)

    if address is not None:
        assert address.isascii()
        assert address.isprintable()
        assert refund_address(address) == address
