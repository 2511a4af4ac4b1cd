"""Webhooks, rate limits and faults of receive requests, over real HTTP."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from requests.exceptions import ConnectionError, ReadTimeout

from lnpay.sandbox import Fault
from lnpay.sandbox.server import wait_until
from tests.sandbox.strike_client import SECRET, Client, error_of

EVENTS = ["receive-request.receive-pending", "receive-request.receive-completed"]
CREATE = ("POST", "/v1/receive-requests")


@pytest.fixture
def strike(strike_over_http: Client) -> Client:
    return strike_over_http


class Receiver:
    """A webhook endpoint on a real socket."""

    def __init__(self) -> None:
        self.got: list[tuple[bytes, str]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((body, self.headers["X-Webhook-Signature"]))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/webhook"
        Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_receives_are_reported_in_signed_bodies_of_ids(strike: Client, receiver: Receiver) -> None:
    strike.subscribe(webhookUrl=receiver.url, eventTypes=EVENTS)
    request = strike.receive_request()
    receive = strike.simulator.pay_invoice(request["bolt11"]["invoice"], pending_seconds=10)
    assert wait_until(lambda: len(receiver.got) == 1)
    strike.simulator.clock.advance(10)
    assert wait_until(lambda: len(receiver.got) == 2)

    bodies = [json.loads(body) for body, _ in receiver.got]
    assert [body["eventType"] for body in bodies] == EVENTS
    data = {"entityId": request["receiveRequestId"], "receiveId": receive.transaction_id}
    assert [body["data"] for body in bodies] == [data, data]
    for body, signature in receiver.got:
        assert signature == hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest().upper()


def test_an_event_can_name_the_request_alone(strike: Client) -> None:
    strike.control("/config", has_receive_id_in_events=False)
    request = strike.receive_request()
    strike.simulator.pay_invoice(request["bolt11"]["invoice"])

    (event,) = strike.get("/v1/events").json()["items"]

    assert event["eventType"] == EVENTS[1]
    assert event["data"] == {"entityId": request["receiveRequestId"]}


def test_an_event_is_sent_again_on_request(strike: Client, receiver: Receiver) -> None:
    strike.subscribe(webhookUrl=receiver.url, eventTypes=EVENTS)
    request = strike.receive_request()
    strike.simulator.pay_invoice(request["bolt11"]["invoice"])

    strike.control("/webhooks/send-event", entity_id=request["receiveRequestId"], times=2)

    assert wait_until(lambda: len(receiver.got) == 3)
    assert len({body for body, _ in receiver.got}) == 1


def test_making_and_reading_share_the_bucket_that_locks_out_for_an_hour(strike: Client) -> None:
    strike.simulator.config.rate_limit_table = {"others": [6, 600, 3600]}
    request_id = strike.receive_request()["receiveRequestId"]
    for path in (f"/{request_id}", f"/{request_id}/receives", "", "/receives"):
        assert strike.get(f"/v1/receive-requests{path}").status_code == 200

    assert strike.get("/v1/balances").status_code == 200
    refused = strike.ask_receive_request()
    strike.simulator.clock.advance(3599)

    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "3600")
    assert strike.get("/v1/receive-requests/receives").headers["Retry-After"] == "1"
    strike.simulator.clock.advance(1)
    assert strike.ask_receive_request().status_code == 201


def test_the_bucket_holds_a_thousand_calls(strike: Client) -> None:
    statuses = [strike.ask_receive_request().status_code for _ in range(1001)]

    assert statuses == [201] * 1000 + [429]


@pytest.mark.parametrize(
    ("kind", "status", "made"),
    [("error", 500, 0), ("html403", 403, 0), ("rate_limited", 429, 0), ("error_after", 500, 1), ("repeated", 201, 2)],
)
def test_an_answer_does_not_always_say_how_many_were_made(strike: Client, kind: str, status: int, made: int) -> None:
    strike.simulator.faults.add(Fault(*CREATE, kind))

    assert strike.ask_receive_request().status_code == status
    assert len(strike.simulator.receive_requests.by_id) == made
    assert strike.ask_receive_request().status_code == 201


@pytest.mark.parametrize(
    ("kind", "raised", "made"),
    [
        ("unreachable", ConnectionError, 0),
        ("lost_request", ReadTimeout, 0),
        ("lost_answer", ConnectionError, 1),
        ("timeout_after", ReadTimeout, 1),
    ],
)
def test_a_request_without_an_answer_may_have_been_made(
    strike: Client, kind: str, raised: type[Exception], made: int
) -> None:
    strike.simulator.faults.add(Fault(*CREATE, kind))

    with pytest.raises(raised):
        strike.call(*CREATE, json={"bolt11": {}}, timeout=0.3)

    assert len(strike.simulator.receive_requests.by_id) == made


@pytest.mark.parametrize("path", ["/receives", "/{id}/receives", "/{id}", ""])
def test_reads_fail_too(strike: Client, path: str) -> None:
    target = "/v1/receive-requests" + path.format(id=strike.receive_request()["receiveRequestId"])
    strike.simulator.faults.add(Fault("GET", target, "error", status=503, code="SERVICE_UNAVAILABLE"))
    strike.simulator.faults.add(Fault("GET", target, "truncated"))

    assert error_of(strike.get(target)) == (503, "SERVICE_UNAVAILABLE")
    assert not strike.get(target).text.endswith("}")
    assert strike.get(target).status_code == 200


def test_a_repeated_execution_pays_once_and_answers_as_the_second(strike: Client) -> None:
    quote_id = strike.payment_quote()
    strike.simulator.faults.add(Fault("PATCH", "/v1/payment-quotes/*/execute", "repeated"))

    assert error_of(strike.execute(quote_id)) == (422, "PAYMENT_PROCESSED")
    assert strike.simulator.ledger.payouts_per_quote() == {quote_id: 1}
