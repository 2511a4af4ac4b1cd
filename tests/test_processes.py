"""WORKERS: several server processes share the port, and one that dies costs no sale."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
import requests

from lnpay.sandbox.faults import Fault
from lnpay.sandbox.server import wait_until
from tests.scenarios.live import ROOT, ask, is_up
from tests.test_main import LIMIT_SECONDS, Running, running, sell_and_pay

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads /proc")


LONGER_THAN_A_PAUSE_SECONDS = 7
"""The main worker makes a pass every five."""


def children(pid: int) -> list[int]:
    """The processes that `pid` has started, oldest first."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return sorted(int(one) for one in text.split())


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def is_writable(main: Running) -> bool:
    with closing(sqlite3.connect(main.database_url.removeprefix("sqlite:///"), timeout=0)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
    return True


def is_stopped(pid: int) -> bool:
    """Whether every thread stands still. On a busy machine some go on for a moment after the signal."""
    states = [one.read_text(encoding="ascii") for one in Path(f"/proc/{pid}/task").glob("*/status")]
    return all("\nState:\tT" in one for one in states)


def has_stopped_outside_of_a_write(main: Running, pid: int) -> bool:
    """Stop a process, unless it is just then in a transaction, which would keep the others from writing."""
    os.kill(pid, signal.SIGSTOP)
    assert wait_until(lambda: is_stopped(pid), LIMIT_SECONDS)
    if is_writable(main):
        return True
    os.kill(pid, signal.SIGCONT)
    return False


@contextmanager
def stopped(main: Running, pid: int) -> Iterator[None]:
    """A process that stands still and accepts no connection."""
    assert wait_until(lambda: has_stopped_outside_of_a_write(main, pid), LIMIT_SECONDS)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def is_gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return True


def both(main: Running) -> list[int]:
    """The two server processes, as soon as both have been started."""
    assert wait_until(lambda: len(children(main.process.pid)) == 2, LIMIT_SECONDS)
    return children(main.process.pid)


def is_replaced(main: Running, killed: int) -> bool:
    now = children(main.process.pid)
    return len(now) == 2 and killed not in now


def test_each_process_sells(tmp_path: Path) -> None:
    with running(tmp_path, WORKERS="2") as main:
        for pid in both(main):
            with stopped(main, pid):
                assert ask(main.url).status_code == 200

        code, out, err = main.end()
    assert (code, out) == (0, f"LNPay listens on {main.url} (Ctrl-C to stop)\n")
    assert "Traceback" not in err


def test_a_killed_process_is_replaced_and_the_shop_sells_on(tmp_path: Path) -> None:
    with running(tmp_path, WORKERS="2") as main:
        for killed in both(main):
            kill(killed)
            assert ask(main.url).status_code == 200
            assert wait_until(partial(is_replaced, main, killed), LIMIT_SECONDS)

        code, _, err = main.end()
    assert (code, err.count("server process ended, starting another")) == (0, 2), err


PROGRAM = """
import os, time
from lnpay.runtime.processes import ServerProcesses

def serve(number, say_ready):
    say_ready()
    time.sleep(0.5)
    os.kill(os.getppid(), 15)
    time.sleep(30)

if os.fork() == 0:
    os._exit(3)
print(ServerProcesses(1, serve, [], lambda: print("ready", flush=True)).run())
"""


def test_the_end_of_another_child_changes_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, f"ready\n{128 + signal.SIGTERM}\n", "")


def test_requests_in_progress_are_answered_before_the_end(tmp_path: Path) -> None:
    with running(tmp_path, WORKERS="2") as main:
        main.simulator.faults.add(Fault("POST", "/v1/invoices/*/quote", "delay_after", times=4, seconds=1))
        answers: list[int] = []
        customers = [threading.Thread(target=lambda: answers.append(ask(main.url).status_code)) for _ in range(4)]
        for one in customers:
            one.start()
        assert wait_until(lambda: len(main.simulator.invoices.by_id) == 4)
        # As systemd does it: every process is sent the signal, the servers by their parent once more.
        for pid in both(main):
            os.kill(pid, signal.SIGTERM)

        code, _, err = main.end()
        for one in customers:
            one.join()

    assert (answers, code) == ([200] * 4, 0), err


def test_the_processes_end_with_their_parent(tmp_path: Path) -> None:
    with running(tmp_path, WORKERS="2") as main:
        started = both(main)
        kill(main.process.pid)
        main.process.wait(LIMIT_SECONDS)

        assert wait_until(lambda: all(is_gone(pid) for pid in started), LIMIT_SECONDS)
        assert not is_up(main.url)


def test_the_workers_run_in_the_first_alone(tmp_path: Path) -> None:
    with running(tmp_path, "--with-workers", WORKERS="2") as main:
        first, second = both(main)
        with stopped(main, second):
            sell_and_pay(main)
            assert wait_until(lambda: len(main.simulator.shop.accepted()) == 1, LIMIT_SECONDS)
        with stopped(main, first):
            sell_and_pay(main)
            assert not wait_until(lambda: len(main.simulator.shop.accepted()) == 2, LONGER_THAN_A_PAUSE_SECONDS)

        assert wait_until(lambda: len(main.simulator.shop.accepted()) == 2, LIMIT_SECONDS)
        assert main.end()[0] == 0


def test_metrics_of_a_process_name_it(tmp_path: Path) -> None:
    with running(tmp_path, WORKERS="2") as main:
        first, second = both(main)
        seen = []
        for other in (second, first):
            with stopped(main, other):
                ask(main.url)
                text = requests.get(f"{main.url}/metrics", headers={"Connection": "close"}, timeout=30).text
            seen.append(set(re.findall(r'process="(\d)"', text)))
            assert "\nlnpay_database_up 1.0\n" in text
        assert seen == [{"0"}, {"1"}]


def test_what_keeps_the_first_from_starting_ends_the_start(tmp_path: Path) -> None:
    with running(tmp_path, WORKERS="2", DATABASE_URL="postgresql+psycopg://lnpay@127.0.0.1:1/none") as main:
        out, err = main.process.communicate(timeout=LIMIT_SECONDS)

    assert (main.process.returncode, out) == (1, ""), err
    assert err.endswith("\nthe database is not available right now\n")
    assert "Traceback" not in err


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with running(tmp_path) as main, running(tmp_path, WORKERS="2", PORT=main.url.rpartition(":")[2]) as other:
        code, out, err = other.end()

    assert (code, out) == (1, "")
    assert "cannot listen on" in err
    assert "PORT=5050" in err


def test_a_log_file_is_for_one_process(tmp_path: Path) -> None:
    with running(tmp_path, "--log-file", "lnpay.log", WORKERS="2") as main:
        code, out, _ = main.end()

    assert (code, out) == (1, "")
    assert "WORKERS=1" in (tmp_path / "lnpay.log").read_text(encoding="utf-8")
