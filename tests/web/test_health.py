"""GET /healthz and /readyz, for monitoring."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from lnpay.repository import Repository
from tests.web.answers import assert_error
from tests.world import World


def test_a_process_that_answers_is_up(world: World) -> None:
    answer = world.client.get("/healthz")

    assert (answer.status_code, answer.get_json()) == (200, {"status": "ok"})


def test_a_database_of_this_version_is_ready(world: World) -> None:
    assert world.client.get("/readyz").status_code == 200


def test_health_needs_no_database_and_no_provider(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fault("*", "*", "unreachable", times=None)
    for name in ("ping", "reading", "transaction"):
        monkeypatch.setattr(Repository, name, lambda _: pytest.fail("asked"))

    assert world.client.get("/healthz").status_code == 200


@pytest.mark.parametrize("damage", ["DROP TABLE alembic_version", "UPDATE alembic_version SET version_num = '9999'"])
def test_a_database_of_another_version_is_not_ready(world: World, damage: str) -> None:
    with world.backend.repository.engine.begin() as connection:
        connection.execute(text(damage))

    answer = world.client.get("/readyz")

    assert_error(answer, 503, "not_ready")
    assert answer.get_json()["message"].startswith("the tables are not those of this LNPay: restart it")
    assert world.client.get("/healthz").status_code == 200


def test_a_database_that_cannot_be_reached_is_not_ready(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Repository("sqlite:////nowhere/at/all/invoices.sqlite")
    monkeypatch.setattr(world.backend.repository, "engine", gone.engine)

    answer = world.client.get("/readyz")

    assert_error(answer, 503, "not_ready")
    assert answer.get_json()["message"] == "the database does not respond; see the log"
