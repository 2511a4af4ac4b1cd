"""workers/main_worker.py, as cron runs it."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time

import pytest
from sqlalchemy import create_engine, text

from lnpay.sandbox.server import wait_until
from tests.scenarios.live import ROOT
from tests.workers.conftest import LIMIT_SECONDS, Cron

WORKER = "main_worker.py"
NOTHING = "settled=0 paid_late=0 failed=0 expired=0 lapsed=0 delivered=0 refused=0\n"


def test_one_pass_settles_tells_the_shop_and_says_so_in_one_line(cron: Cron) -> None:
    invoice = cron.sell()
    cron.pay(invoice)

    run = cron.run(WORKER)

    assert run.stdout == "settled=1 paid_late=0 failed=0 expired=0 lapsed=0 delivered=1 refused=0\n"
    assert (run.returncode, run.stderr, cron.state(invoice)) == (0, "", "settled")
    (told,) = [delivery.json() for delivery in cron.simulator.shop.accepted()]
    assert told["invoice"] == invoice.issue.bolt11


def test_two_passes_at_once_tell_the_shop_once(cron: Cron) -> None:
    for _ in range(3):
        cron.pay(cron.sell())

    workers = [cron.start(WORKER) for _ in range(2)]
    outputs = [worker.communicate(timeout=LIMIT_SECONDS) for worker in workers]

    assert [worker.returncode for worker in workers] == [0, 0], outputs
    assert len(cron.simulator.shop.deliveries) == 3


def test_nothing_to_do_is_a_success(cron: Cron) -> None:
    run = cron.run(WORKER)

    assert (run.returncode, run.stdout, run.stderr) == (0, NOTHING, "")


def test_a_provider_that_is_down_is_trouble_and_left_to_the_next_pass(cron: Cron) -> None:
    cron.pay(cron.sell())
    nowhere = "http://127.0.0.1:1"

    run = cron.run(WORKER, STRIKE_API_URL=f"{nowhere}/v1")

    assert run.returncode == 1
    assert run.stdout.startswith(f"{NOTHING.rstrip()} trouble: payments could not be checked at Strike: ")
    assert "Traceback" not in run.stderr


def test_a_wrong_key_is_for_a_person(cron: Cron) -> None:
    cron.sell()
    cron.simulator.config.api_keys = {"another": ["*"]}

    run = cron.run(WORKER)

    assert run.returncode == 1
    assert "trouble: Strike rejects STRIKE_API_KEY" in run.stdout
    assert "a-key-of-the-tests" not in run.stdout + run.stderr


def test_every_wrong_setting_is_named_and_no_secret_shown(cron: Cron) -> None:
    run = cron.run(WORKER, STRIKE_API_KEY="", CURRENCY="doubloon", TIME_OFFSET="soon", WEBHOOK_SECRET="hush hush hush")

    assert (run.returncode, run.stdout) == (1, "")
    assert all(name in run.stderr for name in ("STRIKE_API_KEY", "CURRENCY", "TIME_OFFSET", "WEBHOOK_SECRET"))
    assert "Traceback" not in run.stderr
    assert "hush" not in run.stderr


def test_a_database_of_a_newer_version_is_one_clear_line(cron: Cron) -> None:
    cron.sell()
    engine = create_engine(cron.database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()

    run = cron.run(WORKER)

    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (1, "", 1)
    assert "9999" in run.stderr


def test_watching_goes_on_until_it_is_asked_to_end(cron: Cron) -> None:
    first = cron.sell()
    cron.pay(first)
    worker = cron.start(WORKER, "--watch", "1", LOG_LEVEL="info")
    assert wait_until(lambda: len(cron.simulator.shop.accepted()) == 1, LIMIT_SECONDS)
    cron.pay(cron.sell())
    assert wait_until(lambda: len(cron.simulator.shop.accepted()) == 2, LIMIT_SECONDS)

    worker.send_signal(signal.SIGTERM)
    out, err = worker.communicate(timeout=LIMIT_SECONDS)

    assert (worker.returncode, out) == (0, "")
    assert "pass done settled=1" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("seconds", ["soon", "nan"])
def test_a_pace_that_is_none_is_refused(cron: Cron, seconds: str) -> None:
    run = cron.run(WORKER, f"--watch={seconds}")

    assert run.returncode == 2
    assert "must be a number of seconds between 1 and 86400" in run.stderr


def test_what_it_logs_about_trouble_is_no_secret(cron: Cron) -> None:
    cron.pay(cron.sell())
    cron.simulator.shop.answer_with(500, None)

    run = cron.run(WORKER, DELIVERY_URL=f"{cron.server.url}/shop/webhook?token=very-secret", LOG_LEVEL="debug")

    assert "delivered=0 refused=1" in run.stdout
    assert "very-secret" not in run.stderr
    assert "a-key-of-the-tests" not in run.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such terminals")
def test_on_a_terminal_watching_says_each_pass_also_one_without_events(cron: Cron) -> None:
    ours, theirs = os.openpty()
    worker = subprocess.Popen(
        [sys.executable, str(ROOT / "workers" / WORKER), "--watch", "1"],
        cwd=cron.folder,
        env={**cron.environ, "LOG_LEVEL": "warning"},
        stdout=theirs,
    )
    os.close(theirs)
    said = b""
    try:
        end = time.monotonic() + LIMIT_SECONDS
        while said.count(b"settled=0") < 2 and time.monotonic() < end:
            if select.select([ours], [], [], 1)[0]:
                said += os.read(ours, 65_536)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(LIMIT_SECONDS)
        os.close(ours)

    assert len(re.findall(rb"\d\d:\d\d:\d\d settled=0 paid_late=0 [^\r\n]+", said)) >= 2
    assert worker.returncode == 0
