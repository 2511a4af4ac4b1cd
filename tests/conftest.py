"""What every test may ask for."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from tests.databases import drop_template, set_fsync, share_compiled_statements
from tests.world import World

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

TESTS = Path(__file__).parent

TRACED = ("unit", "integration")
"""Whose lines are counted in every case of a test."""

TRACED_AT_FIRST = (
    "contract", "web", "greenfield", "doctor", "reconciliation", "workers", "test_commands.py",
    "test_webhook_settings.py",
)  # fmt: skip
"""Whose lines are counted in the first cases of a test."""

FIRST_CASES = 3

LONGEST = ("soak", "chaos", "scenarios", "simulation", "test_odd_rows.py")

# An example is not wrong because the machine is busy.
settings.register_profile("lnpay", deadline=None)
settings.load_profile("lnpay")


def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: many tests wait for processes, browsers and servers, so two for each core keep it busy."""
    return 2 * (os.cpu_count() or 1)


def pytest_configure(config: pytest.Config) -> None:
    """Declare our markers, and save time."""
    config.addinivalue_line("markers", "untraced: its lines are not counted, which halves the time of a long test")
    share_compiled_statements()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest in every worker, so that none is left over for one of them at the end.

    To count lines takes a third of a test's time, so they are counted only where a module has its own tests. What
    processes, browsers and whole worlds prove is no line of LNPay.
    """
    longest = [item for part in LONGEST for item in items if _part_of_tests(item.path) == part]
    rest = [item for item in items if _part_of_tests(item.path) not in LONGEST]
    items[:] = _spread(longest, rest, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    cases: Counter[str] = Counter()
    for item in sorted(items, key=lambda item: item.nodeid):
        test, part = item.nodeid.partition("[")[0], _part_of_tests(item.path)
        cases[test] += 1
        if part not in TRACED and (part not in TRACED_AT_FIRST or cases[test] > FIRST_CASES):
            item.add_marker("untraced")


def _spread(longest: list[pytest.Item], rest: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """All tests, in an order in which each worker of xdist begins with its share of the longest.

    At first each worker gets one block of consecutive tests, as many as the others; later it takes some from them.
    """
    total = len(longest) + len(rest)
    spread: list[pytest.Item] = []
    for worker in range(workers):
        block = longest[worker::workers]
        size = (total - len(spread)) // (workers - worker)
        taken = max(0, size - len(block))
        spread += block + rest[:taken]
        rest = rest[taken:]
    return spread


@cache
def _part_of_tests(path: Path) -> str:
    """The folder or file in tests/ that a path belongs to. Thousands of tests share a path: it is worked out once."""
    return path.relative_to(TESTS).parts[0] if path.is_relative_to(TESTS) else ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run an untraced test without coverage's tracer.

    pytest-cov's own `no_cover` does not help in a worker of xdist: it pauses one collector, and another one goes on.
    """
    if item.get_closest_marker("untraced") is None:
        return (yield)
    here, threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(here)
        threading.settrace(threads)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """In CI nothing may go untested unnoticed: a skipped test fails the run."""
    if exitstatus == pytest.ExitCode.OK and _skipped_in_ci(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say why, and which."""
    skipped = _skipped_in_ci(config)
    for report in skipped:
        terminalreporter.write_line(f"SKIPPED {report.nodeid}")
    if skipped:
        terminalreporter.write_line(f"FAILED: {len(skipped)} tests were skipped, and CI is set", red=True)


def _skipped_in_ci(config: pytest.Config) -> list[Any]:
    """Reports of the skipped tests where CI is set, of every worker; none inside a worker itself."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or os.environ.get("CI", "").lower() in ("", "0", "false"):
        return []
    return list(reporter.stats.get("skipped", []))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The machine's Chromium, without a window. One for all: two drivers in one process stand in each other's way."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("there is no Chromium here: install it (Debian: apt-get install chromium), or name one in CHROMIUM")
    # Most tests need none, and start the sooner for it.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield started
        started.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world with nothing in it yet."""
    made = World.make(tmp_path)
    yield made
    made.close()


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Make worlds with other settings: make_world(currency="jpy")."""
    made: list[World] = []

    def make(**changes: Any) -> World:
        folder = tmp_path / f"world{len(made)}"
        folder.mkdir()
        made.append(World.make(folder, **changes))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a real PostgreSQL, started for this run from its wheel; TEST_POSTGRES_URL names another one."""
    given = os.environ.get("TEST_POSTGRES_URL")
    if given:
        yield given
        drop_template(given)
        return
    pgserver = pytest.importorskip("pgserver", reason="install pgserver, or set TEST_POSTGRES_URL")
    # Not in pytest's own folder: the next run of pytest closes that to other users, and root's PostgreSQL is one.
    with tempfile.TemporaryDirectory(prefix="lnpay-postgres-", ignore_cleanup_errors=True) as folder:
        server = pgserver.get_server(Path(folder) / "data")
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        # No power cut is waited for here; to write through to the disk takes longer than all the rest.
        set_fsync(url, "off")
        yield url
        server.cleanup()
