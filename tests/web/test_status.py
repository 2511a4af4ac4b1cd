"""GET /checkout/<token>/status: what every open page asks every two seconds."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event

from lnpay.domain.errors import StorageUnavailable
from lnpay.domain.model import Invoice
from lnpay.domain.states import RefundState
from lnpay.invoices.settle import reconcile_invoice, settle
from lnpay.strike.invoices import InvoiceStatus, StrikeInvoice
from lnpay.web.customer.stages import REFUND_STAGES, Stage
from lnpay.web.customer.status import (
    FORGET_SECONDS,
    FRESH_SECONDS,
    STALE_SECONDS,
    StatusCache,
)
from tests.web.answers import assert_error
from tests.world import World


class Seconds:
    """Seconds that only a test moves on."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def cache(world: World, seconds: Seconds) -> StatusCache:
    return StatusCache(world.backend.repository, world.backend.clock, seconds)


@pytest.fixture
def queries(world: World) -> list[str]:
    """Record every SQL statement from now on."""
    seen: list[str] = []
    event.listen(world.backend.repository.engine, "before_cursor_execute", lambda *given: seen.append(given[2]))
    return seen


def learn(world: World, invoice: Invoice) -> None:
    reconcile_invoice(world.backend.settlement, invoice.strike_invoice_id)


def said(world: World, invoice: Invoice) -> dict[str, Any]:
    """The status shown to a customer who has just opened the page."""
    fresh = StatusCache(world.backend.repository, world.backend.clock)
    answer = fresh.answer(invoice.token)
    assert answer is not None
    found: dict[str, Any] = json.loads(answer.body)
    return found


class TestWhatItSays:
    def test_waiting(self, world: World) -> None:
        invoice = world.sell()

        assert world.client.get(f"/checkout/{invoice.token}/status").get_json() == {
            "state": "waiting",
            "expiration_time": invoice.expires_at.isoformat(),
            "is_final": False,
        }

    def test_seen_and_no_longer_seen(self, world: World) -> None:
        invoice = world.sell()
        pending = StrikeInvoice(
            invoice.strike_invoice_id, InvoiceStatus.PENDING, None, invoice.created_at, None, None, {}
        )

        settle(world.backend.settlement, pending)

        assert said(world, invoice)["state"] == "seen"

    def test_paid_is_final(self, world: World) -> None:
        invoice = world.sell()
        world.pay(invoice)
        learn(world, invoice)

        assert (said(world, invoice)["state"], said(world, invoice)["is_final"]) == ("paid", True)

    def test_expired_without_any_worker(self, world: World) -> None:
        invoice = world.sell()
        world.wait(120)
        assert said(world, invoice)["state"] == "waiting"
        world.wait(1)

        assert (said(world, invoice)["state"], said(world, invoice)["is_final"]) == ("expired", False)

    @pytest.mark.parametrize(("address", "state"), [("ann@wallet.test", "refunding"), ("", "needs_address")])
    def test_paid_late(self, world: World, address: str, state: str) -> None:
        invoice = world.sell(ln_address=address)
        world.pay(invoice, late_seconds=150)
        learn(world, invoice)

        assert (said(world, invoice)["state"], said(world, invoice)["is_final"]) == (state, False)

    def test_every_state_of_a_refund_has_a_word(self) -> None:
        words = {state: REFUND_STAGES.get(state, Stage.REFUNDING) for state in RefundState}

        assert words[RefundState.SENT] is Stage.REFUNDED
        assert words[RefundState.IN_FLIGHT] is Stage.REFUNDING
        assert words[RefundState.HELD] is Stage.REFUND_HELD


class TestHowItAnswers:
    def test_the_first_answer_and_the_next_are_the_same(self, world: World) -> None:
        invoice = world.sell()

        by_flask = world.client.get(f"/checkout/{invoice.token}/status")
        before_flask = world.client.get(f"/checkout/{invoice.token}/status")

        assert by_flask.data == before_flask.data
        assert dict(by_flask.headers) == dict(before_flask.headers)
        assert by_flask.headers["Cache-Control"] == "no-cache"
        assert len(by_flask.data) < 120

    @pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}'])
    def test_an_unchanged_status_has_no_body(self, world: World, form: str) -> None:
        invoice = world.sell()
        path = f"/checkout/{invoice.token}/status"
        etag = world.client.get(path).headers["ETag"]
        world.restart()

        answers = [world.client.get(path, headers={"If-None-Match": form.format(etag)}) for _ in range(2)]

        assert [answer.status_code for answer in answers] == [304, 304]
        assert dict(answers[0].headers) == dict(answers[1].headers)
        assert answers[0].data == b""

    def test_a_new_state_has_a_new_etag(self, world: World) -> None:
        invoice = world.sell()
        path = f"/checkout/{invoice.token}/status"
        etag = world.client.get(path).headers["ETag"]
        world.wait(121)

        assert world.client.get(path, headers={"If-None-Match": etag}).get_json()["state"] == "expired"

    @pytest.mark.parametrize("token", ["x", "%00", "%ff", "ключ", "x" * 3_000])
    def test_an_unknown_token_is_a_404(self, world: World, token: str) -> None:
        assert_error(world.client.get(f"/checkout/{token}/status"), 404, "not_found")

    def test_another_method_is_a_405(self, world: World) -> None:
        assert_error(world.client.post("/checkout/x/status"), 405, "method_not_allowed")


class TestTheCache:
    def test_a_fresh_entry_is_not_read_again(self, world: World, cache: StatusCache, queries: list[str]) -> None:
        invoice = world.sell()
        cache.answer(invoice.token)
        del queries[:]

        for _ in range(100):
            cache.answer(invoice.token)

        assert queries == []

    def test_all_open_pages_are_one_query(
        self, world: World, cache: StatusCache, seconds: Seconds, queries: list[str]
    ) -> None:
        tokens = [world.sell().token for _ in range(5)]
        for token in tokens:
            cache.answer(token)
        del queries[:]
        seconds.now += FRESH_SECONDS + 0.01

        for token in tokens:
            cache.answer(token)

        assert len(queries) == 1

    def test_a_payment_shows_once_the_cache_is_refreshed(
        self, world: World, cache: StatusCache, seconds: Seconds
    ) -> None:
        invoice = world.sell()
        cache.answer(invoice.token)
        world.pay(invoice)
        learn(world, invoice)

        seconds.now += FRESH_SECONDS + 0.01

        answer = cache.answer(invoice.token)
        assert answer is not None
        assert b'"paid"' in answer.body

    def test_during_a_refresh_other_pages_get_the_cached_status(
        self, world: World, cache: StatusCache, seconds: Seconds, queries: list[str]
    ) -> None:
        invoice = world.sell()
        cache.answer(invoice.token)
        del queries[:]
        seconds.now += (FRESH_SECONDS + STALE_SECONDS) / 2

        with cache._refreshing:
            assert cache.known_answer(invoice.token) is not None

        assert queries == []

    def test_a_closed_page_is_forgotten(self, world: World, cache: StatusCache, seconds: Seconds) -> None:
        closed, still_open = world.sell(), world.sell()
        cache.answer(closed.token)
        seconds.now += FORGET_SECONDS
        cache.answer(still_open.token)
        seconds.now += STALE_SECONDS + 0.01

        cache.answer(still_open.token)

        assert cache.known_answer(closed.token) is None

    def test_unknown_tokens_are_not_cached(self, cache: StatusCache) -> None:
        for number in range(50):
            assert cache.answer(f"guess-{number}") is None

        assert cache._entries == {}

    def test_without_a_database_the_route_says_so(
        self, world: World, cache: StatusCache, seconds: Seconds, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        invoice = world.sell()
        cache.answer(invoice.token)
        seconds.now += STALE_SECONDS + 1

        def fail() -> None:
            raise StorageUnavailable("away")

        monkeypatch.setattr(world.backend.repository, "reading", fail)

        assert cache.known_answer(invoice.token) is None
        with pytest.raises(StorageUnavailable):
            cache.answer(invoice.token)


class TestLnpayJs:
    def test_it_is_small_and_any_page_may_load_it(self, world: World) -> None:
        answer = world.client.get("/lnpay.js")

        assert answer.status_code == 200
        assert answer.mimetype == "text/javascript"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert "max-age=3600" in answer.headers["Cache-Control"]
        assert len(gzip.compress(answer.data)) < 5_000

    def test_only_named_origins_may_frame_the_page(self, make_world: Callable[..., World]) -> None:
        world = make_world(cors_origins=("https://shop.example", "http://localhost:8000"))
        invoice = world.sell()

        page = world.client.get(f"/checkout/{invoice.token}")

        policy = page.headers["Content-Security-Policy"]
        assert policy.endswith("frame-ancestors https://shop.example http://localhost:8000")
        assert 'data-parents="https://shop.example http://localhost:8000"' in page.text
