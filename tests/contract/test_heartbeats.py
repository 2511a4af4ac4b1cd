"""Each worker's last pass on each host: what is kept of it, and what is forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from lnpay.domain.model import Heartbeat
from lnpay.repository import Repository

NOW = datetime(2026, 5, 18, 12, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def beat(repository: Repository, worker: str, host: str, at: datetime, trouble: str | None = None) -> None:
    with repository.transaction() as tx:
        tx.heartbeats.beat(Heartbeat(worker, at, trouble, host=host))


def beat_as_before(repository: Repository, worker: str, at: datetime) -> None:
    """What LNPay before version 0025 does, which knows no hosts."""
    statement = text(
        "INSERT INTO heartbeats (worker, ended_at, trouble, troubled_since, unreadable) VALUES (:worker, :at, NULL, "
        "NULL, 0) ON CONFLICT (worker) DO UPDATE SET ended_at = :at, trouble = NULL, troubled_since = NULL"
    )
    moment = at.replace(tzinfo=None) if repository.engine.dialect.name == "sqlite" else at
    with repository.engine.begin() as connection:
        connection.execute(statement, {"worker": worker, "at": f"{moment:%Y-%m-%d %H:%M:%S.%f%z}"})


def seen_before(repository: Repository) -> dict[str, str]:
    """What such a version reads: the hour and minute of each worker's last pass."""
    with repository.engine.connect() as connection:
        rows = connection.execute(text("SELECT worker, CAST(ended_at AS VARCHAR) FROM heartbeats")).all()
    return {worker: ended_at[11:16] for worker, ended_at in rows}


def hosts(repository: Repository, worker: str = "main") -> dict[str, datetime]:
    with repository.reading() as tx:
        return {one.host: one.ended_at for one in tx.heartbeats.every() if one.worker == worker}


class TestByHost:
    def test_each_host_has_its_own_last_pass(self, repository: Repository) -> None:
        beat(repository, "main", "one", NOW)
        beat(repository, "main", "two", NOW + MINUTE)
        beat(repository, "main", "two", NOW + 2 * MINUTE)
        beat(repository, "refund", "two", NOW + 3 * MINUTE)

        assert hosts(repository) == {"one": NOW, "two": NOW + 2 * MINUTE}
        assert hosts(repository, "refund") == {"two": NOW + 3 * MINUTE}

    def test_one_in_trouble_stays_so_while_the_other_goes_on(self, repository: Repository) -> None:
        for minutes in range(3):
            beat(repository, "main", "one", NOW + minutes * MINUTE, "Strike does not answer")
            beat(repository, "main", "two", NOW + minutes * MINUTE)

        with repository.reading() as tx:
            one, two = tx.heartbeats.every()
        assert (one.host, one.trouble, one.troubled_since) == ("one", "Strike does not answer", NOW)
        assert (two.host, two.trouble, two.troubled_since) == ("two", None, None)

    def test_without_names_the_last_pass_on_any_host_counts(self, repository: Repository) -> None:
        beat(repository, "main", "", NOW)
        beat(repository, "main", "", NOW + MINUTE)

        assert hosts(repository) == {"": NOW + MINUTE}

    def test_one_that_cannot_be_read_hides_no_other(self, repository: Repository) -> None:
        for host in ("one", "two"):
            beat(repository, "main", host, NOW)
        with repository.engine.begin() as connection:
            no_time = "'infinity'" if connection.dialect.name == "postgresql" else "'never'"
            connection.execute(text(f"UPDATE host_heartbeats SET ended_at = {no_time} WHERE host = 'one'"))  # noqa: S608

        assert hosts(repository) == {"two": NOW}
        assert [name.partition(" ")[0] for name in repository.unreadable.names()] == ["host_heartbeats"]


class TestForgotten:
    def test_a_host_that_was_switched_off_is_forgotten_after_a_day(self, repository: Repository) -> None:
        for worker in ("main", "refund"):
            beat(repository, worker, "old", NOW)
        beat(repository, "main", "new", NOW + DAY)
        assert hosts(repository).keys() == {"new", "old"}

        beat(repository, "main", "new", NOW + DAY + MINUTE)

        assert hosts(repository).keys() == {"new"}
        assert hosts(repository, "refund").keys() == {"old"}  # no other host makes its passes

    def test_a_worker_that_died_on_a_host_that_goes_on_is_forgotten_after_a_week(self, repository: Repository) -> None:
        beat(repository, "main", "old", NOW)
        for days in range(1, 8):
            beat(repository, "refund", "old", NOW + days * DAY)
            beat(repository, "main", "new", NOW + days * DAY)
        assert hosts(repository).keys() == {"new", "old"}

        beat(repository, "main", "new", NOW + 7 * DAY + MINUTE)

        assert hosts(repository).keys() == {"new"}

    def test_a_worker_that_makes_no_pass_anywhere_is_not_forgotten(self, repository: Repository) -> None:
        beat(repository, "main", "one", NOW)
        beat(repository, "refund", "one", NOW + 30 * DAY)
        beat(repository, "refund", "two", NOW + 30 * DAY)

        assert hosts(repository) == {"one": NOW}

    def test_a_pass_without_a_name_makes_old_names_be_forgotten_too(self, repository: Repository) -> None:
        beat(repository, "main", "old", NOW)
        beat(repository, "main", "", NOW + 2 * DAY)

        assert hosts(repository) == {"": NOW + 2 * DAY}


class TestBesideAnOlderVersion:
    def test_each_sees_the_passes_of_the_other(self, repository: Repository) -> None:
        beat(repository, "main", "new", NOW)
        beat_as_before(repository, "main", NOW + MINUTE)
        beat_as_before(repository, "refund", NOW)

        assert hosts(repository) == {"new": NOW, "": NOW + MINUTE}
        assert hosts(repository, "refund") == {"": NOW}

        beat(repository, "main", "new", NOW + 2 * MINUTE)

        assert seen_before(repository) == {"main": "12:02", "refund": "12:00"}
        assert hosts(repository) == {"new": NOW + 2 * MINUTE}

    def test_a_host_that_died_is_seen_beside_an_older_version(self, repository: Repository) -> None:
        beat(repository, "main", "new", NOW)
        beat_as_before(repository, "main", NOW + HOUR)

        assert hosts(repository) == {"new": NOW, "": NOW + HOUR}
