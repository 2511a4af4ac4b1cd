"""Strike's rate limits: buckets, lock-outs, and the two ways a 429 is written."""

from __future__ import annotations

from datetime import timedelta
from email.utils import parsedate_to_datetime

from tests.sandbox.strike_client import Client


def test_invoices_are_locked_out_for_a_minute_after_250(strike: Client) -> None:
    statuses = [strike.ask().status_code for _ in range(251)]
    refused = strike.ask()
    strike.simulator.clock.advance(59)

    assert statuses == [201] * 250 + [429]
    assert refused.headers["Retry-After"] == "60"
    assert refused.text.startswith("<html>")
    assert strike.ask().headers["Retry-After"] == "1"
    strike.simulator.clock.advance(1)
    assert strike.ask().status_code == 201


def test_a_slow_caller_is_never_locked_out(strike: Client) -> None:
    for _ in range(300):
        strike.simulator.clock.advance(0.25)
        assert strike.ask().status_code == 201


def test_everything_else_shares_one_bucket_and_costs_an_hour(strike: Client) -> None:
    strike.simulator.config.rate_limits = "sandbox"
    strike.simulator.config.rate_limit_body = "json"
    paths = ("/v1/balances", "/v1/invoices", "/v1/subscriptions", "/v1/events", "/v1/accounts/limits")

    statuses = [strike.get(path).status_code for path in paths * 70]
    refused = strike.get("/v1/invoices")

    assert statuses == [200] * 350
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "3600")
    assert refused.json()["data"]["code"] == "RATE_LIMIT_EXCEEDED"
    assert strike.ask().status_code == 201
    assert strike.get("/v1/rates/ticker").status_code == 200


def test_the_end_of_a_lock_out_can_be_a_date(strike: Client) -> None:
    strike.simulator.config.retry_after_form = "date"
    strike.simulator.config.rate_limit_table = {"others": [1, 600, 3600]}
    strike.get("/v1/balances")

    ends_at = parsedate_to_datetime(strike.get("/v1/balances").headers["Retry-After"])

    assert ends_at - strike.simulator.clock.now() == timedelta(hours=1)


def test_reading_invoices_can_count_as_creating_them(strike: Client) -> None:
    strike.simulator.config.invoice_reads_share_creation_bucket = True
    strike.simulator.config.rate_limit_table = {"invoice_creation": [2, 60, 60]}

    assert [strike.get("/v1/invoices").status_code for _ in range(2)] == [200, 200]
    assert strike.ask().status_code == 429


def test_limits_can_be_off(strike: Client) -> None:
    strike.simulator.config.rate_limits = "off"

    assert {strike.get("/v1/balances").status_code for _ in range(1001)} == {200}
