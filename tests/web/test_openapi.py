"""The API document and its page: they describe all that the code does, and nothing else."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate

from lnpay.deliveries.send import send_due
from lnpay.domain.errors import kinds_of
from lnpay.domain.events import EventType, event_body
from lnpay.domain.money import parse_fiat
from lnpay.domain.webhook_signature import delivery_headers
from lnpay.web.api.error_codes import ERRORS
from lnpay.web.api.schemas import AMOUNT_LIMIT, amount_schema
from lnpay.web.greenfield.errors import API_PREFIX
from lnpay.web.operations.openapi import openapi_document
from tests.sources import FILES, is_under
from tests.world import ALL_EVENTS, World

KEY = "a-shop-key-for-the-tests"
ROOT = Path(__file__).resolve().parents[2]

FOR_PEOPLE = {"static", "script", "checkout", "refund", "connect", "greenfield_pages"}
"""Blueprints of pages and what belongs to them: reached by links that we hand out."""

DOCUMENT = openapi_document("usd", needs_key=True)


def strictly(schema: Any) -> Any:
    """The same schema, refusing fields that it does not name."""
    if isinstance(schema, list):
        return [strictly(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strictly(one) for name, one in schema.items()}
    # Strike's objects are passed on whole; an error's schema is one of two that must both fit.
    if "properties" in made and "required" in made and "Strike's" not in made.get("description", ""):
        made.setdefault("additionalProperties", False)
    return made


def check(value: object, schema: dict[str, Any]) -> None:
    """Check that `value` is what the document says, with no field beside."""
    components = strictly(DOCUMENT["components"])
    whole = {**strictly(schema), "components": components}
    jsonschema_rs.Draft202012Validator(whole, validate_formats=True).validate(value)


def check_answer(world: World, method: str, path: str, route: str | None = None, **request: Any) -> tuple[int, Any]:
    """Make a request and check that its answer is documented. Returns status and body."""
    answer = world.client.open(path, method=method.upper(), **request)
    documented = DOCUMENT["paths"][route or path][method]["responses"].get(str(answer.status_code))
    assert documented, f"{answer.status_code} of {method} {path} is not documented: {answer.text}"
    (content_type,) = documented["content"]
    assert answer.mimetype == content_type
    for header in documented.get("headers", {}):
        assert header in answer.headers
    if content_type == "application/json":
        check(answer.get_json(), documented["content"][content_type]["schema"])
        return answer.status_code, answer.get_json()
    return answer.status_code, None


@pytest.fixture
def shop(make_world: Callable[..., World]) -> World:
    """A world whose shop has a key and subscribes to every event."""
    return make_world(api_keys=(KEY,), delivery_events=ALL_EVENTS)


def order(**fields: Any) -> dict[str, Any]:
    """A request for an invoice, with the shop's key."""
    return {"json": {"amount_fiat": "12.34", **fields}, "headers": {"Authorization": f"Bearer {KEY}"}}


def error_words(name: str) -> Iterator[str]:
    """Each `code` that a module writes out: of an error that it raises, or of an error response."""
    for node in ast.walk(ast.parse(FILES[name].read_text("utf-8"))):
        if isinstance(node, ast.Call):
            words = [one.value for one in node.keywords if one.arg == "code"]
            if isinstance(node.func, ast.Name) and node.func.id == "error_response":
                words += node.args[1:2]
            yield from (word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str))


class TestDocument:
    @pytest.mark.parametrize("needs_key", [True, False])
    @pytest.mark.parametrize("currency", ["usd", "jpy", "kwd"])
    def test_it_is_openapi(self, currency: str, needs_key: bool) -> None:
        validate(openapi_document(currency, needs_key=needs_key))

    def test_every_route_is_in_it_and_no_other(self, world: World) -> None:
        app = world.client.application
        routes = {
            (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
            for rule in app.url_map.iter_rules()
            if rule.endpoint.split(".")[0] not in FOR_PEOPLE
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        }

        assert routes == {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}

    def test_every_kind_of_error_is_in_it_with_its_status(self) -> None:
        # Every conflict of an order has a word of its own; too many tries are made on pages for people.
        kinds = [kind for kind in kinds_of() if kind.http_status and kind.code not in ("conflict", "too_many_tries")]

        assert {(kind.code, kind.http_status) for kind in kinds if kind.__module__ == "lnpay.domain.errors"} <= {
            (code, known.status) for code, known in ERRORS.items()
        }

    def test_every_error_code_of_the_source_is_in_it(self) -> None:
        packages = {"lnpay.invoices", "lnpay.web.api", "lnpay.web.operations.health", "lnpay.deliveries"}
        said = {word for name in FILES if is_under(name, packages) for word in error_words(name)}

        assert said
        assert said - {"invoice_ended"} <= ERRORS.keys()  # this one is raised for Greenfield clients alone

    def test_every_error_code_is_used_by_a_route(self) -> None:
        native = {path: one for path, one in DOCUMENT["paths"].items() if not path.startswith(API_PREFIX)}

        assert set(re.findall(r'"code": "(\w+)"', json.dumps(native))) == ERRORS.keys()

    def test_a_key_is_required_only_if_keys_are_set(self) -> None:
        without = openapi_document("usd", needs_key=False)["paths"]["/generate-invoice"]["post"]

        assert DOCUMENT["paths"]["/generate-invoice"]["post"]["security"] == [{"apiKey": []}]
        assert "security" not in without
        assert "401" not in without["responses"]

    def test_a_metrics_token_is_required_only_if_one_is_set(self) -> None:
        with_one = openapi_document("usd", needs_key=False, needs_token=True)["paths"]["/metrics"]["get"]

        assert with_one["security"] == [{"metricsToken": []}]
        assert "401" in with_one["responses"]
        assert "security" not in DOCUMENT["paths"]["/metrics"]["get"]
        assert "401" not in DOCUMENT["paths"]["/metrics"]["get"]["responses"]

    def test_every_example_matches_its_schema(self) -> None:
        for name, schema in DOCUMENT["components"]["schemas"].items():
            for field, one in schema.get("properties", {}).items():
                for example in one.get("examples", []):
                    check(example, one)
                assert one.get("examples") or one.keys() & {"const", "$ref", "anyOf", "properties"}, f"{name}.{field}"

    def test_it_is_served_and_can_be_cached(self, shop: World) -> None:
        first = shop.client.get("/openapi.json")
        again = shop.client.get("/openapi.json", headers={"If-None-Match": first.headers["ETag"]})

        assert (first.get_json(), first.mimetype) == (DOCUMENT, "application/json")
        assert (again.status_code, again.data) == (304, b"")

    def test_it_names_the_public_address(self, make_world: Callable[..., World]) -> None:
        world = make_world(webhook_url="https://pay.shop.example/webhook")

        assert world.client.get("/openapi.json").get_json()["servers"] == [{"url": "https://pay.shop.example"}]


class TestAmounts:
    @pytest.mark.parametrize("currency", ["usd", "jpy", "kwd"])
    def test_every_amount_its_pattern_matches_is_accepted(self, currency: str) -> None:
        pattern = amount_schema(currency)["anyOf"][0]["pattern"].replace("$", r"\Z")

        @settings(max_examples=100, deadline=None)
        @given(st.from_regex(pattern, alphabet="0123456789.,"))
        def takes(text: str) -> None:
            assert 0 < parse_fiat(text, currency) < AMOUNT_LIMIT

        takes()

    def test_an_amount_beyond_the_limit_names_its_field(self, shop: World) -> None:
        status, body = check_answer(shop, "post", "/generate-invoice", **order(amount_fiat=str(AMOUNT_LIMIT)))

        assert (status, body["errors"]) == (400, {"amount_fiat": "must be less than 100,000,000,000"})

    def test_an_amount_below_one_sat_names_its_field_too(self, make_world: Callable[..., World]) -> None:
        world = make_world(currency="idr", api_keys=(KEY,))
        world.simulator.rates.bitcoin_usd = Decimal(1_000_000)

        status, body = check_answer(world, "post", "/generate-invoice", **order(amount_fiat="0.01"))

        assert (status, body["errors"]) == (400, {"amount_fiat": "is worth less than one sat"})


class TestAnswers:
    def test_an_invoice_from_its_creation_to_the_refund(self, shop: World) -> None:
        shop.subscribe()
        key = {"headers": order()["headers"]}
        for late_seconds, state in ((0, "settled"), (200, "paid_late")):
            _, made = check_answer(shop, "post", "/generate-invoice", **order(ln_address="nonsense"))
            invoice = shop.invoice(made["data"]["invoice"]["invoiceId"])
            path = f"/invoices/{invoice.strike_invoice_id}"
            assert check_answer(shop, "get", path, "/invoices/{invoice_id}", **key)[1]["state"] == "unpaid"
            shop.pay(invoice, late_seconds=late_seconds)
            shop.pump()
            assert check_answer(shop, "get", path, "/invoices/{invoice_id}", **key)[1]["state"] == state
            for kind in ("png", "svg"):
                check_answer(shop, "get", f"{path}/qr.{kind}", f"/invoices/{{invoice_id}}/qr.{kind}")

        send_due(shop.backend.outbox)
        assert {told["type"] for told in shop.told()} >= {"invoice.settled", "invoice.paid_late"}
        for told in shop.told():
            check(told, {"$ref": "#/components/schemas/Delivery"})

    @pytest.mark.parametrize("event_type", EventType)
    def test_every_message_and_its_example(self, shop: World, event_type: EventType) -> None:
        shop.client.post("/generate-invoice", **order(correlation_id="order-1", metadata={"a": 1}))
        with shop.backend.repository.reading() as tx:
            invoice: Any = tx.invoices.find_by_correlation_id("order-1")
        told = json.loads(event_body(event_type, invoice, shop.backend.clock()))
        message = DOCUMENT["webhooks"][event_type]["post"]
        content = message["requestBody"]["content"]["application/json"]

        check(told, content["schema"])
        check(content["example"], content["schema"])
        assert [told[name] for name in ("status", "message", "type")] == [
            content["example"][name] for name in ("status", "message", "type")
        ]
        secret = "whsec_" + "A" * 32
        headers = delivery_headers(secret, "msg_1", shop.backend.clock(), b"{}")
        assert headers.keys() == {one["name"] for one in message["parameters"]}

    @pytest.mark.parametrize(
        ("status", "request_"),
        [
            (400, order(amount_fiat=None)),
            (400, {**order(), "json": [1]}),
            (401, {"json": {"amount_fiat": 1}}),
            (413, {**order(), "json": {"amount_fiat": "1" * 70_000}}),
            (415, {"data": "amount_fiat=1", "headers": order()["headers"]}),
        ],
    )
    def test_a_request_that_is_refused(self, shop: World, status: int, request_: dict[str, Any]) -> None:
        assert check_answer(shop, "post", "/generate-invoice", **request_)[0] == status

    def test_finding_invoices(self, shop: World) -> None:
        check_answer(shop, "post", "/generate-invoice", **order(correlation_id="order-1", order_id="1042"))
        key = {"headers": order()["headers"]}

        for query, status in (("correlation_id=order-1", 200), ("order_id=1042", 200), ("correlation_id=x", 404)):
            assert check_answer(shop, "get", f"/invoices?{query}", "/invoices", **key)[0] == status
        assert check_answer(shop, "get", "/invoices?order_id=1042", "/invoices")[0] == 401

    def test_conflicting_orders(self, shop: World) -> None:
        check_answer(shop, "post", "/generate-invoice", **order(correlation_id="order-1"))

        taken = check_answer(shop, "post", "/generate-invoice", **order(correlation_id="order-1", amount_fiat=1))
        shop.wait(121)
        closed = check_answer(shop, "post", "/generate-invoice", **order(correlation_id="order-1"))

        assert [(status, body["code"]) for status, body in (taken, closed)] == [
            (409, "amount_differs"),
            (409, "expired"),
        ]

    @pytest.mark.parametrize(
        ("fault", "status", "code"),
        [
            ({"kind": "error", "status": 400}, 502, "provider_rejected"),
            ({"kind": "error", "status": 503}, 503, "provider_unavailable"),
            ({"kind": "timeout_after"}, 503, "provider_unavailable"),
        ],
    )
    def test_trouble_at_the_provider(self, shop: World, fault: dict[str, Any], status: int, code: str) -> None:
        shop.fault("POST", "/v1/invoices", times=None, **fault)

        found, body = check_answer(shop, "post", "/generate-invoice", **order())

        assert (found, body["code"]) == (status, code)

    def test_no_price(self, shop: World) -> None:
        shop.fault("GET", "*", "error", status=500, times=None)

        assert check_answer(shop, "post", "/generate-invoice", **order())[1]["code"] == "rate_unavailable"

    def test_the_rest(self, shop: World, make_world: Callable[..., World]) -> None:
        assert check_answer(shop, "get", "/healthz")[0] == check_answer(shop, "get", "/readyz")[0] == 200
        assert check_answer(shop, "get", "/metrics")[0] == 200
        assert check_answer(shop, "get", "/docs")[0] == check_answer(shop, "get", "/openapi.json")[0] == 200
        key = {"headers": order()["headers"]}
        assert check_answer(shop, "get", "/invoices/none", "/invoices/{invoice_id}", **key)[0] == 404
        assert check_answer(shop, "get", "/invoices/none", "/invoices/{invoice_id}")[0] == 401
        assert check_answer(shop, "post", "/webhook", data=b"{}")[0] == 401
        assert check_answer(make_world(webhook_secret=""), "post", "/webhook", data=b"{}")[0] == 503


class _Page(HTMLParser):
    """Ids, links and text of a page; and whether its elements are closed."""

    EMPTY = ("meta", "link", "br", "img", "input")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [value for _, one, value in self.attributes if one == name]


class TestPage:
    @pytest.fixture
    def page(self, shop: World) -> _Page:
        answer = shop.client.get("/docs")
        assert answer.status_code == 200
        return _Page(answer.text)

    def test_it_shows_everything_in_the_document(self, page: _Page) -> None:
        said = [*DOCUMENT["paths"], *DOCUMENT["webhooks"], *ERRORS]
        for schema in DOCUMENT["components"]["schemas"].values():
            said += schema.get("properties", {})

        assert [word for word in said if word not in page.text] == []

    def test_it_is_well_formed_and_its_links_lead_somewhere(self, page: _Page) -> None:
        ids = page.values("id")

        assert page.open == []
        assert len(ids) == len(set(ids))
        assert {link[1:] for link in page.values("href") if link.startswith("#")} <= set(ids)

    def test_it_loads_nothing_foreign_and_runs_only_its_own_script(self, shop: World, page: _Page) -> None:
        headers = shop.client.get("/docs").headers

        assert {name for tag, name, _ in page.attributes if tag == "script"} == {"src", "defer"}
        (script,) = page.values("src")
        assert script.startswith("static/docs.js?")
        assert page.values("style") == page.values("onclick") == []
        assert not [link for link in page.values("href") if ":" in link or link.startswith("//")]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "script-src 'self'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]

    def test_its_style_is_served(self, shop: World, page: _Page) -> None:
        (style,) = [link for link in page.values("href") if ".css" in link]

        answer = shop.client.get(urljoin("/docs", style))

        assert (answer.status_code, answer.mimetype) == (200, "text/css")
        assert "url(" not in answer.text
        assert "@import" not in answer.text
