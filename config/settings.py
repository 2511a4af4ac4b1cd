"""Read every setting once, from the environment and config/.env, and name all mistakes at once.

The environment wins over the file. An empty value is an absent one. Nothing else in the project reads the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from config.sources import (
    QUOTES,
    find_misspelt,
    read_env_file,
    shorten,
    unquote,
    where_to_write,
    without_empty,
)
from lnpay.domain.addresses import ascii_host
from lnpay.domain.events import EventType
from lnpay.domain.money import CURRENCIES, MAX_SATS
from lnpay.domain.settings import HookFiles, Settings
from lnpay.domain.webhook_signature import decode_delivery_secret
from lnpay.repository.maintenance.sqlite_url import sqlite_url
from lnpay.runtime.listening import parse_host

ROOT = Path(__file__).resolve().parent.parent
"""The project's folder. Relative SQLite paths start here: cron starts elsewhere and must not make a second database."""

ENV_FILE = ROOT / "config" / ".env"

HOOK_FILES = HookFiles(ROOT / "config" / "local" / "delivery.py", ROOT / "config" / "delivery.py")
"""config/local is the merchant's: upgrades leave it alone."""

MIN_API_KEY_CHARACTERS = 16
"""Random letters and digits of this length have 95 bits: they cannot be found by trial, not even over years."""

MIN_PASSWORD_CHARACTERS = 12
"""Logins are slowed down, so that a password needs less than a key."""

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_WHOLE = re.compile(r"[0-9]{1,18}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,6})?", re.ASCII)
_VISIBLE = re.compile(r"[!-~]+")
_HOST = re.compile(r"[0-9A-Za-z.:_-]+", re.ASCII)
_WORDS = {
    **dict.fromkeys(("on", "true", "yes", "1"), True),
    **dict.fromkeys(("off", "false", "no", "0"), False),
}
_LOG_LEVELS = ("debug", "info", "warning", "error")
_LOG_FORMATS = ("text", "json")

T = TypeVar("T")


class SettingsError(Exception):
    """Settings are wrong. The text names each, what is wrong with it and how to fix it; it holds no secret."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(
            "LNPay cannot start with these settings. Set them in config/.env or in the environment; "
            f"config/.env.example explains each.\n{lines}"
        )


def load_settings(environ: Mapping[str, str] | None = None, env_file: Path | None = None) -> Settings:
    """Read and check every setting.

    environ: in place of the process's environment. env_file: in place of config/.env, or of the file that
    LNPAY_ENV_FILE names; it need not exist.
    Raises SettingsError with every mistake in one text.
    """
    from_environment = os.environ if environ is None else environ
    named = Path(from_environment.get("LNPAY_ENV_FILE", "").strip("\"' ") or ENV_FILE)
    path = named if env_file is None else env_file
    from_file, problems = read_env_file(path)
    reader = _Reader({**from_file, **without_empty(from_environment)}, problems, path)
    settings = _read_settings(reader, path)
    problems.extend(find_misspelt(from_file, reader.names))
    if problems:
        raise SettingsError(problems)
    return settings


def require_webhook(settings: Settings) -> None:
    """Return when Strike's webhook can be subscribed. Raises SettingsError naming what is missing for it."""
    problems = []
    if not settings.webhook_url:
        problems.append("WEBHOOK_URL is missing: the https address at which Strike reaches /webhook of this server")
    if not settings.webhook_secret:
        problems.append("WEBHOOK_SECRET is missing: make one with `python key_generator.py`")
    if problems:
        raise SettingsError(problems)


class _Reader:
    """Reads one variable after the other and collects what is wrong."""

    def __init__(self, values: Mapping[str, str], problems: list[str], env_file: Path = ENV_FILE) -> None:
        self._values = values
        self._problems = problems
        self._env_file = env_file
        self.names: list[str] = []

    def read(self, name: str, parse: Callable[[str], T], default: T) -> T:
        """Value of a variable; a wrong one is named, and shown."""
        return self._read(name, parse, default, is_shown=True)

    def read_hidden(self, name: str, parse: Callable[[str], T], default: T) -> T:
        """Value of a variable that is a secret or may hold one; a wrong one is named, never shown."""
        return self._read(name, parse, default, is_shown=False)

    def require_hidden(self, name: str, parse: Callable[[str], str], source: str) -> str:
        """Value of a secret that must be there; `source` says where to get it."""
        if self._values.get(name, "").strip(QUOTES) == "":
            self._problems.append(
                f"{name} is missing: {source} and put it into {where_to_write(self._env_file)}. "
                "To try LNPay without a key: python main.py --sandbox"
            )
            self.names.append(name)
            return ""
        return self.read_hidden(name, parse, "")

    def _read(self, name: str, parse: Callable[[str], T], default: T, *, is_shown: bool) -> T:
        self.names.append(name)
        text = self._values.get(name)
        if not text:
            return default
        try:
            text = unquote(text)
            return parse(text) if text else default
        except ValueError as error:
            shown = f' is "{shorten(text)}", but' if is_shown else ""
            self._problems.append(f"{name}{shown} {error}")
            # Never seen: a problem makes load_settings raise.
            return default


def _read_settings(reader: _Reader, env_file: Path) -> Settings:
    read, hidden = reader.read, reader.read_hidden
    return Settings(
        strike_api_key=reader.require_hidden(
            "STRIKE_API_KEY", _visible, "make an API key at https://dashboard.strike.me"
        ),
        webhook_secret=hidden("WEBHOOK_SECRET", _webhook_secret, Settings.webhook_secret),
        webhook_secret_old=hidden("WEBHOOK_SECRET_OLD", _webhook_secret, Settings.webhook_secret_old),
        webhook_url=read("WEBHOOK_URL", parse_webhook_url, Settings.webhook_url),
        time_offset_seconds=read("TIME_OFFSET", _whole(10, 86_400, "seconds"), Settings.time_offset_seconds),
        currency=read("CURRENCY", _currency, Settings.currency),
        database_url=hidden("DATABASE_URL", _database_url, _database_url("sqlite:///invoices.sqlite")),
        delivery_url=hidden("DELIVERY_URL", _url, Settings.delivery_url),
        delivery_secret=hidden("DELIVERY_SECRET", _delivery_secret, Settings.delivery_secret),
        delivery_events=read("DELIVERY_EVENTS", _events, Settings.delivery_events),
        api_keys=hidden("API_KEYS", _api_keys, Settings.api_keys),
        cors_origins=read("CORS_ORIGINS", _origins, Settings.cors_origins),
        greenfield=read("GREENFIELD", _switch, Settings.greenfield),
        trusted_proxies=read("TRUSTED_PROXIES", _networks, Settings.trusted_proxies),
        host=read("HOST", parse_host, Settings.host),
        port=read("PORT", _whole(0, 65_535, "the number of a port"), Settings.port),
        strike_api_url=read("STRIKE_API_URL", _base_url, Settings.strike_api_url),
        coingecko_api_url=read("COINGECKO_API_URL", _base_url, Settings.coingecko_api_url),
        coingecko_api_key=hidden("COINGECKO_API_KEY", _visible, Settings.coingecko_api_key),
        coinbase_api_url=read("COINBASE_API_URL", _base_url, Settings.coinbase_api_url),
        rate_max_age_seconds=read("RATE_MAX_AGE", _whole(30, 86_400, "seconds"), Settings.rate_max_age_seconds),
        rate_max_spread_percent=read("RATE_MAX_SPREAD_PERCENT", _percent, Settings.rate_max_spread_percent),
        refund_max_fee_percent=read("REFUND_MAX_FEE_PERCENT", _percent, Settings.refund_max_fee_percent),
        refunds_enabled=read("REFUNDS_ENABLED", _switch, Settings.refunds_enabled),
        refund_max_sats=read("REFUND_MAX_SATS", _limit, Settings.refund_max_sats),
        refund_daily_max_sats=read("REFUND_DAILY_MAX_SATS", _limit, Settings.refund_daily_max_sats),
        refund_min_sats=read("REFUND_MIN_SATS", _whole(0, 1_000_000, "sats"), Settings.refund_min_sats),
        prune_after_days=read("PRUNE_AFTER_DAYS", _days_or_never, Settings.prune_after_days),
        webhook_allow_private=read("WEBHOOK_ALLOW_PRIVATE", _switch, Settings.webhook_allow_private),
        admin_password=hidden("ADMIN_PASSWORD", _admin_password, Settings.admin_password),
        metrics_token=hidden("METRICS_TOKEN", _long_enough("is a token"), Settings.metrics_token),
        log_level=read("LOG_LEVEL", _word(_LOG_LEVELS), Settings.log_level),
        log_format=read("LOG_FORMAT", _word(_LOG_FORMATS), Settings.log_format),
        env_file=env_file,
        hook_files=HOOK_FILES,
    )


# Readers: text in, value out, or a ValueError whose sentence continues "NAME ...".


def _visible(text: str) -> str:
    if not _VISIBLE.fullmatch(text):
        raise ValueError("has spaces or characters outside ASCII: copy it again, without quotes around or inside it")
    return text


def _webhook_secret(text: str) -> str:
    if not 10 <= len(text) <= 50:
        raise ValueError("must have 10 to 50 characters: make one with `python key_generator.py`")
    return _visible(text)


def _delivery_secret(text: str) -> str:
    try:
        decode_delivery_secret(text)
    except ValueError as error:
        raise ValueError(f"{error}: make one with `python key_generator.py --delivery`") from None
    return text


def _api_keys(text: str) -> tuple[str, ...]:
    keys = _list(text)
    for key in keys:
        _long_enough("has a key")(key)
    return keys


def _long_enough(what: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if len(_visible(text)) < MIN_API_KEY_CHARACTERS:
            raise ValueError(
                f"{what} of less than {MIN_API_KEY_CHARACTERS} characters, which can be guessed: "
                "make one with `python key_generator.py`"
            )
        return text

    return read


def _admin_password(text: str) -> str:
    if len(text) < MIN_PASSWORD_CHARACTERS:
        raise ValueError(
            f"has fewer than {MIN_PASSWORD_CHARACTERS} characters: anyone who guesses it can send refunds. "
            "Make one with `python key_generator.py`"
        )
    return text


def _whole(low: int, high: int, unit: str) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not _WHOLE.fullmatch(text) or not low <= int(text) <= high:
            raise ValueError(f"must be {unit}: a whole number from {low} to {high}")
        return int(text)

    return read


def _days_or_never(text: str) -> int:
    if not _WHOLE.fullmatch(text) or not (int(text) == 0 or 30 <= int(text) <= 3_650):
        raise ValueError("must be a whole number of days, from 30 to 3650, or 0 to delete nothing")
    return int(text)


def _limit(text: str) -> int:
    if not _WHOLE.fullmatch(text) or not 1 <= int(text) <= MAX_SATS:
        raise ValueError(
            "must be a whole number of sats, at least 1. Leave it empty for no limit; "
            "REFUNDS_ENABLED=off stops all refunds"
        )
    return int(text)


def _percent(text: str) -> Decimal:
    if not _DECIMAL.fullmatch(text) or not 0 <= Decimal(text) <= 100:
        raise ValueError("must be a percentage from 0 to 100 without the sign, with a decimal point: 5 or 0.5")
    return Decimal(text)


def _switch(text: str) -> bool:
    try:
        return _WORDS[text.lower()]
    except KeyError:
        raise ValueError("must be on or off") from None


def _word(words: Sequence[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text.lower()

    return read


def _currency(text: str) -> str:
    code = text.lower()
    if code in CURRENCIES:
        return code
    if code == "vef":
        raise ValueError("ended in 2018 and has no price; choose another currency")
    known = sorted(CURRENCIES)
    near = get_close_matches(code, known, n=1)
    hint = f"did you mean {near[0]}? All are" if near else "all are"
    raise ValueError(f"is not a currency known here; {hint}: {' '.join(known)}")


def _list(text: str) -> tuple[str, ...]:
    """Parts of a comma list, each once, in their order."""
    parts = (part.strip() for part in text.split(","))
    found = tuple(dict.fromkeys(part for part in parts if part))
    if any(part[0] in QUOTES or part[-1] in QUOTES for part in found):
        raise ValueError("must be a comma list without quotes")
    return found


def _events(text: str) -> frozenset[EventType]:
    names = _list(text.lower())
    known = [str(event) for event in EventType]
    for name in names:
        if name not in known:
            raise ValueError(f"must be a comma list of {', '.join(known)}")
    if not names:
        raise ValueError("names no event")
    return frozenset(EventType(name) for name in names)


def _split_url(text: str) -> SplitResult:
    rule = "must be an address that starts with https:// (or http://)"
    if not _VISIBLE.fullmatch(text):
        raise ValueError(_odd_letters(text) or rule)
    try:
        url = urlsplit(text)
        is_whole = url.scheme in ("http", "https") and bool(_HOST.fullmatch(url.hostname or "")) and url.port != 0
    except ValueError:
        is_whole = False
    if not is_whole:
        raise ValueError(rule)
    return url


def _odd_letters(text: str) -> str | None:
    """What to write in place of letters that an address cannot hold. Shows only the host: the rest may be secret."""
    if re.search(r"[\x00- \x7f]", text):
        return "must have no space: write %20 for one that belongs to it"
    try:
        host = urlsplit(text).hostname or ""
        plain = ascii_host(host)
    except ValueError:
        return None
    if host != plain:
        return f"must have its host in ASCII: write {plain} instead of {host}"
    return "must be in ASCII: write other letters percent-encoded, such as %C3%BC for ü"


def _url(text: str) -> str:
    _split_url(text)
    return text


def _safe_url(text: str) -> SplitResult:
    """Address to which a secret is sent, or on which money depends."""
    url = _split_url(text)
    if url.scheme == "http" and url.hostname not in _LOOPBACK:
        raise ValueError("must start with https:// (http:// is for this machine only)")
    if "@" in url.netloc or "?" in text or "#" in text:
        raise ValueError("must have no user name, no ? and no #")
    return url


def _base_url(text: str) -> str:
    _safe_url(text)
    return text.rstrip("/")


def parse_webhook_url(text: str) -> str:
    """An address that Strike can be told. Raises ValueError; its sentence continues "NAME ..."."""
    if not _safe_url(text).path.endswith("/webhook"):
        raise ValueError("must end in /webhook")
    return text


def _networks(text: str) -> tuple[str, ...]:
    try:
        return tuple(str(ip_network(one)) for one in _list(text))
    except ValueError:
        raise ValueError("must be a comma list of addresses or networks, such as 127.0.0.1, 172.16.0.0/12") from None


def _origins(text: str) -> tuple[str, ...]:
    origins = _list(text)
    # Browsers compare letter by letter, so what they would never send is a mistake.
    for origin in origins:
        if origin != "*" and origin != _origin_of(_split_url(origin)):
            raise ValueError(
                "must be a comma list of origins in lower case without a path or a slash at the end, "
                "such as https://shop.example"
            )
    return origins


def _origin_of(url: SplitResult) -> str:
    return f"{url.scheme}://{url.netloc.rpartition('@')[2].lower()}"


def _database_url(text: str) -> str:
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
        raise ValueError("must name a file, as in sqlite:///invoices.sqlite: memory is lost at the end")
    whole = ROOT / path
    if not whole.parent.is_dir():
        odd = ". In the address a % of the path is written %25" if "%" in text else ""
        raise ValueError(f"names a file in a folder that does not exist: make the folder first{odd}")
    return whole
