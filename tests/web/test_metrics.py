"""GET /metrics: what it shows, who may read it, and what it never discloses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lnpay.deliveries.send import send_due
from lnpay.domain.errors import StorageUnavailable
from lnpay.domain.model import Heartbeat
from lnpay.domain.states import DeliveryState, InvoiceState, RefundState
from lnpay.monitoring.snapshot import FiguresReader
from lnpay.repository.repository import SCHEMA_VERSION
from lnpay.runtime.version import version
from lnpay.runtime.worker_passes import main_pass
from lnpay.strike.buckets import Bucket
from tests.owing import owe, refund_of, send
from tests.web.answers import assert_error
from tests.web.test_webhook import signed, updated
from tests.world import World

TOKEN = "a-metrics-token-of-the-tests"

Samples = dict[tuple[str, ...], float]
"""("name", "label value", …) to value."""


def scrape(world: World, **request: str) -> Samples:
    """What Prometheus reads."""
    answer = world.client.get("/metrics", headers=request)
    assert answer.status_code == 200, answer.text
    families = text_string_to_metric_families(answer.text)
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


class TestAccess:
    def test_without_a_token_it_is_open(self, world: World) -> None:
        answer = world.client.get("/metrics")

        assert (answer.status_code, answer.headers["Content-Type"]) == (
            200, "text/plain; version=0.0.4; charset=utf-8",
        )  # fmt: skip

    @pytest.mark.parametrize(
        "given", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ä"]
    )
    def test_with_a_token_other_callers_are_refused(self, make_world: Callable[..., World], given: str | None) -> None:
        world = make_world(metrics_token=TOKEN)

        answer = world.client.get("/metrics", headers={} if given is None else {"Authorization": given})

        assert_error(answer, 401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert "lnpay_" not in answer.text

    def test_the_holder_of_the_token_sees_the_metrics(self, make_world: Callable[..., World]) -> None:
        world = make_world(metrics_token=TOKEN, api_keys=("a-shop-key-for-the-tests",))

        assert scrape(world, Authorization=f"Bearer {TOKEN}")["lnpay_database_up",] == 1

    def test_an_api_key_is_not_a_metrics_token(self, make_world: Callable[..., World]) -> None:
        world = make_world(metrics_token=TOKEN, api_keys=("a-shop-key-for-the-tests",))

        answer = world.client.get("/metrics", headers={"Authorization": "Bearer a-shop-key-for-the-tests"})

        assert answer.status_code == 401


class TestMoney:
    def test_a_paid_order_that_the_shop_refuses(self, world: World) -> None:
        world.simulator.shop.answer_with(500)
        world.pay(world.sell())
        main_pass(world.backend)
        world.wait(400)

        samples = scrape(world)

        assert samples["lnpay_delivery_oldest_age_seconds", "invoice.settled"] == pytest.approx(400)
        assert samples["lnpay_deliveries", "pending"] == 1
        assert samples["lnpay_invoices", "settled"] == 1

    def test_a_refund_that_needs_an_address(self, world: World) -> None:
        owe(world, address=None)
        world.wait(3_600)

        samples = scrape(world)

        assert samples["lnpay_refunds", "needs_address"] == 1
        assert samples["lnpay_refund_oldest_age_seconds", "needs_address"] == pytest.approx(3_600)

    def test_every_state_has_a_line_from_the_start(self, world: World) -> None:
        samples = scrape(world)

        for name, states in (("invoices", InvoiceState), ("refunds", RefundState), ("deliveries", DeliveryState)):
            assert {state: samples[f"lnpay_{name}", state] for state in states} == dict.fromkeys(states, 0)

    def test_two_processes_report_the_same(self, world: World) -> None:
        before = scrape(world)
        owe(world)
        send(world)
        world.restart()

        after = scrape(world)

        assert (before["lnpay_refunds", "sent"], after["lnpay_refunds", "sent"]) == (0, 1)

    def test_an_unavailable_database_is_reported_and_the_rest_is_still_shown(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(_: FiguresReader) -> None:
            raise StorageUnavailable("the database is not available right now")

        monkeypatch.setattr(FiguresReader, "read", away)

        samples = scrape(world)

        assert samples["lnpay_database_up",] == 0
        assert ("lnpay_invoices", "settled") not in samples
        assert ("lnpay_build_info", version()) in samples


class TestProviderAndWorkers:
    def test_calls_and_locks_have_a_line_for_each_bucket(self, world: World) -> None:
        world.fault("POST", "/v1/invoices", "rate_limited", seconds=30)
        world.ask()

        samples = scrape(world)

        assert samples["lnpay_provider_block_remaining_seconds", Bucket.INVOICE_CREATE] == pytest.approx(30, abs=1)
        assert samples["lnpay_provider_calls_left", Bucket.OTHER] == 950 - samples["lnpay_provider_calls", Bucket.OTHER]

    def test_a_worker_that_never_ran_is_infinitely_old(self, world: World) -> None:
        with world.backend.repository.transaction() as tx:
            tx.heartbeats.beat(Heartbeat("main", world.backend.clock(), "the key is wrong"))
        world.wait(60)

        samples = scrape(world)

        assert samples["lnpay_worker_last_run_age_seconds", "main"] == 60
        assert samples["lnpay_worker_last_run_age_seconds", "refund"] == float("inf")
        assert (samples["lnpay_worker_trouble", "main"], samples["lnpay_worker_trouble", "refund"]) == (1, 0)

    def test_each_host_has_a_line_of_its_own(self, world: World) -> None:
        for host in ("web-1", "web-2"):
            with world.backend.repository.transaction() as tx:
                tx.heartbeats.beat(Heartbeat("main", world.backend.clock(), None, host=host))
            world.wait(60)

        samples = scrape(world)

        assert samples["lnpay_worker_last_run_age_seconds", "web-1", "main"] == 120
        assert samples["lnpay_worker_last_run_age_seconds", "web-2", "main"] == 60
        assert samples["lnpay_worker_last_run_age_seconds", "refund"] == float("inf")

    def test_unreadable_rows_and_stalled_work(self, world: World) -> None:
        world.sell()
        world.wait(5_000)
        with world.backend.repository.transaction() as tx:
            tx.heartbeats.beat(Heartbeat("main", world.backend.clock(), "look here", unreadable=3))
        world.wait(60)

        samples = scrape(world)

        assert samples["lnpay_worker_unreadable_rows", "main"] == 3
        assert samples["lnpay_worker_trouble_seconds", "main"] == 60
        assert samples["lnpay_worker_trouble_seconds", "refund"] == 0
        assert [samples["lnpay_stalled", kind] for kind in ("unpaid", "expired", "refunds", "deliveries")] == [
            1,
            0,
            0,
            0,
        ]


class TestPrice:
    def test_its_age_and_source_and_the_spread_between_sources(self, world: World) -> None:
        world.sell()
        world.wait(50)

        samples = scrape(world)

        assert 50 <= samples["lnpay_rate_age_seconds", "coingecko"] < 120
        assert samples["lnpay_rate_max_age_seconds",] == 300
        assert 0 <= samples["lnpay_rate_spread_ratio",] < 0.05
        assert samples["lnpay_rate_refreshes_total", "fetched"] == 1

    def test_without_a_price_there_is_no_age_and_failures_are_counted(self, world: World) -> None:
        world.fault("GET", "*", "error", times=None, status=503)
        world.ask()

        samples = scrape(world)

        assert not [key for key in samples if key[0] in ("lnpay_rate_age_seconds", "lnpay_rate_spread_ratio")]
        assert samples["lnpay_rate_refreshes_total", "failed"] == 1

    def test_sources_that_disagree(self, world: World) -> None:
        world.fault("GET", "/coinbase/*", "field_changed", times=None, field="data.rates.USD", value="1.00")
        world.ask()

        samples = scrape(world)

        assert samples["lnpay_rate_refreshes_total", "disagreed"] == 1
        assert samples["lnpay_rate_spread_ratio",] > 1


class TestRequests:
    def test_they_are_counted_by_route_and_class_of_status_never_by_path(self, world: World) -> None:
        invoice = world.sell()
        world.client.get(f"/checkout/{invoice.token}")
        world.client.get(f"/invoices/{invoice.strike_invoice_id}")
        world.client.get("/invoices/unknown")
        world.client.get("/a/stranger/asks")
        world.client.open("/healthz", method="STRANGE")

        samples = scrape(world)

        counted = {key[1:]: value for key, value in samples.items() if key[0].endswith("duration_seconds_count")}
        assert counted == {
            ("/generate-invoice", "2xx"): 1,
            ("/checkout/<token>", "2xx"): 1,
            ("/invoices/<invoice_id>", "2xx"): 1,
            ("/invoices/<invoice_id>", "4xx"): 1,
            ("none", "4xx"): 2,
        }
        assert samples["lnpay_http_request_duration_seconds_sum", "/generate-invoice", "2xx"] > 0


class TestWebhooks:
    @pytest.fixture
    def counted(self, world: World) -> Callable[[], dict[str, float]]:
        """The counters that are not zero."""

        def outcomes() -> dict[str, float]:
            return {key[1]: n for key, n in scrape(world).items() if key[0] == "lnpay_webhook_events_total" and n}

        return outcomes

    def test_every_outcome_begins_with_zero(self, world: World) -> None:
        assert {key[1] for key in scrape(world) if key[0] == "lnpay_webhook_events_total"} == {
            "settled", "paid_late", "refund", "ignored", "put_off", "refused_signature", "refused_body",
            "not_configured", "error",
        }  # fmt: skip

    def test_what_is_paid_and_refunded(self, world: World, counted: Callable[[], dict[str, float]]) -> None:
        world.subscribe()
        for late_seconds in (0, 200):
            world.pay(world.sell(ln_address="pending60@example.com"), late_seconds=late_seconds)
        world.pump()
        send(world)
        world.wait(61)
        world.pump()

        found = counted()

        assert (found["settled"], found["paid_late"], found["refund"]) == (1, 1, 1)

    def test_what_is_refused(self, world: World, counted: Callable[[], dict[str, float]]) -> None:
        world.client.post("/webhook", data=b"{}", headers={"X-Webhook-Signature": "00" * 32})
        world.client.post("/webhook", data=b"{}")
        signed(world, b"no JSON")

        assert counted() == {"refused_signature": 2, "refused_body": 1}

    def test_what_is_postponed_and_what_is_not_ours(
        self, world: World, counted: Callable[[], dict[str, float]]
    ) -> None:
        invoice = world.sell()
        signed(world, updated(invoice))
        signed(world, updated(invoice, data={"entityId": "unknown"}))

        assert counted() == {"put_off": 1, "ignored": 1}

    def test_a_bug_of_ours(
        self, world: World, counted: Callable[[], dict[str, float]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lnpay.web.api.webhook.receive_event", lambda *_: 1 / 0)
        signed(world, {})

        assert counted() == {"error": 1}

    def test_a_server_without_a_webhook_secret(self, make_world: Callable[..., World]) -> None:
        world = make_world(webhook_secret="")
        signed(world, {})

        assert scrape(world)["lnpay_webhook_events_total", "not_configured"] == 1


class TestDiscretion:
    def test_it_never_contains_a_secret_an_id_or_an_address(self, make_world: Callable[..., World]) -> None:
        world = make_world(metrics_token=TOKEN, api_keys=(), delivery_secret="whsec_" + "A" * 32)
        world.subscribe()
        paid, late = world.sell(correlation_id="order-17"), world.sell(ln_address="alice@example.com")
        world.pay(paid)
        world.pay(late, late_seconds=200)
        world.pump()
        send(world)
        send_due(world.backend.outbox)
        for one in (paid, late):
            world.client.get(f"/checkout/{one.token}")
        world.client.get(f"/refund/{refund_of(world, late).token}")

        text = world.client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text

        told = [
            TOKEN, "whsec_", "a-key-of-the-tests", "a-secret-of-the-tests", "alice", "order-17", "lnbc",
            "provider.test", refund_of(world, late).token, refund_of(world, late).idempotency_key,
            *(word for one in (paid, late) for word in (one.token, one.strike_invoice_id, one.issue.payment_hash)),
        ]  # fmt: skip
        assert [word for word in told if word in text] == []
        assert f'lnpay_schema_info{{version="{SCHEMA_VERSION}"}} 1.0' in text
