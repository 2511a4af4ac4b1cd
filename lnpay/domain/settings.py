"""Every setting of LNPay, with its default. `config/settings.py` reads them; nothing else reads the environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from lnpay.domain.events import EventType
from lnpay.domain.money import BTC
from lnpay.domain.receives import ReceiveWith
from lnpay.domain.states import LatePayments


@dataclass(frozen=True)
class HookFiles:
    """Where the delivery hook may be found.

    own: the merchant's file, which no upgrade touches; it need not exist. shipped: the default, which upgrades replace.
    """

    own: Path
    shipped: Path


@dataclass(frozen=True)
class Logo:
    """The shop's logo: the bytes of its file, and their type."""

    content: bytes = field(repr=False)
    media_type: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of an installation, validated. Fields that may hold a secret are left out of the repr.

    Named as the variables are, in lower case; units are added where the variable's name has none.
    """

    strike_api_key: str = field(repr=False)
    database_url: str = field(repr=False)
    """For SQLAlchemy; an SQLite path in it is absolute."""
    db_pool_size: int = 30
    """The most PostgreSQL connections that one process opens."""
    db_statement_timeout_seconds: int = 0
    """After this time PostgreSQL aborts a statement of a server or worker. 0: never."""
    worker_host: str = ""
    """This machine's name in the workers' heartbeats. Empty: its host name."""
    webhook_secret: str = field(default="", repr=False)
    """Empty: no call to /webhook is trusted."""
    webhook_secret_old: str = field(default="", repr=False)
    """The previous secret, while Strike may still sign with it. Empty: none."""
    webhook_url: str = ""
    """Needed by webhook_settings.py only; otherwise it may be empty."""
    time_offset_seconds: int = 120
    currency: str = "usd"
    """Lower-case code."""
    receive_with: ReceiveWith = ReceiveWith.INVOICE
    settle_in: str = BTC
    """Upper-case code of one of Strike's currencies. Must be BTC unless RECEIVE_WITH is receive-request."""
    delivery_url: str = field(default="http://localhost:8000/webhook", repr=False)
    delivery_secret: str = field(default="", repr=False)
    """Empty: deliveries are not signed."""
    delivery_events: frozenset[str] = frozenset({EventType.INVOICE_SETTLED})
    """Values of EventType. Empty: the shop is notified only at webhook endpoints."""
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    """Empty: /generate-invoice is open to anyone who can reach it, unless there are keys in the database."""
    cors_origins: tuple[str, ...] = ()
    greenfield: bool = True
    """Whether BTCPay Server shop plugins may use LNPay; each needs its own key."""
    trusted_proxies: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks whose X-Forwarded-For names the client."""
    host: str = "127.0.0.1"
    port: int = 5000
    """0: any free port."""
    workers: int = 1
    """Server processes that share the port."""
    strike_api_url: str = "https://api.strike.me/v1"
    """Without a trailing slash, like the other base URLs."""
    coingecko_api_url: str = "https://api.coingecko.com/api/v3"
    coingecko_api_key: str = field(default="", repr=False)
    coinbase_api_url: str = "https://api.coinbase.com/v2"
    rate_max_age_seconds: int = 300
    rate_max_spread_percent: Decimal = Decimal(5)
    """0: prices are not compared."""
    refund_max_fee_percent: Decimal = Decimal(2)
    refunds_enabled: bool = True
    refund_max_sats: int | None = None
    """None: no limit."""
    refund_daily_max_sats: int | None = None
    refund_min_sats: int = 100
    """0: no refund is too small to start automatically."""
    late_payments: LatePayments = LatePayments.REFUND
    late_accept_percent: Decimal = Decimal(1)
    """A late payment is accepted unless the price has fallen by this much since the sale."""
    refund_claim_days: int = 30
    """How long a customer has to give an address for a merchant's refund."""
    prune_after_days: int = 90
    """0: nothing is deleted."""
    archive_after_days: int = 0
    """0: nothing is archived."""
    shop_name: str = ""
    """Shown on every page that customers see. Empty: none."""
    shop_color: str = ""
    """The colour of buttons on those pages, as #rrggbb. Empty: LNPay's own."""
    shop_logo: Logo | None = None
    webhook_allow_private: bool = False
    """Whether an API key may set a webhook endpoint in a private network."""
    admin_password: str = field(default="", repr=False)
    """Empty: there is no /admin."""
    metrics_token: str = field(default="", repr=False)
    """Empty: /metrics is open to anyone who can reach it."""
    log_level: str = "info"
    """debug, info, warning or error."""
    log_format: str = "text"
    """text or json."""
    env_file: Path = field(default=Path("config/.env"), compare=False)
    """The settings file that was read in addition to the environment; it need not exist."""
    hook_files: HookFiles = field(
        default=HookFiles(Path("config/local/delivery.py"), Path("config/delivery.py")), compare=False
    )
