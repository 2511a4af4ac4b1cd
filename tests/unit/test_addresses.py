"""What may be a Lightning address or an LNURL."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnpay.domain.addresses import (
    MAX_ADDRESS_CHARACTERS,
    AddressRefused,
    parse_refund_address,
    refund_address,
)
from lnpay.domain.encoding import bech32

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
        "a" * 65 + "@example.com", "alice@" + "d" * 64 + ".com", "alice@x" + LONGEST_DOMAIN,
        "lnurl1", "lnurl1short", "lnurl1dp68gurn8ghj7b",
        LNURL[:-1], LNURL[:-1] + "Q", LNURL[:40] + LNURL[41:], LNURL.title(),
        "lnurl1dp68gurn8ghj7!", "lnbc1pvjluezpp5qqqsyq", "https://example.com",
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


def lnurl_of(url: str) -> str:
    return bech32.encode("lnurl", url.encode())


def url_in(lnurl: str | None) -> str:
    assert lnurl is not None
    prefix, words = bech32.decode(lnurl)
    assert prefix == "lnurl"
    return bech32.to_bytes(words).decode()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("alice@bücher.example", "alice@xn--bcher-kva.example"),
        ("Alice@BÜCHER.Example", "alice@xn--bcher-kva.example"),
        ("alice@straße.example", "alice@xn--strae-oqa.example"),
        ("alice@みんな.example", "alice@xn--q9jyb4c.example"),
        ("alice@пример.испытание", "alice@xn--e1afmkfd.xn--80akhbyknj4f"),
        ("lightning:alice@bücher.example", "alice@xn--bcher-kva.example"),
    ],
)
def test_a_host_in_another_script_is_written_as_the_dns_knows_it(text: str, address: str) -> None:
    assert refund_address(text) == address


@pytest.mark.parametrize(
    "text", ["alice@\uff45xample.com", "alice@a\u00adb.\u00ad", "alice@ü_.example", "alice@.ü", "alice@-ü.example"]
)
def test_an_invalid_or_look_alike_host_is_refused(text: str) -> None:
    assert refund_address(text) is None


@pytest.mark.parametrize("scheme", ["lightning:", "LIGHTNING:", "lightning://", "Lightning://", "\u200blightning:"])
@pytest.mark.parametrize("target", ["alice@example.com", LNURL])
def test_what_apps_put_before_it_is_left_out(scheme: str, target: str) -> None:
    assert refund_address(scheme + target) == target.lower()


def test_a_browser_s_slash_at_the_end_is_left_out() -> None:
    assert refund_address(f"lightning://{LNURL}/") == LNURL.lower()
    assert refund_address("alice@example.com/") is None


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("lnurlp://example.com/pay/Abc", "https://example.com/pay/Abc"),
        ("LNURLP://Example.COM/Pay/ABC?Token=XyZ", "https://example.com/Pay/ABC?Token=XyZ"),
        ("lnurlp:example.com/p", "https://example.com/p"),
        ("lightning:lnurlp://example.com/p", "https://example.com/p"),
        ("lnurlp://example.com", "https://example.com"),
        ("lnurlp://example.com:8443/p?a=b%20c&d=é", "https://example.com:8443/p?a=b%20c&d=%C3%A9"),
        ("lnurlp://bücher.example/ü", "https://xn--bcher-kva.example/%C3%BC"),
        ("lnurlp://" + "d" * 56 + ".onion/p", "http://" + "d" * 56 + ".onion/p"),
    ],
)
def test_lnurlp_becomes_the_lnurl_of_its_address_and_the_path_keeps_its_case(text: str, url: str) -> None:
    assert url_in(refund_address(text)) == url


@pytest.mark.parametrize(
    "page", ["https://example.com/?lightning=", "https://example.com/a?x=1&LIGHTNING=", "bitcoin:bc1q?lightning="]
)
def test_a_link_with_an_lnurl_for_wallets_is_that_lnurl(page: str) -> None:
    assert refund_address(page + LNURL) == LNURL.lower()


def test_the_case_inside_an_lnurl_is_kept() -> None:
    assert url_in(refund_address(lnurl_of("https://example.com/PaY?k=AbC").upper())) == "https://example.com/PaY?k=AbC"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LNURL[:-1] + "Q", "checksum"),
        (LNURL.lower().capitalize(), "mixed"),
        ("lnurl1dp68gurn8ghj7b", "do not belong"),
        (lnurl_of("nothing"), "no web address"),
        (lnurl_of("http://example.com/p"), "no web address"),
        (lnurl_of("ftp://example.com/p"), "no web address"),
        (lnurl_of("https://"), "no web address"),
        (bech32.encode("lnurl", b"https://\xff"), "no web address"),
        (bech32.encode("lnurl1", b"https://example.com"), "no web address"),
        (lnurl_of("https://example.com/?tag=login&k1=00"), "other than receiving"),
        (lnurl_of("https://example.com/?tag=withdrawRequest&k1=00"), "other than receiving"),
        ("lnurlp://example.com/?tag=channelRequest", "other than receiving"),
        ("lnurlw://example.com/p", "other than receiving"),
        ("keyauth://example.com/p", "other than receiving"),
        ("lightning:lnurlc://example.com/p", "other than receiving"),
        ("lnurlp://", "neither"),
        ("lnurlp://localhost/p", "neither"),
        ("lnurlp://127.0.0.1/p", "neither"),
        ("lnurlp://me:secret@example.com/p", "more than a host"),
        ("lnurlp://example.com/p#x", "more than a host"),
        ("lnurlp://example.com:99999/p", "port"),
        ("lnurlp://[::1/p", "neither"),
        ("lnurlp://example.com/a b", "neither"),
        ("lnurlp://-ü.example/p", "invalid host name"),
        ("lnurlp://\uff45xample.com/p", "only look like"),
        ("lnurlp://example.com/" + "p" * 700, "too long"),
        ("lnbc1pvjluezpp5qqqsyq", "payment request"),
        ("lightning:LNTB20U1PVJLUEZ", "payment request"),
        ("lno1pqps7sjqpgtyzm3qv4uxzmtsd3jjqer9wd3hy6tsw35k7msjzfpy7nz5yqcnygrfdej", "BOLT12"),
        ("bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "on-chain"),
        ("1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", "on-chain"),
        ("bitcoin:bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "on-chain"),
        ("bitcoin:bc1q?lightning=LNBC1PVJLUEZ", "payment request"),
        ("https://example.com/?lightning=nonsense", "neither"),
        ("Lnurl1x", "mixed"),
        ("nonsense", "neither a Lightning address (name@host) nor an LNURL"),
    ],
)  # fmt: skip
def test_it_says_what_is_wrong_and_never_the_text_itself(text: str, words: str) -> None:
    with pytest.raises(AddressRefused) as refused:
        parse_refund_address(text)

    assert words in str(refused.value)
    assert str(refused.value).startswith(("is ", "has "))
    assert "secret" not in str(refused.value)


@given(st.binary(max_size=200))
def test_bech32_reads_what_it_wrote_and_notices_each_changed_letter(content: bytes) -> None:
    written = bech32.encode("lnurl", content)

    prefix, words = bech32.decode(written)
    assert (prefix, bech32.to_bytes(words)) == ("lnurl", content)
    for place in range(len("lnurl1"), len(written)):
        changed = written[:place] + ("q" if written[place] != "q" else "p") + written[place + 1 :]
        with pytest.raises(bech32.Bech32Error):
            bech32.decode(changed)
