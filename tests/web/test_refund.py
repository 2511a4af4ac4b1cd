"""GET and POST /refund/<token>: the refund's status, and the customer's address."""

from __future__ import annotations

import html
from collections.abc import Callable

import pytest

from lnpay.domain.model import Invoice
from lnpay.domain.states import RefundState
from lnpay.refunds.by_hand import change_address
from lnpay.refunds.send import CLAIM
from lnpay.repository import Repository
from tests.owing import ADDRESS, executions, owe, payouts, refund_of, send
from tests.world import World


def url(world: World, invoice: Invoice) -> str:
    return f"/refund/{refund_of(world, invoice).token}"


def give(world: World, invoice: Invoice, address: str) -> int:
    return world.client.post(url(world, invoice), data={"ln_address": address}).status_code


@pytest.mark.parametrize(
    ("address", "stage", "is_form"),
    [
        ("alice@example.com", "refunded", False),
        ("pending@example.com", "refunding", False),
        ("fail@example.com", "refunding", False),
        ("unknown@example.com", "needs_address", True),
        (None, "needs_address", True),
    ],
)
def test_the_page_says_where_the_money_is(world: World, address: str | None, stage: str, is_form: bool) -> None:
    invoice = owe(world, address)
    send(world)

    page = world.client.get(url(world, invoice))

    assert page.status_code == 200
    assert f'data-stage="{stage}"' in page.text
    assert ('name="ln_address"' in page.text) is is_form


def test_a_new_refund_is_on_its_way(world: World) -> None:
    page = world.client.get(url(world, owe(world)))

    assert 'data-stage="refunding"' in page.text


def test_a_held_refund_says_that_the_shop_is_reviewing_it(make_world: Callable[..., World]) -> None:
    world = make_world(refunds_enabled=False)
    invoice = owe(world)
    send(world)

    page = world.client.get(url(world, invoice))

    assert 'data-stage="refund_held"' in page.text
    assert "REFUNDS_ENABLED" not in page.text


def test_an_address_is_accepted_and_the_refund_is_sent_there(world: World) -> None:
    invoice = owe(world, None)

    answer = world.client.post(url(world, invoice), data={"ln_address": " Alice@Example.com "})

    assert answer.status_code == 303
    assert world.client.get(url(world, invoice).rpartition("/")[0] + "/" + answer.location).status_code == 200
    assert send(world) == {RefundState.SENT: 1}
    assert [entry.destination for entry in payouts(world)] == [ADDRESS]


@pytest.mark.parametrize("address", ["", "alice", "alice@", "not an address", "a" * 5000])
def test_an_invalid_address_is_reported_next_to_the_field(world: World, address: str) -> None:
    invoice = owe(world, None)

    answer = world.client.post(url(world, invoice), data={"ln_address": address})

    assert answer.status_code == 400
    assert 'role="alert"' in answer.text
    assert 'name="ln_address"' in answer.text
    assert refund_of(world, invoice).state is RefundState.NEEDS_ADDRESS


def test_a_form_without_the_field_is_a_form_error(world: World) -> None:
    invoice = owe(world, None)

    assert world.client.post(url(world, invoice)).status_code == 400


@pytest.mark.parametrize("is_sent", [False, True])
def test_a_second_submission_starts_nothing(world: World, is_sent: bool) -> None:
    invoice = owe(world, None)
    assert give(world, invoice, ADDRESS) == 303
    if is_sent:
        send(world)
    before = refund_of(world, invoice)

    assert give(world, invoice, "mallory@example.com") == 409

    assert refund_of(world, invoice) == before
    send(world)
    world.wait(CLAIM.total_seconds())
    send(world)
    assert [entry.destination for entry in payouts(world)] == [ADDRESS]
    assert executions(world) == ["COMPLETED"]


class TestFloods:
    def flood(self, world: World, invoice: Invoice, times: int) -> list[int]:
        """Give one address after another that Strike refuses, once a second."""
        answers = []
        for number in range(times):
            answers.append(give(world, invoice, f"unknown{number}@example.com"))
            send(world)
            world.wait(1)
        return answers

    def quote_calls(self, world: World) -> int:
        return sum(call == "POST /v1/payment-quotes/lightning/lnurl" for call in world.adapter.calls)

    def test_one_link_causes_a_limited_number_of_calls_to_strike(self, world: World) -> None:
        invoice = owe(world, None)

        answers = self.flood(world, invoice, 120)

        assert answers == [303] * 5 + [429] * 115
        assert self.quote_calls(world) == 5

    def test_a_link_works_again_later_and_is_limited_for_the_day(self, world: World) -> None:
        invoice = owe(world, None)
        taken = 0
        for _ in range(40):
            taken += self.flood(world, invoice, 7).count(303)
            world.wait(30 * 60)

        assert taken == self.quote_calls(world) == 20

    def test_the_error_page_says_when_to_retry(self, world: World) -> None:
        invoice = owe(world, None)
        self.flood(world, invoice, 5)

        answer = world.client.post(url(world, invoice), data={"ln_address": ADDRESS}, headers={"Accept": "text/html"})

        assert answer.status_code == 429
        assert 0 < int(answer.headers["Retry-After"]) <= 15 * 60
        assert "<html" in answer.text
        assert refund_of(world, invoice).state is RefundState.NEEDS_ADDRESS

    def test_after_the_pause_the_right_address_is_paid(self, world: World) -> None:
        invoice = owe(world, None)
        self.flood(world, invoice, 10)
        world.wait(15 * 60)

        assert give(world, invoice, ADDRESS) == 303
        send(world)
        assert [entry.destination for entry in payouts(world)] == [ADDRESS]

    def test_another_customers_link_is_not_held_up(self, world: World) -> None:
        invoice, other = owe(world, None), owe(world, None)
        self.flood(world, invoice, 60)

        assert give(world, other, ADDRESS) == 303
        assert send(world)[RefundState.SENT] == 1

    def test_the_operator_is_not_limited(self, world: World) -> None:
        invoice = owe(world, None)
        self.flood(world, invoice, 10)

        change_address(world.backend.repository, invoice.strike_invoice_id, ADDRESS, world.backend.clock())
        send(world)

        assert [entry.destination for entry in payouts(world)] == [ADDRESS]

    def test_a_flood_of_wrong_links_does_not_take_the_write_lock(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: Repository) -> None:
            raise AssertionError("a transaction that may write")

        monkeypatch.setattr(Repository, "transaction", refuse)

        assert world.client.post("/refund/no-such-token", data={"ln_address": ADDRESS}).status_code == 404


@pytest.mark.parametrize("token", ["no-such-token", "%00", "%C3%BC", "a" * 3000])
@pytest.mark.parametrize("method", ["get", "post"])
def test_an_unknown_token_is_not_found(world: World, method: str, token: str) -> None:
    answer = getattr(world.client, method)(f"/refund/{token}")

    assert answer.status_code == 404
    assert answer.get_json()["code"] == "not_found"


def test_the_token_of_the_checkout_page_does_not_open_the_refund(world: World) -> None:
    invoice = owe(world, None)

    assert invoice.token != refund_of(world, invoice).token
    assert world.client.get(f"/refund/{invoice.token}").status_code == 404


HOSTILE = "\"><script>alert('x')</script>&{{7*7}}"


def test_markup_in_the_form_is_escaped(world: World) -> None:
    invoice = owe(world, None)

    page = world.client.post(url(world, invoice), data={"ln_address": HOSTILE}).text

    assert "<script>alert" not in page
    assert html.escape(HOSTILE, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page
    assert ">49" not in page


def test_markup_in_the_orders_address_is_escaped(world: World) -> None:
    page = world.client.get(url(world, owe(world, HOSTILE))).text

    assert "<script>alert" not in page


def test_the_page_loads_and_runs_only_our_own_files(world: World) -> None:
    policy = world.client.get(url(world, owe(world, None))).headers["Content-Security-Policy"]

    assert policy.startswith("default-src 'none'; ")
    assert "form-action 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy


def test_the_shops_answer_tells_the_state_and_keeps_the_token(world: World) -> None:
    invoice = owe(world, None)

    answer = world.client.get(f"/invoices/{invoice.strike_invoice_id}")

    assert answer.get_json()["refund"]["state"] == "needs_address"
    assert refund_of(world, invoice).token not in answer.text


class TestFloodsOfOneClient:
    """Invented links, or many real ones, from one address; a trusted proxy distinguishes the others."""

    def post(self, world: World, path: str, client: str, address: str = ADDRESS) -> int:
        answer = world.client.post(path, data={"ln_address": address}, headers={"X-Forwarded-For": client})
        return answer.status_code

    def test_invented_links_cause_a_limited_number_of_lookups(self, world: World) -> None:
        answers = [self.post(world, f"/refund/made-up-{number}", "203.0.113.7") for number in range(60)]

        assert answers == [404] * 20 + [429] * 40

    def test_it_recovers_slowly_so_that_a_customer_with_the_same_address_gets_through(self, world: World) -> None:
        invoice = owe(world, None)
        for number in range(100):
            self.post(world, f"/refund/made-up-{number}", "203.0.113.7")

        refused = self.post(world, url(world, invoice), "203.0.113.7")
        world.wait(2)

        assert refused == 429
        assert self.post(world, url(world, invoice), "203.0.113.7") == 303

    def test_other_clients_are_not_held_up(self, world: World) -> None:
        invoice = owe(world, None)
        for number in range(100):
            self.post(world, f"/refund/made-up-{number}", "203.0.113.7")

        assert self.post(world, url(world, invoice), "203.0.113.8") == 303

    def test_the_addresses_of_one_network_of_ipv6_are_one_client(self, world: World) -> None:
        answers = [self.post(world, f"/refund/made-up-{number}", f"2001:db8::{number:x}") for number in range(40)]

        assert answers.count(429) == 20

    def test_many_real_links_cause_a_limited_number_of_calls_to_strike(self, world: World) -> None:
        invoices = [owe(world, None) for _ in range(7)]
        links = [url(world, invoice) for invoice in invoices]
        answers = []
        for number in range(5):
            for link in links:
                answers.append(self.post(world, link, "203.0.113.7", f"unknown{number}@example.com"))
            send(world)

        assert answers.count(303) == 20
        assert answers.count(429) == 15

    def test_a_clock_that_was_ahead_does_not_extend_the_limit(self, world: World) -> None:
        world.skew_seconds = 7_200
        for number in range(30):
            self.post(world, f"/refund/made-up-{number}", "203.0.113.7")
        world.skew_seconds = 0
        self.post(world, "/refund/made-up", "203.0.113.7")
        world.wait(2)

        assert self.post(world, "/refund/made-up", "203.0.113.7") == 404

    def test_clients_are_forgotten_when_there_are_too_many(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lnpay.web.client_limit.MOST_CLIENTS", 2)
        for client in ("203.0.113.1", "203.0.113.2", "203.0.113.3"):
            for number in range(20):
                self.post(world, f"/refund/made-up-{number}", client)

        statuses = [self.post(world, "/refund/made-up", client) for client in ("203.0.113.3", "203.0.113.1")]

        assert statuses == [429, 404]
