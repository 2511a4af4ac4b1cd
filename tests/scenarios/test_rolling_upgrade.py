"""Servers of two versions on one PostgreSQL while an upgrade is rolled out, with customers all the time.

The newer version is this one with one more migration on top.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
import requests

from lnpay.repository import Repository
from lnpay.repository.repository import SCHEMA_VERSION
from lnpay.sandbox import SandboxServer, Simulator
from tests.databases import fresh_postgres
from tests.scenarios.live import ROOT, ask, environment, main_process, main_process_in
from tests.scenarios.newer import CONTRACTING, EXPANDING, NEWER, newer_lnpay


@pytest.fixture
def database_url(postgres_server: str) -> Iterator[str]:
    with fresh_postgres(postgres_server) as url:
        yield url


@pytest.fixture
def provider() -> Iterator[SandboxServer]:
    with SandboxServer(Simulator(seed=1)) as server:
        yield server


@contextmanager
def customers_at(url: str) -> Iterator[list[str]]:
    """Customers who order again and again. Yields the status, or the code, of each answer so far."""
    statuses: list[str] = []
    leaving = threading.Event()

    def buy(who: int) -> None:
        with requests.Session() as session:
            for number in count():
                if leaving.is_set():
                    break
                answer = ask(url, session, correlation_id=f"c{who}-{number}")
                statuses.append(answer.json().get("code", str(answer.status_code)))
                leaving.wait(0.2)

    threads = [threading.Thread(target=buy, args=(who,)) for who in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        leaving.set()
        for thread in threads:
            thread.join()


def version_at(url: str) -> str:
    repository = Repository(url)
    version = repository._version()
    repository.close()
    return str(version)


def test_an_old_server_goes_on_beside_a_new_one(database_url: str, provider: SandboxServer, tmp_path: Path) -> None:
    newer = newer_lnpay(tmp_path / "newer", EXPANDING)
    log = tmp_path / "log"

    with main_process(provider.url, database_url, log) as old, customers_at(old) as statuses:
        before = len(statuses)
        with main_process_in(newer, provider.url, database_url, log) as new:
            assert version_at(database_url) == NEWER
            for url in (old, new):
                assert requests.get(f"{url}/readyz", timeout=5).status_code == 200
            for url, other in ((old, new), (new, old)):
                order = f"order-of-{url.rpartition(':')[2]}"
                made, found = (ask(one, correlation_id=order).json() for one in (url, other))
                assert made["data"]["invoice"]["invoiceId"] == found["data"]["invoice"]["invoiceId"]
            # An old server or worker that starts now, too.
            with main_process(provider.url, database_url, log) as another_old:
                assert requests.get(f"{another_old}/readyz", timeout=5).status_code == 200
                assert run_worker(provider.url, database_url).returncode == 0

    assert len(statuses) > before
    assert set(statuses) == {"200"}
    assert "Traceback" not in log.read_text()


def test_an_old_server_refuses_what_it_can_no_longer_use(
    database_url: str, provider: SandboxServer, tmp_path: Path
) -> None:
    newer = newer_lnpay(tmp_path / "newer", CONTRACTING, oldest_code=NEWER)
    log = tmp_path / "log"

    with (
        main_process(provider.url, database_url, log) as old,
        main_process_in(newer, provider.url, database_url, log) as new,
    ):
        assert requests.get(f"{new}/readyz", timeout=5).status_code == 200
        answer = requests.get(f"{old}/readyz", timeout=5)

    sentence = f"only LNPay from version {NEWER} on can use it, and this is {SCHEMA_VERSION}. Install the newer LNPay"
    assert answer.status_code == 503
    assert sentence in answer.json()["message"]
    worker = run_worker(provider.url, database_url)
    assert worker.returncode == 1
    assert sentence in worker.stderr
    assert "Traceback" not in worker.stderr


def run_worker(provider_url: str, database_url: str) -> subprocess.CompletedProcess[str]:
    """A pass of this version's worker."""
    return subprocess.run(
        [sys.executable, "workers/main_worker.py"],
        cwd=ROOT,
        env=environment(provider_url, database_url, 5000),
        capture_output=True,
        text=True,
        check=False,
    )
