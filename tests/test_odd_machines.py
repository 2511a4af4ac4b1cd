"""Folders with odd names and consoles that know few characters, as on Windows: everything works there too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from urllib.parse import unquote, urlsplit

import pytest
import requests
from sqlalchemy.engine import make_url

import lnpay.runtime.console
from config.settings import SettingsError, load_settings
from lnpay.repository.maintenance.sqlite_url import sqlite_path, sqlite_uri, sqlite_url
from lnpay.runtime.console import LogFileUnusable, set_up_console
from lnpay.sandbox.server import wait_until
from tests.checkout import copy_program
from tests.sandbox_process import RunningSandbox, running_sandbox

WINDOWS = {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0", "PYTHONWARNDEFAULTENCODING": "1"}
"""Pipes of Windows' own encoding; a file that is opened without naming one is a warning."""

ODD_FOLDERS = ("José #1/100% shop", 'what? it\'s "%41" & $HOME; +[x]~')
PATHS: tuple[PurePath, ...] = (
    PurePosixPath("/srv/José #1/100% shop/what? %41/x.sqlite"),
    PureWindowsPath(r"C:\lnpay\José #1\100% shop\x.sqlite"),
    PureWindowsPath(r"\\server\our files\x.sqlite"),
)


class TestAddressesOfFiles:
    @pytest.mark.parametrize("path", PATHS, ids=str)
    def test_a_path_survives_being_an_address(self, path: PurePath) -> None:
        assert make_url(sqlite_url(path)).database == str(path)
        assert str(sqlite_path(sqlite_url(path))) == str(path)

    @pytest.mark.parametrize("path", PATHS, ids=str)
    def test_sqlite_opens_a_path_and_no_host(self, path: PurePath) -> None:
        parts = urlsplit(sqlite_uri(path, "ro"))

        assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("file", "", "mode=ro", "")
        assert unquote(parts.path).removeprefix("/" if path.drive[:1].isalpha() else "") == path.as_posix()

    @pytest.mark.parametrize("name", ["what%3F #1 100%25", "what%3F%20#1%20100%"])
    def test_a_setting_names_the_file_that_is_used(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "what? #1 100%").mkdir()
        settings = load_settings({"STRIKE_API_KEY": "k", "DATABASE_URL": f"sqlite:///{tmp_path}/{name}/x.sqlite"})

        assert sqlite_path(settings.database_url) == tmp_path / "what? #1 100%" / "x.sqlite"

    @pytest.mark.parametrize(
        ("address", "words"),
        [
            ("sqlite:////tmp/what?/x.sqlite", "%3F"),
            ("sqlite:///x.sqlite?mode=ro", "%3F"),
            ("sqlite://folder/x.sqlite", "three slashes"),
            ("sqlite:////no/such/100%25/x.sqlite", "%25"),
            (f"sqlite:////no/such/{chr(0xDCE9)}/x.sqlite", "create the folder first"),
        ],
    )
    def test_an_address_that_would_mean_another_file_is_refused(self, address: str, words: str) -> None:
        with pytest.raises(SettingsError, match=words):
            load_settings({"STRIKE_API_KEY": "k", "DATABASE_URL": address})

    def test_a_folder_whose_name_is_no_text_is_refused(self) -> None:
        with pytest.raises(ValueError, match="rename the folder"):
            sqlite_url(PurePosixPath(f"/srv/{chr(0xDCE9)}/x.sqlite"))


class Shop:
    """A copy of the program in an odd folder, on a machine like Windows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = copy_program(folder)
        self.log = folder / "sandbox.log"

    def sell_and_pay(self, sandbox: RunningSandbox, order: str) -> str:
        """Strike's id of an order that was paid and whose shop knows."""
        answer = requests.post(
            f"{sandbox.url}/generate-invoice", json={"amount_fiat": "3", "correlation_id": order}, timeout=30
        )
        data = answer.json()["data"]
        sandbox.pay(data["quote"]["lnInvoice"])
        url = f"{sandbox.url}/invoices/{data['invoice']['invoiceId']}"
        assert wait_until(lambda: is_delivered(url), 30)
        return url

    def run(self, *arguments: str, database: Path) -> subprocess.CompletedProcess[str]:
        """Run a command on a database; what it prints goes into a pipe."""
        environ = {"STRIKE_API_KEY": "k", "LNPAY_ENV_FILE": os.devnull, "DATABASE_URL": sqlite_url(database)}
        return subprocess.run(
            [sys.executable, *arguments], cwd=self.folder, env={**os.environ, **WINDOWS, **environ},
            capture_output=True, encoding="cp1252", timeout=60,
        )  # fmt: skip


def is_delivered(url: str) -> bool:
    """Whether the shop has taken the message about an invoice."""
    return bool((requests.get(url, timeout=5).json()["delivery"] or {}).get("state") == "delivered")


@pytest.fixture(params=[name for name in ODD_FOLDERS if os.name != "nt" or not set(name) & set('?"')])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    return Shop(tmp_path / request.param)


def test_a_sandbox_sells_starts_empty_again_and_every_command_reads_its_database(shop: Shop, tmp_path: Path) -> None:
    with running_sandbox(shop.folder, shop.program, **WINDOWS) as first:
        order = shop.sell_and_pay(first, "Zażółć ☕ 1")
        (database,) = shop.folder.glob("sandbox-*.sqlite")
        assert list(tmp_path.rglob("*.sqlite")) == [database]
        backup = shop.folder / "Zażółć.sqlite"
        for command in (
            ("report", "--no-reconcile", "--from", "2020-01-01"), ("report", "--no-reconcile", "--csv"),
            ("deliveries", "list"), ("refunds", "list"), ("backup", str(backup)), ("doctor",), ("doctor", "--json"),
        ):  # fmt: skip
            done = shop.run("main.py", *command, database=database)
            assert "Traceback" not in done.stderr, (command, done.stderr)
            assert done.returncode == 0 or command[0] == "doctor", (command, done.stdout, done.stderr)
    with running_sandbox(shop.folder, shop.program, **WINDOWS, PORT=first.url.rpartition(":")[2]) as second:
        assert second.url == first.url
        assert requests.get(order, timeout=5).status_code == 404

    assert shop.run("main.py", "restore", str(backup), database=database).returncode == 0
    said = shop.log.read_text("cp1252").splitlines()
    assert [line for line in said if "EncodingWarning" in line and str(shop.program) in line] == []


def test_orders_in_any_script_are_reported_into_a_pipe_that_cannot_show_them(shop: Shop) -> None:
    with running_sandbox(shop.folder, shop.program, **WINDOWS) as sandbox:
        shop.sell_and_pay(sandbox, "₿ 1")
        (database,) = shop.folder.glob("sandbox-*.sqlite")

        for_people = shop.run("main.py", "report", "--no-reconcile", "--from", "2020-01-01", database=database)
        for_programs = shop.run(
            "main.py", "report", "--no-reconcile", "--json", "--from", "2020-01-01", database=database
        )

    assert "\\u20bf 1" in for_people.stdout
    lines = json.loads(for_programs.stdout.encode("cp1252"))
    assert "₿ 1" in json.dumps(lines, ensure_ascii=False)


@pytest.mark.skipif(os.name == "nt", reason="a shell and its pipes")
@pytest.mark.parametrize("buffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("command", ["main.py deliveries list", "main.py --help", "webhook_settings.py --help"])
def test_a_reader_that_closes_the_pipe_early_sees_no_error(tmp_path: Path, command: str, buffered: str) -> None:
    environ = {
        "STRIKE_API_KEY": "k", "LNPAY_ENV_FILE": os.devnull, "DATABASE_URL": sqlite_url(tmp_path / "x.sqlite"),
        "STRIKE_API_URL": "http://127.0.0.1:9/v1", "PYTHONUNBUFFERED": buffered,
    }  # fmt: skip
    reading, writing = os.pipe()
    os.close(reading)

    done = subprocess.run(
        [sys.executable, *command.split()], cwd=Path(__file__).resolve().parent.parent,
        env={**os.environ, **environ}, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=120,
    )  # fmt: skip
    os.close(writing)

    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


class TestLogFile:
    @pytest.fixture(autouse=True)
    def _give_output_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdout", sys.stdout)
        monkeypatch.setattr(sys, "stderr", sys.stderr)

    def test_everything_is_appended_in_utf_8_and_the_folder_is_made(self, tmp_path: Path) -> None:
        path = tmp_path / "logs" / "server.log"
        for word in ("first", "Zażółć ☕ \udce9"):
            set_up_console(path)
            print(word)
            print(f"{word}, an error", file=sys.stderr)

        assert path.read_text("utf-8").splitlines() == [
            "first", "first, an error", "Zażółć ☕ \\udce9", "Zażółć ☕ \\udce9, an error",
        ]  # fmt: skip

    def test_it_never_grows_without_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lnpay.runtime.console, "MAX_LOG_BYTES", 100)
        path = tmp_path / "server.log"
        set_up_console(path)

        for number in range(100):
            print(f"line {number}")

        assert path.stat().st_size < 120
        assert (tmp_path / "server.log.1").read_text().splitlines()[-1].startswith("line ")
        assert {one.name for one in tmp_path.iterdir()} == {"server.log", "server.log.1"}

    def test_one_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(LogFileUnusable, match="cannot write the log file"):
            set_up_console(tmp_path)

    def test_a_program_without_a_console_says_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdout", None)

        set_up_console()
        print("☕")

        sys.stdout.close()

    @pytest.mark.parametrize("script", ["main.py", "workers/main_worker.py"])
    def test_a_start_that_is_refused_says_why_in_the_log(self, tmp_path: Path, script: str) -> None:
        log = tmp_path / "a log.txt"
        root = Path(__file__).resolve().parent.parent

        done = subprocess.run(
            [sys.executable, root / script, "--log-file", log], cwd=tmp_path, capture_output=True, timeout=60,
            env={**os.environ, "LNPAY_ENV_FILE": os.devnull, "STRIKE_API_KEY": ""},
        )  # fmt: skip

        assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
        assert "STRIKE_API_KEY is missing" in log.read_text("utf-8")
