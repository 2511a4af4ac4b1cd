"""What a shop may add to an order: where its customers go, and what it wants to read again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnpay.deliveries.send import send_due
from lnpay.web.api.links import customer_link
from tests.world import World

LONG = "https://shop.example/" + "a" * 2_000

GOOD_LINKS = [
    "https://shop.example",
    "https://shop.example/thanks?order=17&x=a%20b#top",
    "https://shop.example:8443/a/b",
    "https://shop.example:65535/",
    "https://192.0.2.7/x",
    "https://[2001:db8::1]:8443/x",
    "https://xn--mller-kva.example/",
    "http://localhost:8000/thanks",
    "http://127.0.0.1:8000/thanks",
    "http://[::1]:8000/thanks",
    "HTTPS://Shop.Example/",
]

BAD_LINKS = {
    "javascript:alert(1)": "https",
    "data:text/html,hello": "https",
    "https:shop.example": "https",
    "https:///shop.example": "https",
    "//shop.example/x": "https",
    "/thanks": "https",
    "ftp://shop.example/": "https",
    "JaVaScRiPt://shop.example/%0aalert(1)": "https",
    "http://shop.example/": "localhost",
    "http://localhost.evil.example/": "localhost",
    "http://127.0.0.1.evil.example/": "localhost",
    "https://user:secret@shop.example/": "password",
    "https://shop.example@evil.example/": "password",
    "https://@evil.example/": "password",
    "https://shop.example\\@evil.example/": "characters",
    "https://shop.example/a b": "characters",
    "https://shop.example/\tx": "characters",
    " https://shop.example/": "characters",
    "https://shop.example/\nx": "characters",
    "https://müller.example/": 'in ASCII: write "xn--mller-kva.example"',
    "https://müller.example:8443/ü?ä": 'in ASCII: write "xn--mller-kva.example"',
    "https://☃.example/": "host",
    "https://shop.example/ü": "characters",
    'https://shop.example/"onclick=': "characters",
    "https://shop.example:99999/": "port",
    "https://shop.example:65536/": "port",
    "https://shop.example:port/": "port",
    "https://shop..example/": "host",
    "https://[::1/": "URL",
    "https://sho%70.example/": "host",
    "https://$/": "host",
}


def data_of(world: World, **fields: Any) -> dict[str, Any]:
    """What GET /invoices/<id> says of an order with `fields`."""
    invoice = world.sell(**fields)
    told: dict[str, Any] = world.client.get(f"/invoices/{invoice.strike_invoice_id}").get_json()
    return told


class TestLinks:
    @pytest.mark.parametrize("link", GOOD_LINKS)
    def test_a_link_that_a_browser_may_follow_is_kept_as_it_is(self, link: str) -> None:
        assert customer_link(link) == link

    @pytest.mark.parametrize(("link", "word"), BAD_LINKS.items(), ids=[link[:40] for link in BAD_LINKS])
    def test_any_other_is_refused_with_the_reason(self, link: str, word: str) -> None:
        with pytest.raises(ValueError, match=word):
            customer_link(link)

    @given(st.text(max_size=40), st.sampled_from(["", "https://", "http://", "https://shop.example"]))
    def test_no_text_passes_as_another_kind_of_link(self, text: str, start: str) -> None:
        try:
            link = customer_link(start + text)
        except ValueError:
            return
        assert link.lower().startswith(("https://", "http://localhost", "http://127.0.0.1", "http://[::1]"))

    def test_both_are_remembered_with_the_order(self, world: World) -> None:
        invoice = world.sell(return_url="https://shop.example/thanks", retry_url="http://localhost:8000/again")

        assert invoice.order.return_url == "https://shop.example/thanks"
        assert invoice.order.retry_url == "http://localhost:8000/again"

    @pytest.mark.parametrize("nothing", [{}, {"return_url": None}, {"return_url": ""}])
    def test_an_order_needs_none(self, world: World, nothing: dict[str, Any]) -> None:
        assert world.sell(**nothing).order.return_url is None

    @pytest.mark.parametrize("field", ["return_url", "retry_url"])
    @pytest.mark.parametrize("value", ["javascript:alert(1)", 7, ["https://shop.example"], LONG])
    def test_a_bad_one_is_a_400_that_names_the_field(self, world: World, field: str, value: object) -> None:
        answer = world.ask(**{field: value})

        assert answer.status_code == 400
        assert list(answer.get_json()["errors"]) == [field]
        assert world.calls() == []


class TestMetadata:
    def test_it_comes_with_the_delivery_and_with_the_state(self, world: World) -> None:
        told = data_of(world, correlation_id="order-1", metadata={"cart": "17", "gift": "oui, s'il vous plaît"})
        world.subscribe()
        world.pay(world.invoice(told["invoice_id"]))
        world.pump()
        send_due(world.backend.outbox)

        assert told["metadata"] == {"cart": "17", "gift": "oui, s'il vous plaît"}
        assert world.told()[0]["data"]["metadata"] == told["metadata"]

    def test_without_any_it_is_empty(self, world: World) -> None:
        assert data_of(world)["metadata"] == {}
        assert data_of(world, metadata=None)["metadata"] == {}

    def test_numbers_and_bools_become_the_text_they_were_sent_as(self, world: World) -> None:
        metadata = {"count": 3, "price": 9.50, "is_gift": True, "is_new": False, "empty": "", "note": "a\nb"}

        assert data_of(world, metadata=metadata)["metadata"] == {
            "count": "3",
            "price": "9.5",
            "is_gift": "true",
            "is_new": "false",
            "empty": "",
            "note": "a\nb",
        }

    def test_a_number_keeps_its_digits(self, world: World) -> None:
        body = '{"amount_fiat": 1, "correlation_id": "digits", "metadata": {"price": 0.10, "id": 12345678901234567890}}'
        made = world.client.post("/generate-invoice", data=body, content_type="application/json").get_json()

        metadata = world.invoice(made["data"]["invoice"]["invoiceId"]).order.metadata
        assert metadata == {"price": "0.10", "id": "12345678901234567890"}

    def test_metadata_at_the_limit_is_accepted(self, world: World) -> None:
        metadata = {f"{number:040}": "x" * 150 for number in range(20)}

        assert data_of(world, metadata=metadata)["metadata"] == metadata
        assert len(data_of(world, metadata={"a": "x" * 500})["metadata"]["a"]) == 500

    @pytest.mark.parametrize(
        ("metadata", "word"),
        [
            ("text", "object"),
            (["a"], "object"),
            ({"a": {"b": "c"}}, '"a"'),
            ({"a": ["b"]}, '"a"'),
            ({"a": None}, '"a"'),
            ({"a": "x" * 501}, 'has more than 500 characters as "a"'),
            ({"a": "\x00"}, 'has characters that are not text as "a"'),
            ({"a": "\ud800"}, 'has characters that are not text as "a"'),
            ({"": "x"}, "key"),
            ({"k" * 41: "x"}, "key"),
            ({"a\x00": "x"}, "key"),
            ({str(number): "x" for number in range(21)}, "20 keys"),
            ({str(number): "x" * 400 for number in range(11)}, "4,096 bytes"),
            ({str(number): "€" * 400 for number in range(4)}, "4,096 bytes"),
        ],
    )
    def test_anything_else_is_a_400_that_says_why(self, world: World, metadata: object, word: str) -> None:
        answer = world.ask(metadata=metadata)

        assert answer.status_code == 400
        assert word in answer.get_json()["errors"]["metadata"]
        assert world.calls() == []


class TestTheSameRequest:
    ADDED: dict[str, Any] = {  # noqa: RUF012 - read only
        "correlation_id": "order-1",
        "return_url": "https://shop.example/thanks",
        "retry_url": "https://shop.example/again",
        "metadata": {"a": "1", "b": "2"},
    }

    def test_a_repeat_returns_the_same_invoice(self, world: World) -> None:
        first = world.sell(**self.ADDED)
        world.restart()

        assert world.sell(**{**self.ADDED, "metadata": {"b": 2, "a": 1}}).strike_invoice_id == first.strike_invoice_id

    @pytest.mark.parametrize(
        "change",
        [
            {"return_url": "https://shop.example/other"},
            {"return_url": None},
            {"retry_url": "https://shop.example/other"},
            {"metadata": {"a": "1"}},
            {"metadata": None},
        ],
    )
    def test_with_anything_changed_it_is_a_conflict(self, world: World, change: dict[str, Any]) -> None:
        world.sell(**self.ADDED)

        answer = world.ask(**{**self.ADDED, **change})

        assert (answer.status_code, answer.get_json()["code"]) == (409, "correlation_id_taken")


def test_an_unknown_field_is_named(world: World) -> None:
    answer = world.ask(return_uri="https://shop.example/", meta={})

    assert answer.status_code == 400
    assert set(answer.get_json()["errors"]) == {"return_uri", "meta"}
