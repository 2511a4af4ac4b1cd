"""What goes wrong on the way to the simulator, as a client of `requests` meets it: without and with sockets."""

from __future__ import annotations

import json
import time

import pytest
import requests
from requests.exceptions import ConnectionError, ConnectTimeout, ReadTimeout

from lnpay.sandbox import Fault, VirtualClock
from tests.sandbox.strike_client import Client, error_of

CREATE = ("POST", "/v1/invoices")


def add(strike: Client, kind: str, **fields: object) -> Fault:
    return strike.simulator.faults.add(Fault(*CREATE, kind, **fields))  # type: ignore[arg-type]


def invoices_made(strike: Client) -> int:
    return len(strike.simulator.invoices.by_id)


def test_an_error_is_answered_before_anything_happens(strike: Client) -> None:
    add(strike, "error", status=503, code="MAINTENANCE_MODE")

    assert error_of(strike.ask()) == (503, "MAINTENANCE_MODE")
    assert invoices_made(strike) == 0
    assert strike.ask().status_code == 201


def test_an_error_can_hide_that_it_happened(strike: Client) -> None:
    add(strike, "error_after")

    assert error_of(strike.ask()) == (500, "INTERNAL_SERVER_ERROR")
    assert invoices_made(strike) == 1


@pytest.mark.parametrize(
    ("kind", "raised", "made"),
    [
        ("unreachable", ConnectTimeout, 0),
        ("lost_request", ReadTimeout, 0),
        ("lost_answer", ConnectionError, 1),
        ("timeout_after", ReadTimeout, 1),
    ],
)
def test_no_answer_says_nothing_about_what_happened(
    strike: Client, kind: str, raised: type[Exception], made: int
) -> None:
    add(strike, kind)

    with pytest.raises(raised) as caught:
        strike.ask()

    assert type(caught.value) is raised
    assert invoices_made(strike) == made


def test_waiting_for_nothing_takes_the_timeout_on_a_frozen_clock(strike: Client) -> None:
    add(strike, "lost_request")
    before = strike.simulator.clock.now()

    with pytest.raises(ReadTimeout):
        strike.call("POST", "/v1/invoices", json={}, timeout=(3, 10))

    assert (strike.simulator.clock.now() - before).total_seconds() == 10


def test_a_delay_shorter_than_the_timeout_only_takes_time(strike: Client) -> None:
    add(strike, "delay", seconds=4)
    before = strike.simulator.clock.now()

    assert strike.ask().status_code == 201
    assert (strike.simulator.clock.now() - before).total_seconds() == 4


def test_a_delayed_request_takes_effect_after_its_caller_gave_up(strike: Client) -> None:
    add(strike, "delay", seconds=30)

    with pytest.raises(ReadTimeout):
        strike.ask()

    assert strike.get("/v1/invoices").json()["count"] == 0
    strike.simulator.clock.advance(25)
    (invoice,) = strike.get("/v1/invoices").json()["items"]
    assert invoice["created"].startswith("2026-01-01T00:00:30.")


def test_a_delayed_answer_tells_of_what_happened_before(strike: Client) -> None:
    add(strike, "delay_after", seconds=30)

    with pytest.raises(ReadTimeout):
        strike.ask()

    assert invoices_made(strike) == 1


def test_a_refusal_can_be_a_page(strike: Client) -> None:
    add(strike, "html403")

    answer = strike.ask()

    assert (answer.status_code, answer.headers["Content-Type"][:9]) == (403, "text/html")
    assert "Cloudflare" in answer.text


def test_a_rate_limit_can_be_pretended(strike: Client) -> None:
    add(strike, "rate_limited", seconds=7)

    answer = strike.ask()

    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")


@pytest.mark.parametrize("kind", ["garbage", "truncated"])
def test_an_answer_can_be_no_json(strike: Client, kind: str) -> None:
    add(strike, kind)

    answer = strike.ask()

    assert answer.ok
    with pytest.raises(requests.JSONDecodeError):
        answer.json()
    assert invoices_made(strike) == 1


def test_a_field_can_be_missing_or_another(strike: Client) -> None:
    add(strike, "field_missing", field="amount.currency")
    add(strike, "field_changed", field="state", value="REVERSED")

    assert strike.ask().json()["amount"] == {"amount": "0.00051636"}
    assert strike.ask().json()["state"] == "REVERSED"
    add(strike, "field_missing", field="items.0.nothing")
    assert "invoiceId" in strike.ask().json()


def test_a_fault_passes_some_hits_some_and_is_over(strike: Client) -> None:
    fault = add(strike, "error", skip=1, times=2)

    assert [strike.ask().status_code for _ in range(4)] == [201, 500, 500, 201]
    assert fault.hits == 2


def test_a_fault_is_for_a_method_and_a_pattern(strike: Client) -> None:
    strike.simulator.faults.add(Fault("GET", "/v1/payment-quotes/*/execute", "error", times=None))
    strike.simulator.faults.add(Fault("*", r"^/v1/(balances|events)$", "error", times=None))

    assert strike.execute(strike.payment_quote()).status_code == 200
    assert [strike.get(f"/v1/{name}").status_code for name in ("balances", "events", "subscriptions")] == [
        500, 500, 200,
    ]  # fmt: skip


def test_a_chance_comes_from_the_seed(strike: Client) -> None:
    def tries() -> list[int]:
        strike.simulator.reset()
        add(strike, "error", times=None, probability=0.5)
        return [strike.ask().status_code for _ in range(20)]

    assert tries() == tries()
    assert set(tries()) == {201, 500}


@pytest.mark.parametrize(("kind", "made"), [("unreachable", 0), ("lost_answer", 1)])
def test_a_socket_is_closed_without_an_answer(strike_over_http: Client, kind: str, made: int) -> None:
    add(strike_over_http, kind)

    with pytest.raises(ConnectionError):
        strike_over_http.ask()

    assert invoices_made(strike_over_http) == made


def test_a_socket_waits_for_a_late_effect(strike_over_http: Client) -> None:
    add(strike_over_http, "delay", seconds=0.3)

    with pytest.raises(ReadTimeout):
        strike_over_http.call("POST", "/v1/invoices", json={}, timeout=0.05)
    made_before = invoices_made(strike_over_http)
    add(strike_over_http, "delay", seconds=0.3)
    started_at = time.monotonic()
    answer = strike_over_http.ask()

    assert (made_before, answer.status_code) == (0, 201)
    assert time.monotonic() - started_at >= 0.3


def test_a_swallowed_request_times_out_on_a_socket(strike_over_http: Client) -> None:
    add(strike_over_http, "lost_request")

    with pytest.raises(ReadTimeout):
        strike_over_http.call("POST", "/v1/invoices", json={}, timeout=0.1)


def test_the_control_api_sets_lists_and_clears_faults(strike: Client) -> None:
    strike.control("/faults", method="POST", path_pattern="/v1/invoices", kind="error", status=502)

    assert strike.ask().status_code == 502
    assert [fault["hits"] for fault in strike.get("/_control/faults").json()] == [1]
    assert strike.call("DELETE", "/_control/faults").json() == []


@pytest.mark.parametrize(
    "body", [{"kind": "nonsense"}, {"kind": "error", "colour": "red"}, {"kind": "error", "path_pattern": "^("}, {}]
)
def test_an_invalid_fault_is_refused(strike: Client, body: dict[str, object]) -> None:
    answer = strike.call("POST", "/_control/faults", data=json.dumps(body))

    assert answer.status_code == 400
    assert strike.simulator.faults.faults == []


def test_a_clock_does_not_go_back() -> None:
    clock = VirtualClock()

    with pytest.raises(ValueError, match="moved back"):
        clock.advance(-1)
