"""Every error has one shape, and tells a stranger nothing of the inside."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import OperationalError

from lnpay import errors
from lnpay.errors import LnpayError, StorageUnavailable
from lnpay.repository import Repository
from lnpay.web import api
from tests.web.answers import assert_error
from tests.world import World


@pytest.mark.parametrize(
    "path", ["/", "/unknown", "/generate-invoice/", "/invoices", "/invoices/", "/%00", "/..%2f..%2f"]
)
def test_an_address_that_leads_nowhere_is_a_404(world: World, path: str) -> None:
    assert_error(world.client.get(path), 404, "not_found")


def test_a_method_that_nobody_knows_is_a_405(world: World) -> None:
    assert_error(world.client.open("/webhook", method="BREW"), 405, "method_not_allowed")


def test_a_bug_is_a_500_without_its_text(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def buggy(*_: object) -> None:
        raise ZeroDivisionError("a very secret detail")

    monkeypatch.setattr(api, "create_invoice", buggy)

    answer = world.ask()

    assert_error(answer, 500, "internal_error")
    assert "secret detail" not in answer.text
    assert "a very secret detail" in caplog.text


def test_an_error_of_ours_that_no_status_is_known_for_is_a_bug(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def buggy(*_: object) -> None:
        raise LnpayError("never meant for anybody outside")

    monkeypatch.setattr(api, "create_invoice", buggy)

    answer = world.ask()

    assert_error(answer, 500, "internal_error")
    assert "never meant" not in answer.text


def test_a_database_that_is_away_is_a_503(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_what_the_database_says_stays_inside(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        with world.backend.repository.reading():
            raise OperationalError("SELECT secret FROM sqlite_master", {}, Exception("disk I/O error"))

    monkeypatch.setattr(api, "create_invoice", failing)

    answer = world.ask()

    assert_error(answer, 503, "storage_unavailable")
    assert "disk" not in answer.text


@pytest.mark.parametrize("path", ["/healthz", "/unknown", "/webhook", "/invoices/x", "/checkout/x"])
def test_every_answer_is_protected(world: World, path: str) -> None:
    headers = world.client.get(path).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"


def test_every_error_of_ours_names_a_stable_word() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LnpayError)]

    assert len(kinds) > 10
    assert all(kind.code.islower() and kind.code.isidentifier() for kind in kinds)
