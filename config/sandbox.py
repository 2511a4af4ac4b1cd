"""Settings of the sandbox: they need no `.env`, and point to this machine only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from config.settings import SettingsError, load_settings
from lnpay.domain.settings import Settings
from lnpay.runtime.listening import find_pair_of_ports

LAST_PORT = 65_535

SHOP_SETTINGS = (
    "API_KEYS", "CORS_ORIGINS", "CURRENCY", "DELIVERY_EVENTS", "DELIVERY_SECRET", "DELIVERY_URL", "LATE_ACCEPT_PERCENT",
    "LATE_PAYMENTS", "LOG_FORMAT", "LOG_LEVEL", "METRICS_TOKEN", "RECEIVE_WITH", "SETTLE_IN", "SHOP_COLOR", "SHOP_LOGO",
    "SHOP_NAME", "TIME_OFFSET",
)  # fmt: skip
"""Settings that the sandbox reads from the environment, so that a shop under development can use it."""


ACCOUNTS = ("bitcoin", "us")
"""Kinds of accounts at the simulated Strike."""


def load_sandbox_account() -> str:
    """Which kind of account SANDBOX_ACCOUNT asks for. Raises SettingsError."""
    account = os.environ.get("SANDBOX_ACCOUNT") or ACCOUNTS[0]
    if account not in ACCOUNTS:
        raise SettingsError([f"SANDBOX_ACCOUNT must be one of {', '.join(ACCOUNTS)}"])
    return account


def load_sandbox_settings() -> Settings:
    """Read the sandbox's settings. Raises SettingsError.

    PORT chooses the two ports; SHOP_SETTINGS in the environment connect a shop under development. In a container
    SANDBOX_HOST is where both listen, and SANDBOX_FOLDER is where the database may be written.
    """
    key, no_file = "sandbox-key", Path("no-such-file")
    port = load_settings({"STRIKE_API_KEY": key, "PORT": os.environ.get("PORT", "")}, no_file).port
    if port == LAST_PORT:
        raise SettingsError([f"PORT must be less than {LAST_PORT} here: the simulator listens on the next one"])
    port = port or find_pair_of_ports("127.0.0.1")
    world = f"http://127.0.0.1:{port + 1}"
    environ = {
        "STRIKE_API_KEY": key,
        "STRIKE_API_URL": f"{world}/v1",
        "WEBHOOK_SECRET": "sandbox-webhook-secret",
        "WEBHOOK_URL": f"http://127.0.0.1:{port}/webhook",
        "COINGECKO_API_URL": f"{world}/coingecko/api/v3",
        "COINBASE_API_URL": f"{world}/coinbase/v2",
        "DELIVERY_URL": f"{world}/shop/webhook",
        # The demo shop runs on this machine, and so does a shop under development.
        "WEBHOOK_ALLOW_PRIVATE": "on",
        # One file for each port: a second sandbox must not empty the first one's.
        "DATABASE_URL": f"sqlite:///{Path(os.environ.get('SANDBOX_FOLDER', ''), f'sandbox-{port}.sqlite').as_posix()}",
        "HOST": os.environ.get("SANDBOX_HOST") or "127.0.0.1",
        "PORT": str(port),
        "ADMIN_PASSWORD": secrets.token_urlsafe(12),
    }
    given = {name: os.environ[name] for name in SHOP_SETTINGS if os.environ.get(name)}
    return load_settings({**environ, **given}, no_file)
