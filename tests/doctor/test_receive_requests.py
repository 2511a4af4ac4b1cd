"""An installation that uses receive requests: what the doctor requires then, and what it no longer does."""

from __future__ import annotations

import pytest

from lnpay.doctor import Verdict
from lnpay.doctor.checks.account import INVOICES, REQUESTS
from lnpay.strike.receive_requests import RECEIVE_COMPLETED
from tests.doctor.installation import Installation
from tests.doctor.test_faults import assert_among, assert_only, without

WARN, FAIL = Verdict.WARN, Verdict.FAIL
INVOICE_SCOPES = [probe.scope for probe in INVOICES]
REQUEST_SCOPES = [probe.scope for probe in REQUESTS]


@pytest.fixture
def by_request(shop: Installation) -> Installation:
    """A healthy installation that creates receive requests."""
    shop.set(RECEIVE_WITH="receive-request")
    return shop


def message_of(shop: Installation, name: str) -> str:
    return next(one.message for one in shop.examine() if one.name == name)


def test_everything_is_ok_and_nothing_is_created(by_request: Installation) -> None:
    assert by_request.troubles() == {}
    assert by_request.simulator.receive_requests.by_id == {}


@pytest.mark.parametrize("scope", REQUEST_SCOPES)
def test_a_scope_that_receive_requests_need_is_named(by_request: Installation, scope: str) -> None:
    by_request.simulator.config.api_keys = without(scope)

    assert_among(by_request.troubles(), "strike_scopes", FAIL, scope)


def test_receive_request_scopes_are_not_required_with_invoices(shop: Installation) -> None:
    shop.simulator.config.api_keys = without(*REQUEST_SCOPES)

    assert shop.troubles() == {}


def test_invoice_scopes_are_not_required_with_receive_requests(by_request: Installation) -> None:
    by_request.simulator.config.api_keys = without(*INVOICE_SCOPES)

    assert by_request.troubles() == {}


def test_an_account_that_cannot_invoice_bitcoin_is_ok(by_request: Installation) -> None:
    by_request.simulator.config.invoiceable_currencies = ["USD"]

    assert by_request.troubles() == {}
    assert "it cannot issue invoices in bitcoin, and need not" in message_of(by_request, "strike_invoicing")


@pytest.mark.parametrize(
    ("there", "advice"), [(["BTC", "USD"], "set SETTLE_IN to one of BTC, USD"), ([], "ask Strike's support")]
)
def test_a_currency_that_the_account_does_not_have_is_named(
    by_request: Installation, there: list[str], advice: str
) -> None:
    by_request.set(SETTLE_IN="EUR")
    by_request.simulator.config.available_currencies = there

    troubles = by_request.troubles()

    assert_among(troubles, "strike_invoicing", FAIL, "SETTLE_IN is EUR, which the account does not have")
    assert troubles["strike_invoicing"].advice == advice


def test_a_currency_that_the_account_has_is_fine(by_request: Installation) -> None:
    by_request.set(SETTLE_IN="EUR")

    assert by_request.troubles() == {}


@pytest.mark.parametrize(("currency", "names"), [("BTC", set()), ("EUR", {"strike_invoicing"})])
def test_without_an_invoice_only_another_currency_cannot_be_checked(
    by_request: Installation, currency: str, names: set[str]
) -> None:
    by_request.set(SETTLE_IN=currency)
    by_request.simulator.invoices.by_id.clear()

    troubles = by_request.troubles()

    assert set(troubles) == names
    if names:
        assert_only(troubles, "strike_invoicing", WARN, "Strike identifies the account only in its invoices")
        assert "EUR" in (troubles["strike_invoicing"].advice or "")


@pytest.mark.parametrize(("currency", "names"), [("BTC", set()), ("EUR", {"strike_invoicing"})])
def test_a_profile_that_the_key_may_not_see_matters_for_another_currency(
    by_request: Installation, currency: str, names: set[str]
) -> None:
    by_request.set(SETTLE_IN=currency)
    by_request.simulator.config.api_keys = without("partner.account.profile.read")

    assert set(by_request.troubles()) == names


@pytest.mark.parametrize(("way", "is_missed"), [("invoice", False), ("receive-request", True)])
def test_a_subscription_without_their_event_is_named_only_where_it_is_needed(
    shop: Installation, way: str, is_missed: bool
) -> None:
    shop.set(RECEIVE_WITH=way)
    for one in shop.simulator.webhooks.subscriptions.values():
        one.event_types.remove(RECEIVE_COMPLETED)

    troubles = shop.troubles()

    assert bool(troubles) == is_missed
    if is_missed:
        (found,) = troubles.values()
        assert RECEIVE_COMPLETED in found.message


def test_workers_that_never_ran_are_a_failure(by_request: Installation) -> None:
    by_request.execute("DELETE FROM heartbeats")

    for name in ("worker_main", "worker_expired"):
        assert_among(by_request.troubles(), name, FAIL, "a customer who paid less than the price is not refunded")
    assert by_request.troubles()["worker_refund"].verdict is WARN


def test_either_worker_is_enough_to_refund_an_incomplete_payment(by_request: Installation) -> None:
    by_request.execute("DELETE FROM heartbeats WHERE worker = 'main'")

    assert_only(by_request.troubles(), "worker_main", WARN, "never run")
