"""Metadata comes back as it was sent: types, nesting, and the form of every number."""

from __future__ import annotations

import copy
import json
import pickle
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnpay.domain.encoding.json_text import JsonNumber, check_metadata, read_json_text, write_json_text
from lnpay.domain.errors import InvalidRequest
from lnpay.domain.events import EventType, event_body
from lnpay.domain.model import Order
from lnpay.invoices.create import create_invoice
from tests.world import World

NUMBERS = ["1.10", "1e5", "1E+5", "-0", "-0.0", "0.1", "12345678901234567890123456789012345678901234567890", "7", "-1"]
TEXT = (
    '{"orderId":1042,"total":1.10,"big":1e400,"is":true,"no":null,"list":[1,"1",{"a":[]}],"é\\u0000":"\\ud83d\\ude00"}'
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(NUMBERS).map(read_json_text),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_keeps_its_form(number: str) -> None:
    assert write_json_text(read_json_text(f'[{number},"{number}"]'), separators=(",", ":")) == f'[{number},"{number}"]'


@given(anything)
def test_any_value_comes_back(value: object) -> None:
    text = write_json_text(value)

    assert read_json_text(text) == value
    assert write_json_text(read_json_text(text)) == text


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "", "{", "1e99999999999999999999"])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_json_text(text)


def test_a_number_survives_copies() -> None:
    number = JsonNumber("1.10")

    assert copy.deepcopy(number).text == pickle.loads(pickle.dumps(number)).text == "1.10"  # noqa: S301


def test_a_value_that_is_not_json_needs_a_default() -> None:
    assert write_json_text([Decimal("1.5"), JsonNumber("2.50")], default=str) == '["1.5", 2.50]'
    assert write_json_text(Decimal("1.5")) == "1.5"
    with pytest.raises(TypeError, match="set is not JSON"):
        write_json_text({1})


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ({"posData": "x" * 16_384}, "16,384 bytes"),
        (read_json_text("[" * 33 + "]" * 33), "32 levels"),
        ({"half": "\ud800"}, "not text"),
        (read_json_text('{"a": [{"b": ' + "1" * 1_001 + "}]}"), "number of more than 1,000 characters"),
        (read_json_text('{"a": 0.' + "1" * 5_000 + "}"), "number of more than 1,000 characters"),
    ],
)
def test_too_much_is_refused(metadata: object, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        check_metadata(metadata)


@pytest.mark.parametrize(
    "metadata", [None, [], "text", 1, read_json_text("[" * 32 + "]" * 32), "x" * 16_382, read_json_text("1" * 1_000)]
)
def test_all_within_the_limits_is_kept(metadata: object) -> None:
    assert check_metadata(metadata) == metadata


class TestMetadataOfAnInvoice:
    @pytest.mark.parametrize("text", [TEXT, "null", "[]", '"text"', "1.10"])
    def test_it_is_stored_and_said_unchanged(self, world: World, text: str) -> None:
        metadata = read_json_text(text)
        order = Order(Decimal("10.00"), "usd", None, None, metadata=metadata)
        invoice = create_invoice(world.backend.issuer, "order-1", order)
        with world.backend.repository.reading() as tx:
            known = tx.invoices.find(invoice.id)

        assert known == invoice
        assert write_json_text(known.order.metadata) == write_json_text(metadata)
        assert create_invoice(world.backend.issuer, "order-1", order) == invoice
        body = event_body(EventType.INVOICE_SETTLED, known, world.backend.clock())
        assert write_json_text(metadata, ensure_ascii=False, separators=(",", ":")) in body
        answer = world.client.get(f"/invoices/{invoice.strike_invoice_id}").get_data(as_text=True)
        assert json.loads(answer, parse_float=str)["metadata"] == json.loads(text, parse_float=str)
