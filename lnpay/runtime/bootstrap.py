"""Wire settings, repository, clients and the merchant's hook together: the one place that knows all parts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from urllib.parse import urlsplit

import requests

from lnpay.deliveries.send import Outbox, delivery_dispatcher
from lnpay.domain.model import (
    Clock,
    Event,
    Rate,
    utc_now,
)
from lnpay.domain.receives import ReceiveWith
from lnpay.domain.settings import Settings
from lnpay.domain.strike_time import StrikeTime, injected_seconds
from lnpay.http.outgoing import pooled_session
from lnpay.http.post import Post, post_for_status
from lnpay.invoices.create import InvoiceIssuer
from lnpay.invoices.issue_request import RequestIssuer
from lnpay.invoices.late import LateRules
from lnpay.invoices.settle import SettlementContext
from lnpay.monitoring.exposure import is_this_machine
from lnpay.rates.by_currency import RatesByCurrency
from lnpay.rates.prices import Rates, start_daemon_thread
from lnpay.rates.sources import (
    SHARE_SECONDS,
    AllPrices,
    Coinbase,
    CoinGecko,
    SharedSource,
    StrikeTicker,
)
from lnpay.refunds.after_restore import notice_restore
from lnpay.refunds.merchant import RefundIssuer
from lnpay.refunds.outcomes import RefundSender
from lnpay.refunds.policy import RefundRules
from lnpay.refunds.send import refund_dispatcher
from lnpay.repository import Repository
from lnpay.runtime.backend import Access, Backend, ShopFace
from lnpay.runtime.host import find_host
from lnpay.runtime.price_share import DatabaseShare
from lnpay.strike.budget import Budget
from lnpay.strike.client import Strike

NEW_REQUESTS_SHARE = 0.7
"""The part of Strike's ten-minute budget at which no more receive requests are made."""

SWEEPS_SHARE = 0.8
"""The part of Strike's ten-minute budget that sweeps may use up; the rest is for webhooks and refunds."""


def build_backend(
    settings: Settings,
    deliver: Callable[[Event], None],
    *,
    clock: Clock = utc_now,
    steady: Callable[[], float] | None = None,
    session: requests.Session | None = None,
    run_in_background: Callable[[Callable[[], None]], None] = start_daemon_thread,
    sandbox_url: str | None = None,
    demo_shop_key: str = "",
    post: Post = post_for_status,
) -> Backend:
    """Build the parts of one process and bring the database up to date.

    deliver: the merchant's hook. Tests replace the other arguments to control time, network and threads.
    clock: this machine's. After Strike's first answer the parts use Strike's time instead.
    steady: a monotonic clock in seconds, independent of `clock`.
    post: sends to webhook endpoints.
    sandbox_url: the simulator's URL; pages then say that no real money moves. demo_shop_key: of its demo shop.
    Raises SchemaTooNew and StorageUnavailable.
    """
    repository = _database(settings, clock, steady)
    strike_time = StrikeTime(clock, steady)
    clock = strike_time.now
    budget = Budget(repository)
    sweep_budget = Budget(repository, share=SWEEPS_SHARE)
    session = session or pooled_session()
    strike = _strike(settings, budget, session, strike_time)
    stop = threading.Event()
    outbox = _outbox(settings, repository, deliver, clock, stop, post)
    dispatcher = delivery_dispatcher(outbox)
    rates = _rates(settings, strike, session, repository, clock, run_in_background)
    late = LateRules(settings.late_payments, settings.late_accept_percent, rates.current_within)
    refund_rules = _refund_rules(settings)
    refund_sender = RefundSender(repository, strike, clock, settings.delivery_events, refund_rules, stop)
    settlement = SettlementContext(repository, strike, clock, settings.delivery_events, stop, late)
    return Backend(
        repository=repository,
        strike=strike,
        clock=clock,
        currency=settings.currency,
        issuer=InvoiceIssuer(
            repository,
            strike,
            rates,
            clock,
            settings.time_offset_seconds,
            dispatcher.wake,
            _request_issuer(settings, repository, session, strike_time),
        ),
        settlement=settlement,
        sweep_settlement=replace(settlement, strike=_strike(settings, sweep_budget, session, strike_time)),
        sweep_budget=sweep_budget,
        outbox=outbox,
        refund_sender=refund_sender,
        refund_issuer=RefundIssuer(
            repository, clock, rates.current, settings.delivery_events, refund_rules.claim_length
        ),
        delivery_dispatcher=dispatcher,
        refund_dispatcher=refund_dispatcher(refund_sender),
        stop=stop,
        access=_access(settings, sandbox_url, demo_shop_key),
        prune_after_days=settings.prune_after_days,
        archive_after_days=settings.archive_after_days,
        shop_face=ShopFace(settings.shop_name, settings.shop_color, settings.shop_logo),
        host=settings.worker_host or find_host(settings.database_url),
    )


def _database(settings: Settings, clock: Clock, steady: Callable[[], float] | None) -> Repository:
    """Open the database, migrate it, and hold refunds if it was restored. Raises as `build_backend` does."""
    repository = Repository(
        settings.database_url,
        steady=injected_seconds(clock, steady),
        max_connections=settings.db_pool_size,
        statement_timeout_seconds=settings.db_statement_timeout_seconds,
    )
    repository.upgrade()
    # Before anything can send a refund, because it may already have been sent between a backup and its restore.
    notice_restore(repository, clock())
    return repository


def _outbox(
    settings: Settings,
    repository: Repository,
    deliver: Callable[[Event], None],
    clock: Clock,
    stop: threading.Event,
    post: Post,
) -> Outbox:
    return Outbox(
        repository,
        deliver,
        clock,
        settings.delivery_url,
        settings.delivery_secret,
        stop,
        signing_clock=_signing_clock(settings.strike_api_url),
        post=post,
        allow_private=settings.webhook_allow_private,
    )


@contextmanager
def open_strike(settings: Settings, *, clock: Clock = utc_now) -> Iterator[Strike]:
    """A Strike client alone, for a command, within the shared call budget. Raises as `build_backend` does."""
    repository = Repository(settings.database_url, steady=injected_seconds(clock))
    try:
        repository.upgrade()
        with pooled_session() as session:
            strike_time = StrikeTime(clock)
            yield _strike(settings, Budget(repository), session, strike_time)
    finally:
        repository.close()


def _strike(settings: Settings, budget: Budget, session: requests.Session, time: StrikeTime) -> Strike:
    return Strike(settings.strike_api_key, settings.strike_api_url, budget, session=session, time=time)


def _request_issuer(
    settings: Settings, repository: Repository, session: requests.Session, time: StrikeTime
) -> RequestIssuer | None:
    """How receive requests are made; None if invoices of Strike's are."""
    if settings.receive_with is ReceiveWith.INVOICE:
        return None
    strike = _strike(settings, Budget(repository, share=NEW_REQUESTS_SHARE), session, time)
    return RequestIssuer(strike.receive_requests, settings.settle_in)


def _rates(
    settings: Settings,
    strike: Strike,
    session: requests.Session,
    repository: Repository,
    clock: Clock,
    run_in_background: Callable[[Callable[[], None]], None],
) -> RatesByCurrency:
    # A shared answer must not become too old to be used.
    share_seconds = min(SHARE_SECONDS, settings.rate_max_age_seconds / 3)
    sources = [SharedSource(one, clock, share_seconds) for one in rate_sources(settings, strike, session, clock)]

    def last_sold(currency: str) -> Rate | None:
        with repository.reading() as tx:
            return tx.invoices.newest_rate(currency)

    def make(currency: str) -> Rates:
        return Rates(
            sources,
            currency,
            clock=clock,
            max_age_seconds=settings.rate_max_age_seconds,
            max_spread_percent=settings.rate_max_spread_percent,
            run_in_background=run_in_background,
            last_sold=partial(last_sold, currency),
            share=DatabaseShare(repository, currency, clock),
        )

    return RatesByCurrency(settings.currency, make, clock)


def rate_sources(settings: Settings, strike: Strike, session: requests.Session, clock: Clock) -> list[AllPrices]:
    """The price sources, in the order in which they are asked."""
    return [
        CoinGecko(session, settings.coingecko_api_url, settings.coingecko_api_key, clock),
        Coinbase(session, settings.coinbase_api_url, clock),
        StrikeTicker(strike.ticker, clock),
    ]


def _refund_rules(settings: Settings) -> RefundRules:
    return RefundRules(
        settings.refunds_enabled,
        settings.refund_max_fee_percent,
        settings.refund_max_sats,
        settings.refund_daily_max_sats,
        settings.refund_min_sats,
        timedelta(days=settings.refund_claim_days),
    )


def _signing_clock(strike_api_url: str) -> Clock | None:
    """The clock that dates signatures: Strike's, unless it is a local simulator, whose clock people can move."""
    return utc_now if is_this_machine(urlsplit(strike_api_url).hostname or "") else None


def _access(settings: Settings, sandbox_url: str | None, demo_shop_key: str) -> Access:
    # An old secret without a current one is a misconfiguration, so neither is accepted.
    both = (settings.webhook_secret, settings.webhook_secret_old) if settings.webhook_secret else ()
    return Access(
        settings.api_keys,
        settings.cors_origins,
        tuple(secret for secret in both if secret),
        _public_url(settings),
        settings.admin_password,
        settings.metrics_token,
        sandbox_url,
        settings.trusted_proxies,
        settings.greenfield,
        demo_shop_key,
    )


def _public_url(settings: Settings) -> str | None:
    """The public base URL, taken from WEBHOOK_URL."""
    return settings.webhook_url.removesuffix("/webhook") or None
