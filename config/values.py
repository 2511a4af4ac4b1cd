"""Readers for settings: text in, value out, or a ValueError whose message continues "NAME ...".

An example: `values.whole(10, 86_400, "seconds")("5")` raises "must be seconds: a whole number from 10 to 86400".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from config.sources import QUOTES
from lnpay.domain.addresses import ascii_host
from lnpay.domain.events import EventType
from lnpay.domain.money import CURRENCIES, MAX_SATS, STRIKE_CURRENCIES
from lnpay.domain.receives import ReceiveWith
from lnpay.domain.states import LatePayments
from lnpay.domain.webhook_signature import decode_delivery_secret
from lnpay.repository.maintenance.sqlite_url import sqlite_url

_PARENT = Path(__file__).resolve().parent.parent

ROOT = Path.cwd() if _PARENT.name in ("site-packages", "dist-packages") else _PARENT
"""The project's folder; for an installed package, the folder in which it is started. Relative SQLite paths start here:
cron starts elsewhere and must not create a second database."""

MIN_API_KEY_CHARACTERS = 16
"""Random letters and digits of this length have 95 bits, far too many to guess."""

MIN_PASSWORD_CHARACTERS = 12
"""Shorter than a key, because failed logins are slowed down."""

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_WHOLE = re.compile(r"[0-9]{1,18}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,6})?", re.ASCII)
_VISIBLE = re.compile(r"[!-~]+")
_HOST = re.compile(r"[0-9A-Za-z.:_-]+", re.ASCII)
_HOST_NAME = re.compile(r"[0-9A-Za-z._-]{1,64}", re.ASCII)
_WORDS = {
    **dict.fromkeys(("on", "true", "yes", "1"), True),
    **dict.fromkeys(("off", "false", "no", "0"), False),
}


def visible(text: str) -> str:
    if not _VISIBLE.fullmatch(text):
        raise ValueError("has spaces or characters outside ASCII: copy it again, without quotes around or inside it")
    return text


def webhook_secret(text: str) -> str:
    if not 10 <= len(text) <= 50:
        raise ValueError("must have 10 to 50 characters: make one with `python key_generator.py`")
    return visible(text)


def delivery_secret(text: str) -> str:
    try:
        decode_delivery_secret(text)
    except ValueError as error:
        raise ValueError(f"{error}: make one with `python key_generator.py --delivery`") from None
    return text


def api_keys(text: str) -> tuple[str, ...]:
    keys = _list(text)
    for key in keys:
        long_enough("has a key")(key)
    return keys


def long_enough(what: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if len(visible(text)) < MIN_API_KEY_CHARACTERS:
            raise ValueError(
                f"{what} of less than {MIN_API_KEY_CHARACTERS} characters, which can be guessed: "
                "make one with `python key_generator.py`"
            )
        return text

    return read


def admin_password(text: str) -> str:
    if len(text) < MIN_PASSWORD_CHARACTERS:
        raise ValueError(
            f"has fewer than {MIN_PASSWORD_CHARACTERS} characters: anyone who guesses it can send refunds. "
            "Make one with `python key_generator.py`"
        )
    return text


def whole(low: int, high: int, unit: str) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not _WHOLE.fullmatch(text) or not low <= int(text) <= high:
            raise ValueError(f"must be {unit}: a whole number from {low} to {high}")
        return int(text)

    return read


def host_name(text: str) -> str:
    if not _HOST_NAME.fullmatch(text):
        raise ValueError("must be a name of at most 64 letters, digits, dots, hyphens and underscores")
    return text


def days_or_never(text: str) -> int:
    if not _WHOLE.fullmatch(text) or not (int(text) == 0 or 30 <= int(text) <= 3_650):
        raise ValueError("must be a whole number of days, from 30 to 3650, or 0 to delete nothing")
    return int(text)


def days_or_off(text: str) -> int:
    if text.lower() in ("off", "0"):
        return 0
    if not _WHOLE.fullmatch(text) or not 30 <= int(text) <= 3_650:
        raise ValueError("must be off, or a whole number of days, from 30 to 3650")
    return int(text)


def limit(text: str) -> int:
    if not _WHOLE.fullmatch(text) or not 1 <= int(text) <= MAX_SATS:
        raise ValueError(
            "must be a whole number of sats, at least 1. Leave it empty for no limit; "
            "REFUNDS_ENABLED=off stops all refunds"
        )
    return int(text)


def percent(text: str) -> Decimal:
    if not _DECIMAL.fullmatch(text) or not 0 <= Decimal(text) <= 100:
        raise ValueError("must be a percentage from 0 to 100 without the sign, with a decimal point: 5 or 0.5")
    return Decimal(text)


def switch(text: str) -> bool:
    try:
        return _WORDS[text.lower()]
    except KeyError:
        raise ValueError("must be on or off") from None


def word(words: Sequence[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text.lower()

    return read


def late_payments(text: str) -> LatePayments:
    return LatePayments(word(tuple(LatePayments))(text))


def receive_with(text: str) -> ReceiveWith:
    return ReceiveWith(word(tuple(ReceiveWith))(text))


def settle_in(text: str) -> str:
    return word(tuple(one.lower() for one in STRIKE_CURRENCIES))(text).upper()


def currency(text: str) -> str:
    code = text.lower()
    if code in CURRENCIES:
        return code
    if code == "vef":
        raise ValueError("ended in 2018 and has no price; choose another currency")
    known = sorted(CURRENCIES)
    near = get_close_matches(code, known, n=1)
    hint = f"did you mean {near[0]}? All are" if near else "all are"
    raise ValueError(f"is not a supported currency; {hint}: {' '.join(known)}")


def _list(text: str) -> tuple[str, ...]:
    """The distinct parts of a comma-separated list, in order."""
    parts = (part.strip() for part in text.split(","))
    found = tuple(dict.fromkeys(part for part in parts if part))
    if any(part[0] in QUOTES or part[-1] in QUOTES for part in found):
        raise ValueError("must be a comma list without quotes")
    return found


def events(text: str) -> frozenset[EventType]:
    names = _list(text.lower())
    if names == ("none",):
        return frozenset()
    known = [str(event) for event in EventType]
    for name in names:
        if name not in known:
            raise ValueError(f"must be none, or a comma list of {', '.join(known)}")
    if not names:
        raise ValueError("names no event")
    return frozenset(EventType(name) for name in names)


def _split_url(text: str) -> SplitResult:
    if not _VISIBLE.fullmatch(text):
        raise ValueError(_odd_letters(text))
    try:
        url = urlsplit(text)
        host, scheme = url.hostname or "", url.scheme
    except ValueError:  # brackets without an IPv6 address between them
        host, scheme = "", "https"
    if scheme not in ("http", "https") or not text[len(scheme) :].startswith("://"):
        raise ValueError("must be an address that starts with https:// (or http://)")
    if not _HOST.fullmatch(host) or (":" not in host and not all(host.removesuffix(".").split("."))):
        raise ValueError(f"must have the name of a host after {scheme}://")
    try:
        is_port = url.port != 0
    except ValueError:
        is_port = False
    if not is_port:
        raise ValueError("has a port that is not a number from 1 to 65535")
    return url


def _odd_letters(text: str) -> str:
    """How to write characters that a URL cannot hold. Shows only the host, because the rest may be secret."""
    if re.search(r"[\x00- \x7f]", text):
        return "must have no space: write %20 for one that belongs to it"
    try:
        url = urlsplit(text)
        host = url.hostname or ""
        if host and not all(host.removesuffix(".").split(".")):
            return f"must have the name of a host after {url.scheme}://"
        plain = ascii_host(host)
    except ValueError:
        return "must have its host in ASCII: write the xn-- form of it, which your provider shows"
    if host != plain:
        return f"must have its host in ASCII: write {plain} instead of {host}"
    return "must be in ASCII: write other letters percent-encoded, such as %C3%BC for ü"


def url(text: str) -> str:
    _split_url(text)
    return text


def _safe_url(text: str) -> SplitResult:
    """Parse a URL that receives a secret or on which money depends."""
    url = _split_url(text)
    if url.scheme == "http" and url.hostname not in _LOOPBACK:
        raise ValueError("must start with https:// (http:// is for this machine only)")
    if "@" in url.netloc or "?" in text or "#" in text:
        raise ValueError("must have no user name, no ? and no #")
    return url


def base_url(text: str) -> str:
    _safe_url(text)
    return text.rstrip("/")


def webhook_url(text: str) -> str:
    """A URL that Strike can be given. Raises ValueError; the message continues "NAME ..."."""
    if not _safe_url(text).path.endswith("/webhook"):
        raise ValueError("must end in /webhook")
    return text


def networks(text: str) -> tuple[str, ...]:
    try:
        return tuple(str(ip_network(one)) for one in _list(text))
    except ValueError:
        raise ValueError("must be a comma list of addresses or networks, such as 127.0.0.1, 172.16.0.0/12") from None


def origins(text: str) -> tuple[str, ...]:
    origins = _list(text)
    # Browsers send origins in exactly this form, so anything else can never match.
    for origin in origins:
        if origin != "*" and origin != _origin_of(_split_url(origin)):
            raise ValueError(
                "must be a comma list of origins in lower case without a path or a slash at the end, "
                "such as https://shop.example"
            )
    return origins


def _origin_of(url: SplitResult) -> str:
    return f"{url.scheme}://{url.netloc.rpartition('@')[2].lower()}"


def database_url(text: str) -> str:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError("must be sqlite:///file.sqlite or postgresql+psycopg://user:password@host/name") from None
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        if "?" in text:
            raise ValueError("has a ?: write %3F for one that belongs to the path. Options are not supported")
        if url.host:
            raise ValueError(
                "must have three slashes before a path, as in sqlite:///invoices.sqlite, or four: sqlite:////srv/…"
            )
        return sqlite_url(_database_path(url.database, text))
    if url.drivername in ("postgres", "postgresql"):
        raise ValueError(f"must start with postgresql+psycopg:// instead of {url.drivername}://")
    if url.drivername != "postgresql+psycopg":
        raise ValueError("must start with sqlite:/// or postgresql+psycopg://")
    if not url.database:
        raise ValueError("must name a database after the host: postgresql+psycopg://user:password@host/name")
    return text


def _database_path(path: str | None, text: str) -> Path:
    if not path or path == ":memory:":
        raise ValueError(
            "must name a file, as in sqlite:///invoices.sqlite: an in-memory database is lost when LNPay stops"
        )
    whole = ROOT / path
    if not whole.parent.is_dir():
        odd = ". In the address a % of the path is written %25" if "%" in text else ""
        raise ValueError(f"names a file in a folder that does not exist: create the folder first{odd}")
    if whole.is_dir():
        raise ValueError("names a folder: write the name of a file in it, such as invoices.sqlite, after it")
    return whole
