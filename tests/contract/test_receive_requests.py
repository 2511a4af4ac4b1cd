"""The client's calls about receive requests, against answers over real HTTP in the form that Strike documents."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from lnpay.domain.errors import StrikeAmbiguous
from lnpay.domain.money import CurrencyAmount
from lnpay.strike.client import Strike
from lnpay.strike.receive_requests import MAX_PAGES, ArrayForm
from lnpay.strike.receives import ReceiveStatus
from tests.contract import test_strike

server, fake, budget, strike = test_strike.server, test_strike.fake, test_strike.budget, test_strike.strike
FakeStrike = test_strike.FakeStrike

REQUEST = test_strike.RECEIVE_REQUEST
ID = REQUEST["receiveRequestId"]
RECEIVE: dict[str, Any] = {
    "receiveId": "receive-1",
    "receiveRequestId": ID,
    "type": "LIGHTNING",
    "state": "COMPLETED",
    "amountReceived": {"amount": "0.00051636", "currency": "BTC"},
    "amountCredited": {"amount": "10.99", "currency": "EUR"},
    "conversionRate": {"amount": "21283.6006", "sourceCurrency": "BTC", "targetCurrency": "EUR"},
    "created": "2022-11-05T15:15:01.123+00:00",
    "completed": "2022-11-05T15:15:02.1234567+00:00",
    "lightning": {"invoice": "lnbc516360n1abc", "preimage": "cd" * 32, "paymentHash": "ab" * 32},
}


class TestCreating:
    def test_a_request_names_amount_time_to_pay_and_what_it_is_credited_in(
        self, fake: FakeStrike, strike: Strike
    ) -> None:
        fake.answer(201, {**REQUEST, "targetCurrency": "EUR"})

        made = strike.receive_requests.create(51_636, "Zwei Kaffee ☕", 120, "EUR")

        assert fake.asked[0].target == "/v1/receive-requests"
        assert json.loads(fake.asked[0].body) == {
            "bolt11": {
                "amount": {"amount": "0.00051636", "currency": "BTC"},
                "description": "Zwei Kaffee ☕",
                "expiryInSeconds": 120,
            },
            "targetCurrency": "EUR",
        }
        assert (made.request_id, made.bolt11, made.target_currency) == (ID, "lnbc516360n1abc", "EUR")
        assert made.expires_at == datetime(2022, 11, 5, 15, 16, 35, tzinfo=UTC)
        assert made.expires_at - made.created_at < timedelta(seconds=120)

    @pytest.mark.parametrize("description", [None, ""])
    def test_no_description_is_left_out(self, fake: FakeStrike, strike: Strike, description: str | None) -> None:
        fake.answer(201, REQUEST)

        strike.receive_requests.create(1, description, 120, "BTC")

        assert "description" not in json.loads(fake.asked[0].body)["bolt11"]

    @pytest.mark.parametrize(
        "change",
        [
            {"receiveRequestId": None}, {"receiveRequestId": "\u00e4"}, {"receiveRequestId": "x" * 65},
            {"bolt11": None},
            {"bolt11": {}}, {"bolt11": {**REQUEST["bolt11"], "expires": "soon"}}, {"created": None},
            {"targetCurrency": 1},
        ],
    )  # fmt: skip
    def test_an_answer_that_cannot_be_read_leaves_it_open_what_was_created(
        self, fake: FakeStrike, strike: Strike, change: dict[str, Any]
    ) -> None:
        fake.answer(201, {**REQUEST, **change})

        with pytest.raises(StrikeAmbiguous):
            strike.receive_requests.create(1, None, 120, "BTC")

    def test_a_target_currency_may_be_left_out(self, fake: FakeStrike, strike: Strike) -> None:
        fake.answer(201, {name: value for name, value in REQUEST.items() if name != "targetCurrency"})

        assert strike.receive_requests.create(1, None, 120, "BTC").target_currency is None


class TestReceives:
    def test_a_receive_is_read_with_what_was_credited_at_which_rate(self, fake: FakeStrike, strike: Strike) -> None:
        fake.answer(200, {"items": [RECEIVE], "count": 1})

        (one,) = strike.receive_requests.receives_of(ID).receives

        assert fake.asked[0].target == f"/v1/receive-requests/{ID}/receives"
        assert (one.receive_id, one.request_id, one.kind) == ("receive-1", ID, "LIGHTNING")
        assert (one.status, one.received.sats, one.payment_hash) == (ReceiveStatus.COMPLETED, 51_636, "ab" * 32)
        assert (one.credited, one.conversion_rate) == (CurrencyAmount(Decimal("10.99"), "EUR"), Decimal("21283.6006"))
        assert one.paid_at == datetime(2022, 11, 5, 15, 15, 1, 123_000, tzinfo=UTC)

    def test_a_strike_users_payment_has_no_payment_hash(self, fake: FakeStrike, strike: Strike) -> None:
        p2p = {name: value for name, value in RECEIVE.items() if name != "lightning"}
        fake.answer(200, {"items": [{**p2p, "type": "P2P", "p2p": {"payerAccountId": "x"}}]})

        (one,) = strike.receive_requests.receives_of(ID).receives

        assert (one.kind, one.payment_hash, one.received.sats) == ("P2P", None, 51_636)

    @pytest.mark.parametrize(
        ("received", "sats"),
        [
            ({"amount": "11.20", "currency": "USD"}, None),
            ({"amount": "0.00051635001", "currency": "BTC"}, 51_636),
        ],
    )
    def test_what_the_payer_paid_is_in_bitcoin_or_in_the_payers_currency(
        self, fake: FakeStrike, strike: Strike, received: Any, sats: int | None
    ) -> None:
        fake.answer(200, {"items": [{**RECEIVE, "amountReceived": received}]})

        (one,) = strike.receive_requests.receives_of(ID).receives

        assert (str(one.received.amount), one.received.currency) == (received["amount"], received["currency"])
        assert one.received.sats == sats

    @pytest.mark.parametrize("odd", [None, "1.5", {"amount": 1.5, "currency": "EUR"}, {"amount": "-1"}, {}])
    def test_an_odd_credit_or_rate_does_not_hide_a_payment(self, fake: FakeStrike, strike: Strike, odd: object) -> None:
        fake.answer(200, {"items": [{**RECEIVE, "amountCredited": odd, "conversionRate": odd, "lightning": odd}]})

        (one,) = strike.receive_requests.receives_of(ID).receives

        assert (one.received.sats, one.credited, one.conversion_rate, one.payment_hash) == (51_636, None, None, None)

    @pytest.mark.parametrize(
        "change",
        [
            {"state": "REVERSED"}, {"receiveId": None}, {"receiveId": "\x00"}, {"created": "?", "completed": "?"},
            {"created": "0001-01-01T00:00:00Z"}, {"created": "9999-12-31T23:59:59Z"},
            {"amountReceived": {"amount": "0", "currency": "BTC"}}, {"amountReceived": {"currency": "BTC"}},
            {"amountReceived": {"amount": "0.00", "currency": "USD"}}, {"amountReceived": "1"},
            {"amountReceived": {"amount": "0.000516360001", "currency": "BTC"}},
            {"type": None},
        ],
    )  # fmt: skip
    def test_an_unreadable_row_hides_no_other_and_names_its_request(
        self, fake: FakeStrike, strike: Strike, change: dict[str, Any]
    ) -> None:
        fake.answer(200, {"items": [{**RECEIVE, **change}, {**RECEIVE, "receiveId": "receive-2"}]})

        page = strike.receive_requests.receives_of(ID)

        assert [one.receive_id for one in page.receives] == ["receive-2"]
        assert (page.unreadable, page.unreadable_ids, page.nameless) == (1, frozenset({ID}), 0)

    @pytest.mark.parametrize(
        "row", [7, {**RECEIVE, "receiveRequestId": None}, {**RECEIVE, "receiveRequestId": "other"}]
    )
    def test_rows_that_are_not_of_the_request_are_no_answer(
        self, fake: FakeStrike, strike: Strike, row: object
    ) -> None:
        fake.answer(200, {"items": [RECEIVE, row]})

        with pytest.raises(StrikeAmbiguous, match="not those of the request"):
            strike.receive_requests.receives_of(ID)

    @pytest.mark.parametrize(("form", "values"), [(ArrayForm.COMMA, ["a,b"]), (ArrayForm.REPEATED, ["a", "b"])])
    def test_several_requests_are_asked_about_at_once_in_either_form(
        self, fake: FakeStrike, strike: Strike, form: ArrayForm, values: list[str]
    ) -> None:
        fake.answer(200, {"items": [RECEIVE]})

        page = strike.receive_requests.list_receives(["a", "b"], form, 100)

        url = urlsplit(fake.asked[0].target)
        assert url.path == "/v1/receive-requests/receives"
        assert parse_qs(url.query) == {"$receiveRequestId": values, "$top": ["100"], "$skip": ["100"]}
        assert page.is_last
        assert page.request_ids == {ID}

    @pytest.mark.parametrize(
        ("skip", "envelope"), [(100, {"count": 100}), (100, {}), (90, {"count": 200}), (0, {"count": 200})]
    )
    def test_a_page_without_rows_ends_the_list(
        self, fake: FakeStrike, strike: Strike, skip: int, envelope: dict[str, int]
    ) -> None:
        fake.answer(200, {"items": [], **envelope})

        assert strike.receive_requests.list_all(skip).is_last

    def test_after_full_pages_that_are_not_all_of_it_the_list_is_no_answer(
        self, fake: FakeStrike, strike: Strike
    ) -> None:
        fake.answer(200, {"items": [], "count": 101})

        with pytest.raises(StrikeAmbiguous, match="before all of its rows"):
            strike.receive_requests.list_all(100)


def rows(first: int, count: int) -> list[dict[str, Any]]:
    return [{**RECEIVE, "receiveId": f"receive-{number}"} for number in range(first, first + count)]


class TestPages:
    @pytest.mark.parametrize(
        "envelope", [{"count": 120}, {}, {"count": None}, {"count": True}, {"count": 50, "isCountUnknown": True}]
    )
    def test_all_receives_of_a_request_are_read_page_by_page(
        self, fake: FakeStrike, strike: Strike, envelope: dict[str, Any]
    ) -> None:
        for first, count in ((0, 50), (50, 65), (115, 5)):
            fake.answer(200, {"items": rows(first, count), **envelope})

        page = strike.receive_requests.receives_of(ID)

        assert [one.receive_id for one in page.receives] == [f"receive-{number}" for number in range(120)]
        assert page.unreadable == 0
        path = f"/v1/receive-requests/{ID}/receives"
        assert [one.target.replace("%24", "$") for one in fake.asked] == [
            path, f"{path}?$top=100&$skip=50", f"{path}?$top=100&$skip=115",
        ]  # fmt: skip

    def test_a_page_that_has_all_that_strike_counts_costs_one_call(self, fake: FakeStrike, strike: Strike) -> None:
        fake.answer(200, {"items": rows(0, 50), "count": 50})

        assert len(strike.receive_requests.receives_of(ID).receives) == 50
        assert len(fake.asked) == 1

    def test_a_payment_that_comes_between_two_pages_counts_once(self, fake: FakeStrike, strike: Strike) -> None:
        fake.answer(200, {"items": rows(1, 50)})
        fake.answer(200, {"items": rows(50, 3)})

        page = strike.receive_requests.receives_of(ID)

        assert (len(page.receives), page.unreadable) == (52, 0)

    @pytest.mark.parametrize(("envelope", "missing"), [({"count": 130}, 30), ({}, 1)])
    def test_pages_that_repeat_are_not_taken_for_all_there_is(
        self, fake: FakeStrike, strike: Strike, envelope: dict[str, Any], missing: int
    ) -> None:
        fake.answer(200, {"items": rows(0, 50), **envelope})

        page = strike.receive_requests.receives_of(ID)

        assert len(fake.asked) == 2
        assert (len(page.receives), page.unreadable, page.unreadable_ids) == (50, missing, frozenset({ID}))

    def test_pages_are_bounded(self, fake: FakeStrike, strike: Strike) -> None:
        for first in range(0, 1_500, 100):
            fake.answer(200, {"items": rows(first, 100), "count": 1_500})

        page = strike.receive_requests.receives_of(ID)

        assert len(fake.asked) == MAX_PAGES
        assert (len(page.receives), page.unreadable) == (1_000, 500)

    def test_an_unreadable_row_of_a_later_page_is_counted(self, fake: FakeStrike, strike: Strike) -> None:
        fake.answer(200, {"items": rows(0, 50), "count": 52})
        fake.answer(200, {"items": [*rows(50, 1), {**RECEIVE, "state": "REVERSED"}], "count": 52})

        page = strike.receive_requests.receives_of(ID)

        assert (page.rows, len(page.receives), page.unreadable, page.unreadable_ids) == (52, 51, 1, frozenset({ID}))
