"""The array filters of receive requests, in every form that Strike might understand, over real HTTP."""

from __future__ import annotations

import pytest

from tests.sandbox.strike_client import Client, error_of

UNKNOWN = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
def strike(strike_over_http: Client) -> Client:
    return strike_over_http


def paid(strike: Client, count: int) -> list[str]:
    """Ids of requests that were paid once each."""
    made = [strike.receive_request(1000 + number) for number in range(count)]
    for request in made:
        strike.simulator.pay_invoice(request["bolt11"]["invoice"])
    return [request["receiveRequestId"] for request in made]


def comma(ids: list[str]) -> str:
    return "$receiveRequestId=" + ",".join(ids)


def repeated(ids: list[str]) -> str:
    return "&".join(f"%24receiveRequestId={one}" for one in ids)


def found(strike: Client, query: str) -> set[str]:
    return {row["receiveRequestId"] for row in strike.receives(query)}


def refusal(strike: Client, query: str) -> tuple[int, str]:
    return error_of(strike.call("GET", f"/v1/receive-requests/receives?{query}"))


@pytest.mark.parametrize("form", [comma, repeated])
def test_a_hundred_requests_are_checked_in_one_call(strike: Client, form: object) -> None:
    ids = paid(strike, 102)
    query = (comma if form is comma else repeated)(ids[:100])

    assert found(strike, f"{query}&$top=100") == set(ids[:100])
    assert len(strike.receives(query)) == 50
    assert refusal(strike, (comma if form is comma else repeated)(ids[:101])) == (400, "INVALID_DATA_QUERY")


def test_an_encoded_comma_and_an_unknown_id_do_no_harm(strike: Client) -> None:
    first, second = paid(strike, 2)

    assert found(strike, f"%24receiveRequestId={first.upper()}%2C{UNKNOWN}%2C") == {first}
    assert found(strike, f"$receiveRequestId={first}&$receiveRequestId={second},{UNKNOWN}") == {first, second}
    assert found(strike, f"$receiveRequestId={UNKNOWN}") == set()


def test_filters_narrow_each_other(strike: Client) -> None:
    first, second = paid(strike, 2)
    rows = {row["receiveRequestId"]: row for row in strike.receives()}

    receive = f"$receiveId={rows[first]['receiveId']}"
    assert found(strike, receive) == {first}
    assert found(strike, f"{receive}&$receiveRequestId={second}") == set()
    assert found(strike, f"$paymentHash={rows[second]['lightning']['paymentHash']}") == {second}


def test_an_id_that_is_no_uuid_is_refused(strike: Client) -> None:
    paid(strike, 1)

    assert refusal(strike, "$receiveRequestId=order-1") == (400, "INVALID_DATA")


@pytest.mark.parametrize(("forms", "good", "bad"), [("comma", comma, repeated), ("repeated", repeated, comma)])
class TestOneFormOnly:
    def test_the_other_form_is_refused(self, strike: Client, forms: str, good: object, bad: object) -> None:
        strike.control("/config", array_filters=forms)
        ids = paid(strike, 3)
        understood, other = (comma, repeated) if good is comma else (repeated, comma)

        assert found(strike, understood(ids[:2])) == set(ids[:2])
        assert refusal(strike, other(ids[:2])) == (400, "INVALID_DATA_QUERY")
        assert found(strike, other(ids[:1])) == {ids[0]}

    def test_the_other_form_finds_too_little(self, strike: Client, forms: str, good: object, bad: object) -> None:
        strike.control("/config", array_filters=forms, unknown_array_form="narrow")
        ids = paid(strike, 3)
        other = repeated if bad is repeated else comma

        assert found(strike, other(ids[:2])) == ({ids[0]} if forms == "comma" else set())


def test_a_filter_can_be_ignored(strike: Client) -> None:
    strike.control("/config", array_filters="ignored")
    ids = paid(strike, 3)

    assert found(strike, comma(ids[:1])) == set(ids)


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_filter_can_be_refused(strike: Client, status: int) -> None:
    strike.control("/config", array_filters="refused", array_refusal_status=status)
    ids = paid(strike, 1)

    assert refusal(strike, comma(ids))[0] == status
    answer = strike.get(f"/v1/receive-requests/{ids[0]}/receives")
    assert len(answer.json()["items"]) == 1


def test_a_long_query_can_be_too_long(strike: Client) -> None:
    strike.control("/config", most_query_bytes=200)
    ids = paid(strike, 5)

    answer = strike.call("GET", f"/v1/receive-requests/receives?{comma(ids)}")

    assert (answer.status_code, answer.text[:6]) == (414, "<html>")
    assert found(strike, comma(ids[:2])) == set(ids[:2])


def test_fewer_values_may_be_allowed(strike: Client) -> None:
    strike.control("/config", most_array_values=2)
    ids = paid(strike, 3)

    assert found(strike, comma(ids[:2])) == set(ids[:2])
    assert refusal(strike, comma(ids)) == (400, "INVALID_DATA_QUERY")


def test_a_firewall_that_blocks_every_filter_blocks_these_too(strike: Client) -> None:
    strike.simulator.config.filter_policy = "block_all"
    ids = paid(strike, 1)

    answer = strike.call("GET", f"/v1/receive-requests/receives?{comma(ids)}")

    assert (answer.status_code, answer.headers["Server"].split(",")[-1].strip()) == (403, "cloudflare")
    assert found(strike, "$top=100") == set(ids)
