"""Read every setting once, from the environment and config/.env, and name all mistakes at once.

The environment wins over the file. An empty value counts as missing. Nothing else in the project reads the environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from config import shop_face, values
from config.sources import (
    QUOTES,
    find_misspelt,
    read_env_file,
    shorten,
    unquote,
    where_to_write,
    without_empty,
)
from config.values import ROOT
from lnpay.domain.receives import ReceiveWith
from lnpay.domain.settings import HookFiles, Settings
from lnpay.runtime.listening import parse_host

ENV_FILE = ROOT / "config" / ".env"

HOOK_FILES = HookFiles(ROOT / "config" / "local" / "delivery.py", Path(__file__).resolve().with_name("delivery.py"))
"""config/local belongs to the merchant: upgrades never touch it."""

LOGO_FOLDER = ROOT / "config" / "local"
"""Where a file named logo is used as the shop's logo, unless SHOP_LOGO names another."""

_LOG_LEVELS = ("debug", "info", "warning", "error")
_LOG_FORMATS = ("text", "json")

T = TypeVar("T")


class SettingsError(Exception):
    """One or more settings are invalid. The message names each problem and its fix; it holds no secret."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        super().__init__(
            "LNPay cannot start with these settings. Set them in config/.env or in the environment; "
            f"config/.env.example explains each.\n{lines}"
        )


def load_settings(environ: Mapping[str, str] | None = None, env_file: Path | None = None) -> Settings:
    """Read and check every setting.

    environ: replaces the process's environment. env_file: replaces config/.env, or the file named by
    LNPAY_ENV_FILE; it need not exist.
    Raises SettingsError with every mistake in one text.
    """
    from_environment = os.environ if environ is None else environ
    named = Path(from_environment.get("LNPAY_ENV_FILE", "").strip("\"' ") or ENV_FILE)
    path = named if env_file is None else env_file
    from_file, problems = read_env_file(path)
    reader = _Reader({**from_file, **without_empty(from_environment)}, problems, path)
    settings = _read_settings(reader, path)
    if settings.settle_in != Settings.settle_in and settings.receive_with is ReceiveWith.INVOICE:
        problems.append(f"SETTLE_IN={settings.settle_in} needs RECEIVE_WITH=receive-request: set both, or neither")
    problems.extend(find_misspelt(from_file, reader.names))
    if problems:
        raise SettingsError(problems)
    return settings


def require_webhook(settings: Settings) -> None:
    """Check that Strike's webhook can be subscribed. Raises SettingsError naming what is missing."""
    problems = []
    if not settings.webhook_url:
        problems.append("WEBHOOK_URL is missing: the https address at which Strike reaches /webhook of this server")
    if not settings.webhook_secret:
        problems.append("WEBHOOK_SECRET is missing: make one with `python key_generator.py`")
    if problems:
        raise SettingsError(problems)


class _Reader:
    """Reads variables one by one and collects the problems."""

    def __init__(self, values: Mapping[str, str], problems: list[str], env_file: Path = ENV_FILE) -> None:
        self._values = values
        self._problems = problems
        self._env_file = env_file
        self.names: list[str] = []

    def read(self, name: str, parse: Callable[[str], T], default: T) -> T:
        """A variable's value. A problem report includes the invalid value."""
        return self._read(name, parse, default, is_shown=True)

    def read_file(self, name: str, parse: Callable[[str], T], default: Path | None) -> T | None:
        """The content of the file that a variable names, or of `default` without the variable; both are checked."""
        if not self._values.get(name) and default is not None:
            self._values = {**self._values, name: str(default)}
        kept: list[T] = []

        def keep(text: str) -> str:
            kept.append(parse(text))
            return text

        self._read(name, keep, "", is_shown=True)
        return kept[0] if kept else None

    def read_hidden(self, name: str, parse: Callable[[str], T], default: T) -> T:
        """The value of a variable that is or may hold a secret. A problem report never includes the value."""
        return self._read(name, parse, default, is_shown=False)

    def require_hidden(self, name: str, parse: Callable[[str], str], source: str) -> str:
        """The value of a required secret; `source` says where to get it."""
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
            # Never used: any problem makes load_settings raise.
            return default


def _read_settings(reader: _Reader, env_file: Path) -> Settings:
    read, hidden = reader.read, reader.read_hidden
    return Settings(
        strike_api_key=reader.require_hidden(
            "STRIKE_API_KEY", values.visible, "make an API key at https://dashboard.strike.me"
        ),
        webhook_secret=hidden("WEBHOOK_SECRET", values.webhook_secret, Settings.webhook_secret),
        webhook_secret_old=hidden("WEBHOOK_SECRET_OLD", values.webhook_secret, Settings.webhook_secret_old),
        webhook_url=read("WEBHOOK_URL", values.webhook_url, Settings.webhook_url),
        time_offset_seconds=read("TIME_OFFSET", values.whole(10, 86_400, "seconds"), Settings.time_offset_seconds),
        currency=read("CURRENCY", values.currency, Settings.currency),
        receive_with=read("RECEIVE_WITH", values.receive_with, Settings.receive_with),
        settle_in=read("SETTLE_IN", values.settle_in, Settings.settle_in),
        database_url=hidden("DATABASE_URL", values.database_url, values.database_url("sqlite:///invoices.sqlite")),
        db_pool_size=read("DB_POOL_SIZE", values.whole(2, 500, "connections"), Settings.db_pool_size),
        db_statement_timeout_seconds=read(
            "DB_STATEMENT_TIMEOUT", values.whole(0, 3_600, "seconds"), Settings.db_statement_timeout_seconds
        ),
        worker_host=read("WORKER_HOST", values.host_name, Settings.worker_host),
        delivery_url=hidden("DELIVERY_URL", values.url, Settings.delivery_url),
        delivery_secret=hidden("DELIVERY_SECRET", values.delivery_secret, Settings.delivery_secret),
        delivery_events=read("DELIVERY_EVENTS", values.events, Settings.delivery_events),
        api_keys=hidden("API_KEYS", values.api_keys, Settings.api_keys),
        cors_origins=read("CORS_ORIGINS", values.origins, Settings.cors_origins),
        greenfield=read("GREENFIELD", values.switch, Settings.greenfield),
        trusted_proxies=read("TRUSTED_PROXIES", values.networks, Settings.trusted_proxies),
        host=read("HOST", parse_host, Settings.host),
        port=read("PORT", values.whole(0, 65_535, "the number of a port"), Settings.port),
        workers=read("WORKERS", values.whole(1, 64, "server processes"), Settings.workers),
        strike_api_url=read("STRIKE_API_URL", values.base_url, Settings.strike_api_url),
        coingecko_api_url=read("COINGECKO_API_URL", values.base_url, Settings.coingecko_api_url),
        coingecko_api_key=hidden("COINGECKO_API_KEY", values.visible, Settings.coingecko_api_key),
        coinbase_api_url=read("COINBASE_API_URL", values.base_url, Settings.coinbase_api_url),
        rate_max_age_seconds=read("RATE_MAX_AGE", values.whole(30, 86_400, "seconds"), Settings.rate_max_age_seconds),
        rate_max_spread_percent=read("RATE_MAX_SPREAD_PERCENT", values.percent, Settings.rate_max_spread_percent),
        refund_max_fee_percent=read("REFUND_MAX_FEE_PERCENT", values.percent, Settings.refund_max_fee_percent),
        refunds_enabled=read("REFUNDS_ENABLED", values.switch, Settings.refunds_enabled),
        refund_max_sats=read("REFUND_MAX_SATS", values.limit, Settings.refund_max_sats),
        refund_daily_max_sats=read("REFUND_DAILY_MAX_SATS", values.limit, Settings.refund_daily_max_sats),
        refund_min_sats=read("REFUND_MIN_SATS", values.whole(0, 1_000_000, "sats"), Settings.refund_min_sats),
        late_payments=read("LATE_PAYMENTS", values.late_payments, Settings.late_payments),
        late_accept_percent=read("LATE_ACCEPT_PERCENT", values.percent, Settings.late_accept_percent),
        refund_claim_days=read("REFUND_CLAIM_DAYS", values.whole(1, 365, "days"), Settings.refund_claim_days),
        prune_after_days=read("PRUNE_AFTER_DAYS", values.days_or_never, Settings.prune_after_days),
        archive_after_days=read("ARCHIVE_AFTER", values.days_or_off, Settings.archive_after_days),
        shop_name=read("SHOP_NAME", shop_face.shop_name, Settings.shop_name),
        shop_color=read("SHOP_COLOR", shop_face.shop_color, Settings.shop_color),
        shop_logo=reader.read_file("SHOP_LOGO", shop_face.logo, shop_face.find_logo(LOGO_FOLDER)),
        webhook_allow_private=read("WEBHOOK_ALLOW_PRIVATE", values.switch, Settings.webhook_allow_private),
        admin_password=hidden("ADMIN_PASSWORD", values.admin_password, Settings.admin_password),
        metrics_token=hidden("METRICS_TOKEN", values.long_enough("is a token"), Settings.metrics_token),
        log_level=read("LOG_LEVEL", values.word(_LOG_LEVELS), Settings.log_level),
        log_format=read("LOG_FORMAT", values.word(_LOG_FORMATS), Settings.log_format),
        env_file=env_file,
        hook_files=HOOK_FILES,
    )
