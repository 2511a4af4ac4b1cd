"""The parts of one process, wired together by `bootstrap`."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from lnpay.deliveries.dispatcher import Dispatcher
from lnpay.deliveries.send import Outbox
from lnpay.domain.model import Clock
from lnpay.domain.settings import Logo
from lnpay.invoices.create import InvoiceIssuer
from lnpay.invoices.settle import SettlementContext
from lnpay.refunds.merchant import RefundIssuer
from lnpay.refunds.outcomes import RefundSender
from lnpay.repository import Repository
from lnpay.strike.budget import Budget
from lnpay.strike.client import Strike


@dataclass(frozen=True)
class Access:
    """Access control over HTTP.

    webhook_secrets: Strike may sign with any of them; without one, every call is refused.
    trusted_proxies: networks whose X-Forwarded-For names the client.
    sandbox_url: of the simulator, where no real money moves; None in production.
    demo_shop_key: of the sandbox's demo shop. Unlike `api_keys`, it does not make keys needed; empty in production.
    is_greenfield_on: whether shop plugins may use the Greenfield API.
    admin_password: empty disables the operator's page. metrics_token: empty leaves the metrics open to all.
    """

    api_keys: tuple[str, ...] = field(repr=False)
    cors_origins: tuple[str, ...]
    webhook_secrets: tuple[str, ...] = field(repr=False)
    public_url: str | None
    admin_password: str = field(repr=False)
    metrics_token: str = field(repr=False)
    sandbox_url: str | None = None
    trusted_proxies: tuple[str, ...] = ()
    is_greenfield_on: bool = True
    demo_shop_key: str = field(default="", repr=False)


@dataclass(frozen=True)
class ShopFace:
    """The shop's branding on customer pages. Empty or None: LNPay's own. color: #rrggbb."""

    name: str = ""
    color: str = ""
    logo: Logo | None = None


@dataclass(frozen=True)
class Backend:
    """The parts of a process. `sweep_settlement` and `sweep_budget` are for workers, which leave calls to the others.

    clock: Strike's time, as far as it is known; every deadline is judged by it. See `lnpay.domain.strike_time`.
    prune_after_days: when unpaid invoices are deleted; 0: never. archive_after_days: when paid ones are archived.
    host: the name of this machine in the workers' heartbeats; empty: they name none.
    process: the number of this server process, the first is 0; None if there is only one.
    stop: set it to end the process: loops over rows finish the one in hand.
    """

    repository: Repository
    strike: Strike
    clock: Clock
    currency: str
    issuer: InvoiceIssuer
    settlement: SettlementContext
    sweep_settlement: SettlementContext
    sweep_budget: Budget
    outbox: Outbox
    refund_sender: RefundSender
    refund_issuer: RefundIssuer
    delivery_dispatcher: Dispatcher
    refund_dispatcher: Dispatcher
    stop: threading.Event
    access: Access
    prune_after_days: int
    archive_after_days: int
    shop_face: ShopFace = field(default_factory=ShopFace)
    host: str = ""
    process: int | None = None

    def close(self) -> None:
        """Release connections and threads."""
        self.repository.close()
