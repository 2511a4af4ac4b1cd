"""Every error has the same shape and discloses no internals."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import OperationalError
from werkzeug.exceptions import TooManyRequests

from lnpay.domain import errors
from lnpay.domain.errors import LnpayError, StorageUnavailable
from lnpay.repository import Repository
from lnpay.web.api import routes
from tests.web.answers import assert_error
from tests.world import World


@pytest.mark.parametrize("path", ["/unknown", "/generate-invoice/", "/invoices/", "/%00", "/..%2f..%2f"])
def test_an_unknown_path_is_a_404(world: World, path: str) -> None:
    assert_error(world.client.get(path), 404, "not_found")


def test_an_unknown_method_is_a_405(world: World) -> None:
    assert_error(world.client.open("/webhook", method="BREW"), 405, "method_not_allowed")


def test_a_bug_is_a_500_without_its_text(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def buggy(*_: object) -> None:
        raise ZeroDivisionError("a very secret detail")

    monkeypatch.setattr(routes, "create_invoice", buggy)

    answer = world.ask()

    assert_error(answer, 500, "internal_error")
    assert "secret detail" not in answer.text
    assert "a very secret detail" in caplog.text


def test_an_error_class_without_a_status_is_a_bug(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def buggy(*_: object) -> None:
        raise LnpayError("never meant for anybody outside")

    monkeypatch.setattr(routes, "create_invoice", buggy)

    answer = world.ask()

    assert_error(answer, 500, "internal_error")
    assert "never meant" not in answer.text


@pytest.mark.parametrize("kind", [errors.StrikeUnavailable, errors.StrikeError])
def test_a_new_error_class_is_answered_like_its_parent(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: type[errors.StrikeError]
) -> None:
    new_kind = type("StrikeOnHoliday", (kind,), {})

    def closed(*_: object) -> None:
        raise new_kind("a text of the provider's", retry_after_seconds=40)

    monkeypatch.setattr(routes, "create_invoice", closed)

    answer = world.ask()

    assert_error(answer, 503, "provider_unavailable")
    assert answer.headers["Retry-After"] == "40"
    assert "a text of the provider's" not in answer.text


def test_an_unavailable_database_is_a_503(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(self: Repository) -> None:
        raise StorageUnavailable("the database is not available right now")

    monkeypatch.setattr(Repository, "reading", away)

    assert_error(world.ask(), 503, "storage_unavailable")


def test_a_database_that_is_locked_is_a_503(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lnpay.repository.repository.BUSY_TIMEOUT_MS", 50)
    world.restart()
    other = Repository(world.database_url)

    with other.transaction():
        answer = world.ask()

    assert_error(answer, 503, "storage_unavailable")
    assert world.ask().status_code == 200
    other.close()


def test_the_databases_message_is_not_disclosed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        with world.backend.repository.reading():
            raise OperationalError("SELECT secret FROM sqlite_master", {}, Exception("disk I/O error"))

    monkeypatch.setattr(routes, "create_invoice", failing)

    answer = world.ask()

    assert_error(answer, 503, "storage_unavailable")
    assert "disk" not in answer.text


@pytest.mark.parametrize("path", ["/healthz", "/unknown", "/webhook", "/invoices/x", "/checkout/x"])
def test_every_answer_has_security_headers(world: World, path: str) -> None:
    headers = world.client.get(path).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"


def test_every_error_class_has_a_stable_code() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LnpayError)]

    assert len(kinds) > 10
    assert all(kind.code.islower() and kind.code.isidentifier() for kind in kinds)


BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}


class TestACustomersBrowser:
    """What a browser is shown where a program gets JSON."""

    @pytest.mark.parametrize("path", ["/checkout/unknown", "/refund/unknown", "/checkout/", "/checkout/%00"])
    def test_an_unknown_link_leads_to_a_page(self, world: World, path: str) -> None:
        page = world.client.get(path, headers=BROWSER)

        assert (page.status_code, page.mimetype) == (404, "text/html")
        assert "This page does not exist" in page.text
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert "unsafe" not in page.headers["Content-Security-Policy"]
        assert page.headers["Cache-Control"] == "no-store"
        assert "Refresh" not in page.headers

    def test_the_page_is_in_the_customers_language(self, world: World) -> None:
        page = world.client.get("/checkout/unknown?lang=ar", headers=BROWSER)

        assert '<html lang="ar" dir="rtl">' in page.text
        assert page.headers["Content-Language"] == "ar"
        assert {"Accept", "Accept-Language"} <= set(page.headers["Vary"].split(", "))

    def test_an_unavailable_database_is_a_page_that_reloads(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(self: Repository) -> None:
            raise StorageUnavailable("the database is not available right now")

        invoice = world.sell()
        monkeypatch.setattr(Repository, "reading", away)

        page = world.client.get(f"/checkout/{invoice.token}", headers=BROWSER)

        assert (page.status_code, page.mimetype) == (503, "text/html")
        assert page.headers["Refresh"] == page.headers["Retry-After"] == "5"
        assert "your payment is not lost" in page.text
        assert "database" not in page.text

    def test_too_many_requests_get_the_time_to_retry(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(self: Repository) -> None:
            raise TooManyRequests(retry_after=7)

        monkeypatch.setattr(Repository, "reading", refuse)

        page = world.client.get("/checkout/x", headers=BROWSER)

        assert (page.status_code, page.mimetype) == (429, "text/html")
        assert page.headers["Refresh"] == page.headers["Retry-After"] == "7"

    def test_a_bug_is_a_page_without_its_text(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def buggy(self: Repository) -> None:
            raise ZeroDivisionError("a very secret detail")

        monkeypatch.setattr(Repository, "reading", buggy)

        page = world.client.get("/refund/x", headers=BROWSER)

        assert (page.status_code, page.mimetype) == (500, "text/html")
        assert "Something went wrong" in page.text
        assert "secret" not in page.text
        assert "Traceback" not in page.text
        assert "Refresh" not in page.headers

    def test_a_method_that_the_page_does_not_support(self, world: World) -> None:
        page = world.client.post("/checkout/x", headers=BROWSER)

        assert (page.status_code, page.mimetype) == (405, "text/html")
        assert "GET" in page.headers["Allow"]

    @pytest.mark.parametrize("accept", ["", "*/*", "application/json", "application/json, text/html"])
    def test_a_program_gets_json(self, world: World, accept: str) -> None:
        assert_error(world.client.get("/checkout/unknown", headers={"Accept": accept}), 404, "not_found")

    @pytest.mark.parametrize("path", ["/invoices/x", "/checkout/x/status", "/checkout/x/y", "/checkouts/x"])
    def test_only_the_customers_routes_answer_errors_with_a_page(self, world: World, path: str) -> None:
        assert_error(world.client.get(path, headers=BROWSER), 404, "not_found")
