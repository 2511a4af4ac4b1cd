"""Where a refund can go: a Lightning address or an LNURL.

Only form and checksum are checked here. Whether the address exists is known only when Strike is asked for a quote.
Source: LUD-01 (LNURL), LUD-16 (Lightning address), LUD-17 (`lnurlp://`), https://github.com/lnurl/luds.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

import idna

from lnpay.domain.encoding import bech32

MAX_ADDRESS_CHARACTERS = 1_000

NEITHER = "is neither a Lightning address (name@host) nor an LNURL"

_NAME = re.compile(r"[a-z0-9._+-]{1,64}\Z")
_HOST = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]\Z")
_INVISIBLE = "\u200b\u200e\u200f\u2060\ufeff"
"""Invisible characters that come along when text is copied from web pages and chats."""

_SAFE_IN_URL = "/?:@!$&'()*+,;=-._~%[]"
_ALIENS = (
    (re.compile(r"ln(?:bcrt|bc|tbs|tb)[0-9]*[munp]?1"), "is a payment request, which is for one payment and expires"),
    (re.compile(r"(?:lnurlw|lnurlc|keyauth):"), "is an LNURL for something other than receiving money"),
    (re.compile(r"lno1"), "is a BOLT12 offer, which Strike cannot pay"),
    (
        re.compile(r"(?:bitcoin:)?(?:bc1|tb1|[13]\w{25,34}\Z)"),
        "is an on-chain address, and refunds use Lightning",
    ),
)
"""What people enter by mistake, and how to name it."""

_OTHER_TAGS = frozenset({"login", "withdrawRequest", "channelRequest", "hostedChannelRequest"})


class AddressRefused(ValueError):
    """A refund cannot be sent there. The message continues "the address ..." and never contains the address."""


def is_payment_request(text: str) -> bool:
    """Whether `text` looks like a payment request (BOLT11), with or without `lightning:`; it is not decoded."""
    return re.match(r"(?:lightning:(?://)?)?ln(?:bcrt|bc|tbs|tb)[0-9]*[munp]?1[a-z0-9]*\Z", text.lower()) is not None


def refund_address(text: str | None) -> str | None:
    """The address in `text`, normalised for Strike, or None if there is none. See parse_refund_address."""
    if text is None:
        return None
    try:
        return parse_refund_address(text)
    except AddressRefused:
        return None


def parse_refund_address(text: str) -> str:
    """The address in `text`, normalised for Strike. Raises AddressRefused.

    "lightning:Alice@Example.com" gives "alice@example.com", "alice@bücher.example" its `xn--` form. An LNURL is
    returned in lower case after its checksum is verified; the URL encoded in it keeps its case. `lnurlp://host/Path`
    becomes the LNURL of `https://host/Path`. A link with `?lightning=` stands for the address in that parameter.
    """
    if len(text) > MAX_ADDRESS_CHARACTERS:
        raise AddressRefused(NEITHER)
    bare = _without_scheme(text.strip().strip(_INVISIBLE).strip())
    lower = bare.lower()
    if lower.startswith("lnurlp:"):
        address = _from_url(bare)
    elif lower.startswith("lnurl1"):
        address = _from_lnurl(bare)
    elif lower.startswith(("https://", "bitcoin:")) and "lightning=" in lower:
        address = _from_link(bare)
    else:
        address = _from_name_and_host(bare)
    if len(address) > MAX_ADDRESS_CHARACTERS:
        raise AddressRefused("is too long")
    return address


def _without_scheme(text: str) -> str:
    """Strip `lightning:`, which apps put before anything that a wallet should open."""
    match = re.match(r"lightning:(//)?", text, re.ASCII | re.IGNORECASE)
    if match is None:
        return text
    rest = text[match.end() :]
    # Browsers add a slash to a URL without a path.
    return rest.removesuffix("/") if match[1] else rest


def _from_name_and_host(text: str) -> str:
    name, at, host = text.partition("@")
    if not at or not text.isprintable():
        raise AddressRefused(_what_it_is(text))
    # LUD-16 permits lower case only. lower() turns the Kelvin sign into a plain k, which would be another address.
    if not name.isascii() or not _NAME.match(name.lower()):
        raise AddressRefused(NEITHER)
    return f"{name.lower()}@{_checked_host(host)}"


def _what_it_is(text: str) -> str:
    lower = text.lower()
    return next((words for pattern, words in _ALIENS if pattern.match(lower)), NEITHER)


def _checked_host(host: str) -> str:
    """A public host name in lower-case ASCII."""
    try:
        labels = [ascii_host(label) if label else "" for label in host.split(".")]
    except ValueError:
        raise AddressRefused("has an invalid host name") from None
    # A look-alike letter must not be normalised to an ASCII one: the money would go to another host.
    if any(not old.isascii() and not new.startswith("xn--") for old, new in zip(host.split("."), labels, strict=True)):
        raise AddressRefused("has a host name with letters that only look like Latin ones")
    name = ".".join(labels)
    if not _HOST.match(name):
        raise AddressRefused(NEITHER)
    return name


def _from_lnurl(text: str) -> str:
    try:
        prefix, words = bech32.decode(text)
        url = bech32.to_bytes(words).decode()
    except bech32.Bech32Error as error:
        raise AddressRefused(f"is an invalid LNURL: {error}") from None
    except UnicodeDecodeError:
        raise AddressRefused("is an LNURL that holds no web address") from None
    parts = _split(url)
    if prefix != "lnurl" or not _is_lnurl_target(parts):
        raise AddressRefused("is an LNURL that holds no web address")
    _refuse_other_uses(parts)
    return text.lower()


def _from_url(text: str) -> str:
    """LUD-17: the LNURL for an `lnurlp://` URL; its path keeps its case."""
    parts = _split("https://" + text[len("lnurlp:") :].removeprefix("//"))
    try:
        port = parts.port
    except ValueError:
        raise AddressRefused("is an LNURL with an invalid port") from None
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise AddressRefused("is an LNURL with more than a host and a path")
    host = _checked_host(parts.hostname or "")
    scheme = "http" if host.endswith(".onion") else "https"
    netloc = host if port is None else f"{host}:{port}"
    query = f"?{quote(parts.query, _SAFE_IN_URL)}" if parts.query else ""
    _refuse_other_uses(parts)
    return bech32.encode("lnurl", f"{scheme}://{netloc}{quote(parts.path, _SAFE_IN_URL)}{query}".encode())


def _from_link(text: str) -> str:
    """LUD-01's fallback: a web page or bitcoin: URI whose parameter `lightning` is for wallets."""
    values = {name.lower(): value for name, value in parse_qs(_split(text).query).items()}.get("lightning", [""])
    if not values[0].lower().startswith(("lnurl1", "lnurlp:")):
        raise AddressRefused(_what_it_is(values[0]))
    return parse_refund_address(values[0])


def _split(url: str) -> SplitResult:
    # Python silently drops line breaks and tabs from URLs; other programs do not.
    if not url.isprintable() or " " in url:
        raise AddressRefused(NEITHER)
    try:
        return urlsplit(url)
    except ValueError:
        raise AddressRefused(NEITHER) from None


def _is_lnurl_target(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host.endswith(".onion")))


def _refuse_other_uses(parts: SplitResult) -> None:
    if _OTHER_TAGS & set(parse_qs(parts.query).get("tag", ())):
        raise AddressRefused("is an LNURL for something other than receiving money")


def ascii_host(host: str) -> str:
    """`münchen.example` as `xn--mnchen-3ya.example`; an ASCII name as it is, in lower case.

    IDNA 2008, as in browsers: ß stays ß. Raises ValueError for an impossible name.
    """
    if host.isascii():
        return host.lower()
    try:
        return idna.encode(host, uts46=True).decode()
    except UnicodeError as error:
        raise ValueError(f"{host} cannot be the name of a host") from error
