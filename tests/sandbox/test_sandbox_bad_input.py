"""No request, however wrong, shows a traceback or a page to a program: it is answered with an envelope."""

from __future__ import annotations

import json
import re
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lnpay.sandbox.strike.api.routes import ROUTER
from tests.sandbox.strike_client import Client

ID = "0f2b7c1e-93d4-4c58-8a6f-5d1e0b9a7c24"

ROUTES = sorted(
    (method, re.sub(r"\{\w*Id\}", ID, re.sub(r"\{(?!\w*Id\})\w+\}", "x", "/" + "/".join(parts))))
    for (method, _), found in ROUTER._routes.items()
    for parts, _ in found
)

BAD_BODIES = [
    b"{", b"null", b"[]", b'"x"', b"5", b"NaN", b"\xff\xfe", b'{"a": "\xff"}', b"\x00", b"[" * 50_000,
    b'{"a":' * 50_000,
    b"9" * 5_000, b'{"amount": 5}', b'{"amount": {"currency": [], "amount": {}}}', b'{"amount": {"currency": {}}}',
    b'{"amount": {"amount": 1e400, "currency": "BTC"}}', b'{"amount": {"amount": "1", "currency": "\\ud800"}}',
    b'{"amount": {"amount": "\\ud800", "currency": "BTC"}, "correlationId": "\\udfff", "\\ud800": 1}',
    b'{"webhookUrl": [], "webhookVersion": {}, "secret": 5, "enabled": "x", "eventTypes": {"a": 1}}',
    b'{"webhookUrl": "https://[", "webhookVersion": "v9", "secret": "x", "enabled": 1, "eventTypes": [[]]}',
    b'{"lnAddressOrUrl": [], "lnInvoice": {}, "sourceCurrency": [], "amount": [], "descriptionHash": 5}',
    b'{"lnAddressOrUrl": "\\u0000@\\u0000", "sourceCurrency": "\\ud800", "amount": {"currency": "BTC"}}',
    b'{"descriptionHash": "' + b"z" * 64 + b'"}', b"x" * 1_000_001, b'{"description": "' + b"x" * 900_000 + b'"}',
]  # fmt: skip

json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = (
    "amount", "correlationId", "description", "descriptionHash", "lnAddressOrUrl", "lnInvoice", "sourceCurrency",
    "webhookUrl", "webhookVersion", "secret", "enabled", "eventTypes",
)  # fmt: skip


def assert_envelope(answer: requests.Response) -> None:
    """Check that an answer is a refusal in Strike's shape."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:500])
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json()["data"]["status"] == answer.status_code
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(("method", "path"), [one for one in ROUTES if one[0] in ("POST", "PATCH")])
def test_no_body_breaks_a_route_of_the_provider(strike: Client, method: str, path: str) -> None:
    for body in BAD_BODIES:
        answer = strike.call(method, path, data=body, headers={"Content-Type": "application/json"})

        assert answer.headers["Content-Type"].startswith("application/json"), body[:60]
        assert answer.status_code < 500, (body[:60], answer.text)
        assert "Traceback" not in answer.text


@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: ascii(body)[:40])
def test_an_invoice_is_refused_with_an_envelope(strike: Client, body: bytes) -> None:
    assert_envelope(strike.call("POST", "/v1/invoices", data=body, headers={"Content-Type": "application/json"}))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(route=st.sampled_from(ROUTES), body=st.dictionaries(st.sampled_from(FIELDS), json_values))
def test_no_value_of_a_field_breaks_a_route(strike: Client, route: tuple[str, str], body: dict[str, Any]) -> None:
    method, path = route
    answer = strike.call(method, path, data=json.dumps(body), headers={"Content-Type": "application/json"})

    assert answer.status_code < 500, answer.text
    assert answer.status_code == 204 or answer.headers["Content-Type"].startswith("application/json")


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_every_description_that_is_taken_can_be_quoted(strike: Client, text: str) -> None:
    answer = strike.ask(description=text)

    if answer.status_code == 201:
        strike.quote(answer.json()["invoiceId"])
    else:
        assert_envelope(answer)


@pytest.mark.parametrize(
    "query", ["$filter=%FF", "$filter=((((", "$top=x", "$skip=-1", "$orderby=%00", "%FF=%FF", "&&=="]
)
@pytest.mark.parametrize("path", ["/v1/invoices", "/v1/events"])
def test_a_bad_query_is_answered_with_an_envelope_or_a_list(strike: Client, path: str, query: str) -> None:
    answer = strike.call("GET", f"{path}?{query}")

    assert answer.status_code in (200, 400)
    assert answer.headers["Content-Type"].startswith("application/json")


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/", "/v1/nothing", "/v1/invoices/x", "/v1/%FF/%00", "/v2/invoices", "/nothing"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_an_unknown_path_is_answered_with_an_envelope(strike: Client, method: str, path: str) -> None:
    assert_envelope(strike.call(method, path))


@pytest.mark.parametrize(
    "path", ["/v1/invoices", "/v1/rates/ticker", f"/v1/invoices/{ID}", "/shop", "/wallet", "/ledger"]
)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_wrong_method_is_answered_with_an_envelope(strike: Client, method: str, path: str) -> None:
    answer = strike.call(method, path)

    assert_envelope(answer)
    assert answer.status_code == 405


def test_a_browser_is_shown_a_page(strike: Client) -> None:
    for method, path, status in (("GET", "/nothing", 404), ("DELETE", "/wallet", 405), ("POST", "/faults", 400)):
        answer = strike.call(method, path, headers={"Accept": "text/html,*/*"})

        assert (answer.status_code, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8")


@pytest.mark.parametrize("body", BAD_BODIES[:12], ids=lambda body: ascii(body)[:40])
def test_the_shop_and_the_controls_take_any_body(strike: Client, body: bytes) -> None:
    told = strike.call("POST", "/shop/webhook", data=body)
    control = strike.call("POST", "/_control/clock/advance", data=body)

    assert told.status_code == 200
    assert control.status_code == 400
    assert control.json()["error"]
    assert strike.call("PUT", "/_control/clock").status_code == 405


def test_an_error_of_the_simulator_itself_is_an_envelope_too(strike: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strike.simulator.invoices, "create", lambda *_: 1 / 0)

    answer = strike.ask()

    assert (answer.status_code, answer.json()["data"]["code"]) == (500, "INTERNAL_SERVER_ERROR")


class TestOverARealSocket:
    def say(self, client: Client, raw: bytes) -> tuple[int, dict[str, Any]]:
        """Send bytes as they are. Gives status and JSON of the answer."""
        address = urlsplit(client.url)
        with socket.create_connection((str(address.hostname), int(address.port or 0)), 10) as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), json.loads(body)

    @pytest.mark.parametrize(
        ("raw", "status"),
        [
            (b"NONSENSE\r\n\r\n", 400),
            (b"GET /v1/invoices HTTP/9.9\r\n\r\n", 505),
            (b"POST /v1/invoices HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", 400),
            (b"POST /v1/invoices HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
            (b"POST /v1/invoices HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", 400),
            (b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nConnection: close\r\n\r\n", 404),
        ],
    )
    def test_what_is_hardly_http_is_answered_with_an_envelope(
        self, strike_over_http: Client, raw: bytes, status: int
    ) -> None:
        assert self.say(strike_over_http, raw)[0] == status

    def test_a_huge_body_is_refused(self, strike_over_http: Client) -> None:
        answer = strike_over_http.call("POST", "/v1/invoices", data=b"x" * 1_000_001)

        assert answer.status_code == 413
        assert answer.json()["data"]["code"] == "PAYLOAD_TOO_LARGE"

    def test_a_body_in_chunks_is_read(self, strike_over_http: Client) -> None:
        body = json.dumps({"amount": {"amount": "0.0001", "currency": "BTC"}}).encode()
        answer = strike_over_http.call(
            "POST", "/v1/invoices", data=iter([body[:9], body[9:]]), headers={"Content-Type": "application/json"}
        )

        assert answer.status_code == 201
