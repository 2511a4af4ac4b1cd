"""`python main.py doctor` in its own process: its output and exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from lnpay.doctor.runner import CHECKS
from tests.doctor.installation import SECRETS, Installation
from tests.scenarios.live import ROOT

Doctor = Callable[..., "subprocess.CompletedProcess[str]"]
BARE = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "SYSTEMROOT")}


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the doctor as a script does, and check that it prints no secret."""
    ended = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "doctor", *arguments],
        env={**BARE, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not [value for value in SECRETS.values() if value in ended.stdout + ended.stderr]
    return ended


@pytest.fixture
def doctor(shop: Installation) -> Doctor:
    """The doctor of a healthy installation, with the given variables added to its environment."""

    def call(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return run(*arguments, LNPAY_ENV_FILE=str(shop.env_file), **environ)

    return call


def answer(ended: subprocess.CompletedProcess[str]) -> list[Any]:
    found: list[Any] = json.loads(ended.stdout)
    return found


class TestAnswer:
    def test_healthy_is_exit_0_one_plain_line_for_each_finding_and_a_summary(self, doctor: Doctor) -> None:
        ended = doctor()

        *lines, total = ended.stdout.splitlines()
        assert (ended.returncode, ended.stderr) == (0, "")
        assert [line.split()[1] for line in lines] == [name for check in CHECKS for name in check.names]
        assert {line.split()[0] for line in lines} == {"ok"}
        assert total == f"0 fail, 0 warn, {len(lines)} ok"
        assert ended.stdout.isascii()
        assert "\x1b" not in ended.stdout

    def test_json_has_the_same_fields_for_every_finding(self, doctor: Doctor) -> None:
        found = answer(doctor("--json"))

        assert {tuple(one) for one in found} == {("name", "verdict", "message", "advice")}
        assert {one["verdict"] for one in found} == {"ok"}

    def test_a_warning_is_exit_0_and_says_what_to_do(self, doctor: Doctor, shop: Installation) -> None:
        shop.execute("DELETE FROM heartbeats WHERE worker = 'main'")

        ended = doctor()

        [line] = [line for line in ended.stdout.splitlines() if line.startswith("warn")]
        assert ended.returncode == 0
        assert "worker_main" in line
        assert "-> put workers/main_worker.py into cron" in line

    def test_a_failure_is_exit_1_and_nothing_is_logged(self, doctor: Doctor) -> None:
        ended = doctor(STRIKE_API_URL="http://127.0.0.1:1/v1", LOG_LEVEL="debug")

        assert (ended.returncode, ended.stderr) == (1, "")
        assert "fail  strike " in ended.stdout

    @pytest.mark.skipif(sys.platform == "win32", reason="there are no such terminals")
    def test_on_a_terminal_it_is_in_colour(self, shop: Installation) -> None:
        shop.simulator.webhooks.subscriptions.clear()
        ours, theirs = os.openpty()
        with subprocess.Popen(
            [sys.executable, str(ROOT / "main.py"), "doctor"],
            env={**BARE, "LNPAY_ENV_FILE": str(shop.env_file), "TERM": "xterm-256color", "COLUMNS": "120"},
            stdout=theirs,
        ) as process:
            os.close(theirs)
            shown = read_all(ours)

        assert process.returncode == 1
        assert "\x1b[1;31mfail\x1b[0m" in shown
        assert "\x1b[32mok" in shown
        assert "-> python webhook_settings.py subscribe" in shown

    def test_control_characters_never_reach_the_terminal(self, doctor: Doctor, shop: Installation) -> None:
        shop.execute("UPDATE heartbeats SET trouble = 'caf\u00e9 \x1b[2J' WHERE worker = 'main'")

        out = doctor().stdout

        assert out.isascii()
        assert "\x1b" not in out


class TestWrongSettings:
    def test_each_mistake_is_named_in_the_first_line(self) -> None:
        ended = run(LNPAY_ENV_FILE=os.devnull, CURRENCY="caf\u00e9", PORT="many", WEBHOOK_SECRET="short-one")

        first, total = ended.stdout.splitlines()
        assert (ended.returncode, ended.stderr) == (1, "")
        assert first.startswith("fail  settings ")
        assert all(name in first for name in ("STRIKE_API_KEY", "CURRENCY", "PORT", "WEBHOOK_SECRET"))
        assert "short-one" not in ended.stdout
        assert total == "1 fail, 0 warn, 0 ok"

    def test_json_is_a_list_of_the_same_form(self) -> None:
        ended = run("--json", LNPAY_ENV_FILE=os.devnull, PORT="many", STRIKE_API_KEY="k")

        [found] = answer(ended)
        assert ended.returncode == 1
        assert (found["name"], found["verdict"]) == ("settings", "fail")
        assert 'PORT is "many"' in found["message"]
        assert found["advice"]


def read_all(descriptor: int) -> str:
    """Everything a process writes to a terminal until it ends."""
    pieces: list[bytes] = []
    while True:
        try:
            piece = os.read(descriptor, 65_536)
        except OSError:  # how Linux says that the other end is closed
            piece = b""
        if not piece:
            os.close(descriptor)
            return b"".join(pieces).decode()
        pieces.append(piece)
