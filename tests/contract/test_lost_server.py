"""A PostgreSQL server that is away, or goes in the middle of a transaction: what the log and a worker say."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from lnpay.domain.errors import StorageUnavailable
from lnpay.repository import Repository
from tests.databases import fresh_postgres
from tests.scenarios.live import ROOT, environment, free_port

END_OUR_SESSION = text("SELECT pg_terminate_backend(pg_backend_pid())")


@pytest.fixture
def repository(postgres_server: str) -> Iterator[Repository]:
    with fresh_postgres(postgres_server) as url:
        opened = Repository(url)
        opened.upgrade()
        yield opened
        opened.close()


def test_a_server_that_goes_is_logged_in_one_line(repository: Repository, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StorageUnavailable), repository.transaction() as tx:
        tx.limits._connection.execute(END_OUR_SESSION)

    (record,) = [one for one in caplog.records if one.name == "lnpay.repository.repository"]
    assert record.levelno == logging.ERROR
    assert record.exc_info is None
    assert "reason=terminating connection due to administrator command" in record.getMessage()


def test_a_statement_that_fails_is_logged_with_its_place(
    repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    slow = Repository(repository.engine.url.render_as_string(hide_password=False), statement_timeout_seconds=1)

    with pytest.raises(StorageUnavailable), slow.transaction() as tx:
        tx.limits._connection.execute(text("SELECT pg_sleep(5)"))

    slow.close()
    assert caplog.records[-1].exc_info is not None


def test_a_worker_that_starts_without_a_server_ends_with_one_sentence_and_exit_code_1() -> None:
    url = f"postgresql+psycopg://lnpay@127.0.0.1:{free_port()}/lnpay"

    ended = subprocess.run(
        [sys.executable, "workers/main_worker.py", "--watch", "1"],
        cwd=ROOT,
        env=environment("http://127.0.0.1:9", url, 5000),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    said = (ended.stdout + ended.stderr).splitlines()
    assert ended.returncode == 1
    assert said[-1] == "the database is not available right now"
    assert len(said) == 2
    assert "Connection refused" in said[0]
