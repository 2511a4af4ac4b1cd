"""Each test plants one fault: the doctor names it, says what to do, and reports nothing else."""

from __future__ import annotations

import socket
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from config.settings import load_settings
from lnpay.doctor import Finding, Verdict, examine
from lnpay.doctor.checks.account import INVOICES, REFUNDING, REQUESTS, SELLING
from lnpay.domain.model import Heartbeat, RefundKey
from lnpay.domain.states import InvoiceState, RefundState
from lnpay.repository.repository import SCHEMA_VERSION
from lnpay.sandbox.server import wait_until
from lnpay.sandbox.strike.models import Money
from lnpay.strike.buckets import Bucket
from tests.contract.test_looking import make_read_only
from tests.databases import migrated_postgres, synced
from tests.doctor.installation import WAIT_SECONDS, Installation
from tests.scenarios.live import free_port, subscribe

KEY = "a-key-of-the-tests"
WARN, FAIL = Verdict.WARN, Verdict.FAIL
HOUR = timedelta(hours=1)

ALL_SCOPES = [
    "partner.balances.read", "partner.account.profile.read",
    *(probe.scope for probe in (*INVOICES, *REQUESTS, *SELLING, *REFUNDING)),
]  # fmt: skip


def without(*scopes: str) -> dict[str, list[str]]:
    """A key with every scope but these."""
    return {KEY: [scope for scope in ALL_SCOPES if scope not in scopes]}


def assert_only(troubles: dict[str, Finding], name: str, verdict: Verdict, words: str) -> None:
    """Nothing is wrong but `name`."""
    assert set(troubles) == {name}
    assert_among(troubles, name, verdict, words)


def assert_among(troubles: dict[str, Finding], name: str, verdict: Verdict, words: str) -> None:
    """`name` has this verdict, `words` in its message, and advice."""
    found = troubles[name]
    assert found.verdict is verdict, found
    assert words in found.message
    assert found.advice


class TestHealthy:
    def test_everything_is_ok_and_there_is_no_advice(self, shop: Installation) -> None:
        findings = shop.examine()

        assert [finding for finding in findings if finding.verdict is not Verdict.OK or finding.advice] == []
        assert len({finding.name for finding in findings}) == len(findings)

    def test_it_creates_no_invoice_no_quote_and_no_payment(self, shop: Installation) -> None:
        sold = len(shop.simulator.invoices.by_id)
        quotes = sum(len(invoice.quotes) for invoice in shop.simulator.invoices.by_id.values())

        shop.examine()

        assert len(shop.simulator.invoices.by_id) == sold
        assert sum(len(invoice.quotes) for invoice in shop.simulator.invoices.by_id.values()) == quotes
        assert (shop.simulator.payments.quotes, shop.simulator.payments.payments) == ({}, {})
        assert len(shop.simulator.shop.deliveries) == 2  # the one message, and one OPTIONS

    def test_its_calls_count_towards_the_shared_budget(self, shop: Installation) -> None:
        with shop.rows() as tx:
            before = tx.limits.calls_since(Bucket.OTHER, shop.now() - HOUR, 60)

        shop.examine()

        with shop.rows() as tx:
            assert before < tx.limits.calls_since(Bucket.OTHER, shop.now() - HOUR, 60) <= before + 12


class TestStrike:
    def test_a_wrong_key(self, shop: Installation) -> None:
        shop.simulator.config.api_keys = {"another-key": ["*"]}

        troubles = shop.troubles()

        assert_among(troubles, "strike_key", FAIL, "rejects STRIKE_API_KEY")
        assert_among(troubles, "strike_scopes", WARN, "cannot tell: Strike rejects the key")
        assert_among(troubles, "webhook_events", WARN, "cannot tell: Strike answered 401")

    @pytest.mark.parametrize("scope", [probe.scope for probe in (*SELLING, *REFUNDING) if probe.is_vital])
    def test_a_missing_scope(self, shop: Installation, scope: str) -> None:
        shop.simulator.config.api_keys = without(scope)

        assert_among(shop.troubles(), "strike_scopes", FAIL, scope)

    def test_a_missing_scope_that_is_not_vital(self, shop: Installation) -> None:
        shop.simulator.config.api_keys = without("partner.webhooks.manage", "partner.rates.ticker")

        assert_among(shop.troubles(), "strike_scopes", WARN, "partner.rates.ticker, partner.webhooks.manage")

    def test_a_missing_scope_for_cancelling(self, shop: Installation) -> None:
        shop.simulator.config.api_keys = without("partner.invoice.cancel")

        assert_only(shop.troubles(), "strike_scopes", WARN, "partner.invoice.cancel")

    def test_refund_scopes_are_not_required_if_refunds_are_off(self, shop: Installation) -> None:
        shop.simulator.config.api_keys = without(*(probe.scope for probe in REFUNDING))
        shop.set(REFUNDS_ENABLED="off")

        assert shop.troubles() == {}

    def test_scopes_that_only_the_doctor_uses_are_not_required(self, shop: Installation) -> None:
        shop.simulator.config.api_keys = without("partner.balances.read", "partner.account.profile.read")

        assert shop.troubles() == {}

    def test_an_account_that_cannot_invoice_in_bitcoin(self, shop: Installation) -> None:
        shop.simulator.config.invoiceable_currencies = ["USD"]

        assert_only(shop.troubles(), "strike_invoicing", FAIL, "cannot issue invoices in bitcoin")

    @pytest.mark.parametrize(("currencies", "troubles"), [(["BTC"], set()), (["USD"], {"strike_invoicing"})])
    def test_an_account_is_found_by_receiver_if_accounts_share_an_issuer(
        self, shop: Installation, currencies: list[str], troubles: set[str]
    ) -> None:
        shop.simulator.config.invoiceable_currencies = currencies
        for invoice in shop.simulator.invoices.by_id.values():
            invoice.issuer_id = "00000000-0000-4000-8000-000000000000"

        found = shop.troubles()

        assert set(found) == troubles
        assert not [finding for finding in found.values() if finding.verdict is not FAIL]

    def test_an_account_without_any_invoice_cannot_be_checked(self, shop: Installation) -> None:
        shop.simulator.invoices.by_id.clear()

        assert_only(shop.troubles(), "strike_invoicing", WARN, "no invoice yet")

    def test_too_little_money_for_refunds(self, shop: Installation) -> None:
        owed = owe_refund(shop)
        shop.simulator.balances.available["BTC"] = 5

        troubles = shop.troubles()

        assert_among(troubles, "strike_balance", FAIL, f"{owed:,} sats are owed in refunds and the account has 5")
        assert set(troubles) == {"strike_balance", "refunds_waiting"}

    def test_money_for_refunds_that_the_key_may_not_see(self, shop: Installation) -> None:
        owed = owe_refund(shop)
        shop.simulator.config.api_keys = without("partner.balances.read")

        troubles = shop.troubles()

        assert_among(troubles, "strike_balance", WARN, f"cannot tell: {owed:,} sats are owed in refunds")
        assert "partner.balances.read" in troubles["strike_balance"].advice

    def test_a_profile_that_the_key_may_not_see(self, shop: Installation) -> None:
        for invoice in shop.simulator.invoices.by_id.values():
            invoice.amount = Money(100, "USD")
        shop.simulator.config.api_keys = without("partner.account.profile.read")

        troubles = shop.troubles()

        assert_among(troubles, "strike_invoicing", WARN, "cannot tell")
        assert "partner.account.profile.read" in troubles["strike_invoicing"].advice

    @pytest.mark.parametrize(
        ("ahead", "verdict", "words"),
        [
            (timedelta(minutes=10, seconds=5), FAIL, "10 minutes ahead of"),
            (timedelta(minutes=-10), FAIL, "minutes behind"),
            (timedelta(seconds=30), WARN, "ahead of"),
        ],
    )
    def test_a_clock_that_is_off(self, shop: Installation, ahead: timedelta, verdict: Verdict, words: str) -> None:
        shop.clock_is_ahead = ahead

        assert_among(shop.troubles(), "clock", verdict, words)

    def test_strike_cannot_be_reached(self, shop: Installation) -> None:
        shop.set(STRIKE_API_URL=f"http://127.0.0.1:{free_port()}/v1")

        troubles = shop.troubles()

        assert_among(troubles, "strike", FAIL, "could not be reached")
        assert "server" not in troubles

    def test_strike_is_down(self, shop: Installation) -> None:
        shop.fault("*", "/v1/*", "error", status=503, code="MAINTENANCE_MODE")

        troubles = shop.troubles()

        assert_among(troubles, "strike", FAIL, "answers 503")
        assert_among(troubles, "strike_key", WARN, "cannot tell: Strike did not evaluate the key")

    def test_strikes_edge_proxy_refuses_calls(self, shop: Installation) -> None:
        shop.fault("*", "/v1/*", "html403")

        troubles = shop.troubles()

        assert_among(troubles, "strike", FAIL, "edge proxy")
        assert troubles["strike_scopes"].advice == "see strike"

    def test_the_calls_are_used_up(self, shop: Installation) -> None:
        use_up_calls(shop, 950)

        assert_among(shop.troubles(), "strike_budget", FAIL, "no calls to Strike are left")

    def test_few_calls_are_left(self, shop: Installation) -> None:
        use_up_calls(shop, 850)

        assert_only(shop.troubles(), "strike_budget", WARN, "calls to Strike are left")

    def test_strike_has_locked_us_out(self, shop: Installation) -> None:
        with shop.rows() as tx:
            tx.limits.block(Bucket.OTHER, shop.now() + HOUR)

        troubles = shop.troubles()

        assert_among(troubles, "strike_budget", FAIL, "locked us out (other) until")
        assert_among(troubles, "strike", FAIL, "rate limiting")


class TestPrices:
    @pytest.mark.parametrize(
        ("source", "path"), [("coingecko", "/coingecko/*"), ("coinbase", "/coinbase/*"), ("strike", "/v1/rates/*")]
    )
    def test_one_source_is_down(self, shop: Installation, source: str, path: str) -> None:
        shop.fault("GET", path, "error", status=500)

        assert_among(shop.troubles(), f"rate_{source}", WARN, source)
        assert "rates" not in shop.troubles()

    def test_all_sources_are_down(self, shop: Installation) -> None:
        for path in ("/coingecko/*", "/coinbase/*", "/v1/rates/*"):
            shop.fault("GET", path, "error", status=500)

        assert_among(shop.troubles(), "rates", FAIL, "no invoice can be created")

    def test_only_one_source_is_left(self, shop: Installation) -> None:
        for path in ("/coingecko/*", "/v1/rates/*"):
            shop.fault("GET", path, "error", status=500)

        assert_among(shop.troubles(), "rates", WARN, "only coinbase has a usable price")

    def test_the_two_sources_in_use_disagree(self, shop: Installation) -> None:
        shop.simulator.rates.factors["coinbase"] *= 2

        assert_only(shop.troubles(), "rates", FAIL, "coingecko and coinbase differ by 100.00 percent")

    def test_the_third_source_disagrees(self, shop: Installation) -> None:
        shop.simulator.rates.factors["strike"] *= 2

        assert_only(shop.troubles(), "rates", WARN, "strike differ by 100.00 percent")

    def test_a_disagreement_within_the_limit(self, shop: Installation) -> None:
        shop.simulator.rates.factors["coinbase"] *= 2
        shop.set(RATE_MAX_SPREAD_PERCENT="0")

        assert shop.troubles() == {}

    def test_a_price_that_is_too_old(self, shop: Installation) -> None:
        shop.simulator.rates.ages["coingecko"] = 900

        assert_only(shop.troubles(), "rate_coingecko", WARN, "15 minutes old, more than RATE_MAX_AGE")

    def test_a_currency_that_one_source_does_not_have_is_ok(self, shop: Installation) -> None:
        shop.set(CURRENCY="zar")
        shop.simulator.rates.set_price("zar", None, "coinbase")

        assert shop.troubles() == {}


class TestWebhook:
    def test_nothing_is_subscribed(self, shop: Installation) -> None:
        shop.simulator.webhooks.subscriptions.clear()

        assert_only(shop.troubles(), "webhook_subscription", FAIL, "no subscription at Strike calls WEBHOOK_URL")

    def test_the_subscription_is_disabled(self, shop: Installation) -> None:
        [subscription] = shop.simulator.webhooks.subscriptions.values()
        subscription.is_enabled = False

        assert_only(shop.troubles(), "webhook_subscription", FAIL, "disabled")

    def test_it_is_subscribed_to_the_wrong_events(self, shop: Installation) -> None:
        [subscription] = shop.simulator.webhooks.subscriptions.values()
        subscription.event_types = ["invoice.created", "payment.updated"]

        assert_only(shop.troubles(), "webhook_subscription", FAIL, "lacks invoice.updated, payment.created")

    def test_it_is_subscribed_twice(self, shop: Installation) -> None:
        subscribe(shop.world, shop.values["WEBHOOK_URL"].removesuffix("/webhook"))

        assert_only(shop.troubles(), "webhook_subscription", WARN, "2 subscriptions have this address")

    def test_strike_signs_with_another_secret(self, shop: Installation) -> None:
        [subscription] = shop.simulator.webhooks.subscriptions.values()
        subscription.secret = "what-strike-was-told"
        for _ in range(2):
            shop.pay()
        wait_for(lambda: sum(sent.status == 401 for sent in shop.simulator.webhooks.sent) >= 2)
        shop.let_pass(timedelta(minutes=2))

        assert_only(shop.troubles(), "webhook_events", FAIL, "1 of 3 arrived, and the newest did not")

    def test_the_server_knows_another_secret(self, shop: Installation) -> None:
        shop.set(WEBHOOK_SECRET="changed-without-restart")

        assert_only(shop.troubles(), "webhook_secret", FAIL, "refuses calls signed with the WEBHOOK_SECRET")

    def test_there_is_no_secret(self, shop: Installation) -> None:
        shop.set(WEBHOOK_SECRET="")

        assert_only(shop.troubles(), "webhook_secret", FAIL, "WEBHOOK_SECRET is not set")

    def test_there_is_no_address(self, shop: Installation) -> None:
        shop.set(WEBHOOK_URL="")

        troubles = shop.troubles()

        assert_among(troubles, "webhook_url", WARN, "WEBHOOK_URL is not set")
        assert {finding.verdict for finding in troubles.values()} == {WARN}

    def test_another_server_answers_at_the_address(self, shop: Installation) -> None:
        shop.set(WEBHOOK_URL=f"{shop.world.url}/shop/webhook")

        assert_among(shop.troubles(), "webhook_url", FAIL, "so it is not LNPay's /webhook")

    def test_the_address_cannot_be_reached_and_lnpay_does_not_run(self, shop: Installation) -> None:
        shop.stop()

        troubles = shop.troubles()

        assert_among(troubles, "webhook_url", FAIL, "the connection was refused")
        assert_among(troubles, "server", WARN, "does not answer")

    def test_the_address_cannot_be_reached_from_here_but_calls_arrive(self, shop: Installation) -> None:
        [subscription] = shop.simulator.webhooks.subscriptions.values()
        shop.set(WEBHOOK_URL=f"http://localhost:{free_port()}/webhook")
        subscription.url = shop.values["WEBHOOK_URL"]

        assert_among(shop.troubles(), "webhook_url", WARN, "cannot be reached from here")


class TestServer:
    def test_another_program_uses_its_port(self, shop: Installation) -> None:
        shop.set(PORT=shop.world.url.rpartition(":")[2])

        assert_only(shop.troubles(), "server", FAIL, "is not LNPay")

    def test_it_runs_on_tables_of_another_version(self, shop: Installation) -> None:
        shop.execute("UPDATE alembic_version SET version_num = '9999'")

        assert_among(shop.troubles(), "server", FAIL, "cannot use its database")

    def test_strangers_can_create_invoices(self, shop: Installation) -> None:
        shop.set(API_KEYS="", HOST="0.0.0.0")  # noqa: S104

        assert_only(shop.troubles(), "api_keys", FAIL, "/generate-invoice asks for no key")

    def test_strangers_may_be_able_to_create_invoices(self, shop: Installation) -> None:
        shop.set(API_KEYS="", WEBHOOK_URL="https://pay.shop.invalid/webhook")

        assert_among(shop.troubles(), "api_keys", WARN, "LNPay is public at pay.shop.invalid")

    def test_other_machines_may_be_able_to_create_invoices(self, shop: Installation) -> None:
        shop.set(API_KEYS="", HOST="0.0.0.0", WEBHOOK_URL="")  # noqa: S104

        assert_among(shop.troubles(), "api_keys", WARN, "HOST=0.0.0.0 lets other machines call LNPay")

    def test_a_key_in_the_database_also_closes_the_api(self, shop: Installation) -> None:
        shop.set(API_KEYS="", HOST="0.0.0.0")  # noqa: S104
        created = "INSERT INTO api_keys (key_hash, label, permissions, made_for, created_at)"
        shop.execute(f"{created} VALUES ('{'0' * 64}', 'x', '', 'custom', '2026-01-01')")

        assert shop.troubles() == {}

    def test_without_a_key_nothing_is_wrong_where_only_this_machine_can_call(self, shop: Installation) -> None:
        shop.set(API_KEYS="")

        assert shop.troubles() == {}


class TestShop:
    def test_the_shop_cannot_be_reached(self, shop: Installation) -> None:
        shop.let_pass(2 * HOUR)
        shop.set(DELIVERY_URL=f"http://127.0.0.1:{free_port()}/webhook")

        assert_only(shop.troubles(), "delivery_url", FAIL, "the connection was refused")

    def test_a_shop_without_delivery_events_is_not_probed(self, shop: Installation) -> None:
        shop.set(DELIVERY_URL=f"http://127.0.0.1:{free_port()}/webhook", DELIVERY_EVENTS="none")

        assert "delivery_url" not in shop.troubles()

    def test_the_shops_host_name_cannot_be_resolved(self, shop: Installation) -> None:
        shop.let_pass(2 * HOUR)
        shop.set(DELIVERY_URL="http://shop.invalid/webhook")

        assert_only(shop.troubles(), "delivery_url", FAIL, "its name cannot be resolved (DNS)")

    def test_the_shop_answers_500(self, shop: Installation) -> None:
        shop.let_pass(2 * HOUR)
        shop.fault("OPTIONS", "/shop/webhook", "error", status=500)

        assert_only(shop.troubles(), "delivery_url", FAIL, "it answers 500")

    def test_the_shop_answers_500_but_accepts_messages(self, shop: Installation) -> None:
        shop.fault("OPTIONS", "/shop/webhook", "error", status=500)

        assert_only(shop.troubles(), "delivery_url", WARN, "yet a message was accepted in the last hour")

    def test_the_address_is_unknown_to_the_shop(self, shop: Installation) -> None:
        shop.fault("OPTIONS", "/shop/webhook", "error", status=404, code="NOT_FOUND")

        assert_only(shop.troubles(), "delivery_url", WARN, "answers 404")

    @pytest.mark.parametrize(
        ("age", "verdict"), [(timedelta(minutes=10), WARN), (timedelta(hours=2), FAIL)], ids=["minutes", "hours"]
    )
    def test_a_message_has_been_refused_for_long(self, shop: Installation, age: timedelta, verdict: Verdict) -> None:
        shop.simulator.shop.answer_with(500, None)
        shop.sell_and_pay()
        wait_for(lambda: shop.simulator.shop.deliveries[-1].status == 500)
        shop.let_pass(age)

        assert_only(shop.troubles(), "deliveries", verdict, "messages waiting for the shop: 1, the oldest for")
        assert "the shop answered 500" in shop.troubles()["deliveries"].message

    def test_a_message_was_abandoned(self, shop: Installation) -> None:
        shop.simulator.shop.answer_with(410, None)
        shop.sell_and_pay()
        wait_for(lambda: shop.simulator.shop.deliveries[-1].status == 410)

        assert_only(shop.troubles(), "deliveries", FAIL, "abandoned in the last 30 days: 1 (the shop answered 410")


class TestDatabase:
    def test_it_is_read_only(self, shop: Installation) -> None:
        shop.stop()
        make_read_only(shop.database)

        troubles = shop.troubles()

        assert_among(troubles, "database_write", FAIL, "it is read-only for this user")
        assert not {"strike_key", "strike_scopes", "deliveries", "worker_main"} & set(troubles)

    def test_it_is_locked(self, shop: Installation) -> None:
        with closing(sqlite3.connect(shop.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")

            assert_only(shop.troubles(), "database_write", FAIL, "another process has kept it locked")

    def test_its_tables_are_old(self, shop: Installation) -> None:
        shop.stop()
        shop.execute("DROP TABLE heartbeats", "UPDATE alembic_version SET version_num = '0001'")
        before = shop.database.read_bytes()

        troubles = shop.troubles()

        assert_among(troubles, "database_schema", FAIL, f"version 0001 is older than the {SCHEMA_VERSION}")
        assert "cannot tell" in troubles["worker_main"].message
        assert "deliveries" not in troubles
        assert shop.database.read_bytes() == before

    def test_its_tables_are_newer(self, shop: Installation) -> None:
        shop.stop()
        shop.execute("UPDATE alembic_version SET version_num = '9999'")

        assert_among(shop.troubles(), "database_schema", FAIL, "was created by a newer LNPay")

    def test_it_has_no_tables(self, shop: Installation, tmp_path: Path) -> None:
        (tmp_path / "new.sqlite").touch()
        shop.set(DATABASE_URL=f"sqlite:///{tmp_path}/new.sqlite")

        troubles = shop.troubles()

        assert_among(troubles, "database_schema", FAIL, "there are no tables")
        assert_among(troubles, "deliveries", WARN, "cannot tell: the database has no tables")

    def test_it_is_missing(self, shop: Installation, tmp_path: Path) -> None:
        shop.set(DATABASE_URL=f"sqlite:///{tmp_path}/gone.sqlite")

        troubles = shop.troubles()

        assert_among(troubles, "database", FAIL, "there is no such file")
        assert not {"strike", "strike_key", "strike_scopes", "rates", "webhook_url"} & set(troubles)
        assert not (tmp_path / "gone.sqlite").exists()

    def test_it_is_not_in_wal(self, shop: Installation) -> None:
        shop.stop()
        shop.execute("PRAGMA journal_mode = DELETE")

        assert_among(shop.troubles(), "database_wal", FAIL, "its journal is delete, not WAL")

    def test_commits_that_may_be_lost(self, shop: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            "lnpay.repository.maintenance.inspect.weakness_of", lambda _: "fsync is off on the PostgreSQL server"
        )

        assert_only(shop.troubles(), "database_commits", FAIL, "a commit may be lost in a power cut: fsync is off")

    def test_it_is_damaged(self, shop: Installation) -> None:
        shop.stop()
        shop.execute("CREATE TABLE big (x)", "INSERT INTO big SELECT randomblob(3000) FROM refunds, invoices")
        shop.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        content = bytearray(shop.database.read_bytes())
        # The sixth page on: the tables' own pages, not the list of tables.
        content[6 * 4096 :] = b"\x55" * (len(content) - 6 * 4096)
        shop.database.write_bytes(content)

        damaged = {"database", "database_integrity"} & set(shop.troubles())

        assert damaged

    def test_an_unreachable_postgresql_does_not_reveal_its_password(self, shop: Installation) -> None:
        shop.set(DATABASE_URL="postgresql+psycopg://lnpay:shop-password@127.0.0.1:1/lnpay")

        assert_among(shop.troubles(), "database", FAIL, "the server cannot be reached")

    def test_postgresql_is_checked_in_the_same_way(self, shop: Installation, postgres_server: str) -> None:
        with synced(postgres_server), migrated_postgres(postgres_server) as url:
            shop.set(DATABASE_URL=url)

            troubles = shop.troubles()
            with shop.rows() as tx:
                counted = tx.limits.calls_since(Bucket.OTHER, shop.now() - HOUR, 60)

        assert {finding.message for finding in troubles.values()} == {"it has never run"}
        assert counted > 0


class TestWork:
    def test_a_worker_is_silent(self, shop: Installation) -> None:
        with shop.rows() as tx:
            tx.heartbeats.beat(Heartbeat("refund", shop.now() - timedelta(minutes=130), None))

        assert_only(shop.troubles(), "worker_refund", FAIL, "its last pass ended 2 hours ago")
        assert "refund_failure_worker.py" in shop.troubles()["worker_refund"].advice

    def test_a_worker_is_slow(self, shop: Installation) -> None:
        with shop.rows() as tx:
            tx.heartbeats.beat(Heartbeat("main", shop.now() - timedelta(minutes=30), None))

        assert_only(shop.troubles(), "worker_main", WARN, "its last pass ended 30 minutes ago")

    def test_a_worker_died_on_one_of_two_machines(self, shop: Installation) -> None:
        with shop.rows() as tx:
            tx.heartbeats.beat(Heartbeat("main", shop.now() - 2 * HOUR, None, host="web-1"))
            tx.heartbeats.beat(Heartbeat("main", shop.now(), None, host="web-2"))

        found = [one for one in shop.examine() if one.name == "worker_main"]

        assert [(one.verdict, one.message.partition(" ended")[0]) for one in found] == [
            (FAIL, "on web-1: its last pass"),
            (Verdict.OK, "on web-2: its last pass"),
        ]

    def test_a_worker_was_never_started(self, shop: Installation) -> None:
        shop.execute("DELETE FROM heartbeats WHERE worker = 'expired'")

        assert_only(shop.troubles(), "worker_expired", WARN, "never run")
        assert "--with-workers" in shop.troubles()["worker_expired"].advice

    def test_the_last_pass_of_a_worker_failed(self, shop: Installation) -> None:
        with shop.rows() as tx:
            tx.heartbeats.beat(Heartbeat("main", shop.now(), "3 invoices could not be reconciled: see the log"))

        assert_only(shop.troubles(), "worker_main", WARN, "3 invoices could not be reconciled")

    @pytest.mark.parametrize(("hours", "verdict"), [(0.5, WARN), (2, FAIL)])
    def test_every_pass_of_a_worker_has_failed_for_long(
        self, shop: Installation, hours: float, verdict: Verdict
    ) -> None:
        with shop.rows() as tx:
            tx.heartbeats.beat(Heartbeat("main", shop.now() - hours * HOUR, "Strike does not answer"))
            tx.heartbeats.beat(Heartbeat("main", shop.now(), "Strike does not answer"))

        assert_only(shop.troubles(), "worker_main", verdict, "with an error, as has every pass for ")

    def test_an_invoice_could_not_be_checked_with_strike_for_long(self, shop: Installation) -> None:
        overdue = f"{shop.now() - 2 * HOUR:%Y-%m-%d %H:%M:%S.%f}"
        columns = "state = 'unpaid', paid_at = NULL, received_sats = NULL, settled_at = NULL"
        shop.execute(f"UPDATE invoices SET {columns}, expires_at = '{overdue}'")  # noqa: S608

        assert_only(shop.troubles(), "invoices_unread", FAIL, "1 unpaid invoice could not be checked at Strike")

    def test_a_payment_that_strike_lists_was_not_settled(self, shop: Installation) -> None:
        listed = f"{shop.now() - timedelta(minutes=20):%Y-%m-%d %H:%M:%S.%f}"
        columns = "state = 'expired', paid_at = NULL, received_sats = NULL, settled_at = NULL"
        shop.execute(f"UPDATE invoices SET {columns}, listed_paid_at = '{listed}'")  # noqa: S608

        assert "payments_unsettled" in shop.troubles()
        assert_only(shop.troubles(), "payments_unsettled", FAIL, "Strike lists as paid:")

    def test_a_payment_of_a_deleted_invoice_was_found(self, shop: Installation) -> None:
        moment = f"'{shop.now() - timedelta(days=1):%Y-%m-%d %H:%M:%S.%f}'"
        columns = "strike_invoice_id, correlation_id, amount_sats, currency, amount_fiat, opened_at, pruned_at"
        values = f"'invoice-of-old', 'order-of-old', 7, 'usd', '1.00', {moment}, {moment}"
        shop.execute(f"INSERT INTO pruned_invoices ({columns}, found_paid_at) VALUES ({values}, {moment})")  # noqa: S608

        assert_only(shop.troubles(), "payments_unsettled", FAIL, "invoice-of-old (deleted here before")

    @pytest.mark.parametrize(("age", "verdict"), [(timedelta(minutes=30), WARN), (timedelta(hours=2), FAIL)])
    def test_a_refund_has_been_in_flight_for_long(self, shop: Installation, age: timedelta, verdict: Verdict) -> None:
        owe_refund(shop)
        put_in_flight(shop, since=age)

        assert_only(shop.troubles(), "refunds_in_flight", verdict, "1 in flight, the oldest for")

    def test_a_refund_whose_outcome_strike_no_longer_knows(self, shop: Installation) -> None:
        owe_refund(shop)
        put_in_flight(shop, since=timedelta(minutes=1), is_stuck=True)

        assert_only(shop.troubles(), "refunds_in_flight", FAIL, "for 1 of them Strike can no longer say")

    def test_refunds_wait_for_the_operator(self, shop: Installation) -> None:
        owe_refund(shop)

        assert_only(shop.troubles(), "refunds_waiting", WARN, "1 needs_address")

    def test_a_late_payment_waits_for_a_decision(self, shop: Installation) -> None:
        owe_refund(shop)
        shop.execute("UPDATE refunds SET state = 'held', held_because = 'late_payment'")
        shop.let_pass(2 * HOUR)

        troubles = shop.troubles()
        assert set(troubles) == {"late_payments", "refunds_waiting"}
        assert_among(troubles, "late_payments", WARN, "1 held for your decision, the oldest for 2 hours")

    def test_late_payments_are_accepted_on_a_single_price(self, shop: Installation) -> None:
        shop.set(LATE_PAYMENTS="accept", RATE_MAX_SPREAD_PERCENT="0")

        assert_only(shop.troubles(), "late_payments", WARN, "the price of a single source")

    def test_a_refund_has_been_failing_for_long(self, shop: Installation) -> None:
        owe_refund(shop)
        shop.execute("UPDATE refunds SET state = 'failed', address = 'a@b.example'")
        shop.let_pass(2 * HOUR)

        assert_only(shop.troubles(), "refunds_unsent", WARN, "1 to be sent, the oldest for 2 hours")


class TestMachine:
    def test_settings_may_come_from_the_environment_only(self, shop: Installation) -> None:
        settings = replace(load_settings({}, shop.env_file), env_file=shop.env_file.with_name("none.env"))

        found = {finding.name: finding for finding in examine(settings, shop.now)}

        assert found["settings"].message.startswith("read from the environment only")
        assert found["settings_file"].verdict is Verdict.OK

    def test_every_user_can_read_the_settings(self, shop: Installation) -> None:
        shop.env_file.chmod(0o644)

        assert_only(shop.troubles(), "settings_file", WARN, "every user of this machine can read")

    @pytest.mark.parametrize(("free", "verdict"), [(500_000_000, WARN), (50_000_000, FAIL)])
    def test_the_disk_is_nearly_full(
        self, shop: Installation, monkeypatch: pytest.MonkeyPatch, free: int, verdict: Verdict
    ) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free}))

        assert_only(shop.troubles(), "disk", verdict, f"{free // 1_000_000} MB are free")


class TestNothingAnswers:
    def test_all_together_takes_less_than_fifteen_seconds(self, shop: Installation) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen(64)
            nowhere = f"http://127.0.0.1:{silent.getsockname()[1]}"
            addresses = {
                "STRIKE_API_URL": f"{nowhere}/v1", "COINGECKO_API_URL": nowhere, "COINBASE_API_URL": nowhere,
                "WEBHOOK_URL": f"{nowhere}/webhook", "DELIVERY_URL": nowhere, "PORT": nowhere.rpartition(":")[2],
            }  # fmt: skip
            shop.set(**addresses)
            start = time.monotonic()

            troubles = shop.troubles()

            assert time.monotonic() - start < 15
        assert {"server", "strike", "rates", "webhook_url", "delivery_url"} <= set(troubles)
        assert not {"database", "deliveries", "worker_main"} & set(troubles)


def wait_for(is_true: Callable[[], object]) -> None:
    assert wait_until(is_true, WAIT_SECONDS)


def use_up_calls(shop: Installation, calls: int) -> None:
    """Count this many calls to Strike as made just now."""
    with shop.rows() as tx:
        made = tx.limits.calls_since(Bucket.OTHER, shop.now() - timedelta(minutes=10), 60)
        for _ in range(calls - made):
            tx.limits.count_call(Bucket.OTHER, shop.now(), 60)


def owe_refund(shop: Installation) -> int:
    """Owe a refund for which the customer has given no address. Returns its sats."""
    invoice = shop.pay(late_seconds=200)
    wait_for(lambda: shop.invoice(invoice.strike_invoice_id).state is InvoiceState.PAID_LATE)
    shop.let_pass(timedelta())
    with shop.rows() as tx:
        [refund] = tx.refunds.in_states((RefundState.NEEDS_ADDRESS,), 10)
    return refund.amount_sats


def put_in_flight(shop: Installation, *, since: timedelta, is_stuck: bool = False) -> None:
    """Put the refund in flight."""
    with shop.rows() as tx:
        [refund] = tx.refunds.in_states((RefundState.NEEDS_ADDRESS,), 10)
        began_at = shop.now() - since
        refund = (
            tx.refunds.restart(refund, RefundKey("key", 1), began_at, address="a@b.example", approved_at=None) or refund
        )
        refund = tx.refunds.store_quote(refund, "q", 1) or refund
        refund = tx.refunds.start(refund, began_at) or refund
        tx.refunds.put_off(
            refund,
            shop.now() + HOUR,
            looks=1,
            reason="Strike could not be reached",
            is_in_doubt=True,
            stuck_at=shop.now() if is_stuck else None,
        )
