"""The scripts as people start them: without their packages, and on hosts and ports of every legal kind."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from lnpay.monitoring.exposure import why_api_is_open
from lnpay.runtime.listening import (
    explain_trouble,
    find_pair_of_ports,
    local_url_of,
    url_of,
)
from lnpay.runtime.packages import PACKAGES, SANDBOX_PACKAGES
from lnpay.runtime.version import version
from tests.checkout import copy_program
from tests.scenarios.live import ROOT, environment
from tests.sources import FILES, imports

SCRIPTS = (
    "main.py",
    "webhook_settings.py",
    *(f"workers/{path.name}" for path in (ROOT / "workers").glob("*_worker.py")),
)


def without_packages(*arguments: str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a Python that knows the standard library alone."""
    return subprocess.run(
        [sys.executable, "-S", "-E", *arguments], cwd=root, capture_output=True, text=True, timeout=60
    )


class TestWithoutPackages:
    @pytest.mark.parametrize("arguments", [*((script,) for script in SCRIPTS), ("-m", "lnpay.sandbox")])
    def test_every_script_says_what_to_run(self, arguments: tuple[str, ...]) -> None:
        done = without_packages(*arguments)

        assert done.returncode == 1
        assert "LNPay's packages are not installed" in done.stderr
        assert f'-m pip install -r "{ROOT / "requirements.txt"}"' in done.stderr
        assert "Traceback" not in done.stderr

    def test_where_there_is_no_environment_it_says_how_to_make_one(self, tmp_path: Path) -> None:
        program = copy_program(tmp_path / "a shop")

        done = without_packages("main.py", "--sandbox", root=program)

        venv = program / ".venv"
        assert f'"{sys.executable}" -m venv "{venv}"' in done.stderr
        assert str(venv / "bin" / "python") in done.stderr or sys.platform == "win32"

    def test_where_there_is_one_it_says_to_use_it(self, tmp_path: Path) -> None:
        program = copy_program(tmp_path)
        python = program / ".venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        python.parent.mkdir(parents=True)
        python.touch()

        done = without_packages("main.py", root=program)

        assert f'Start it with "{python}"' in done.stderr

    def test_a_secret_can_be_made_without_them(self) -> None:
        assert re.fullmatch(r"\w{32}\n", without_packages("key_generator.py").stdout)

    def test_an_old_python_is_named(self) -> None:
        program = "import sys; sys.version_info = (3, 9, 2); from lnpay.runtime.packages import *; check_packages()"

        done = without_packages("-c", program)

        assert done.stderr.startswith("LNPay needs Python 3.11 or newer")

    def test_every_package_that_is_imported_is_looked_for(self) -> None:
        ours = {"config", "lnpay", "workers"}

        def foreign(*, of_sandbox: bool) -> set[str]:
            return {
                top
                for name in FILES
                if name.startswith("lnpay.sandbox") is of_sandbox
                for one in imports(name)
                if (top := one.partition(".")[0]) not in {*sys.stdlib_module_names, *ours, "main"}
            }

        # SQLAlchemy imports psycopg; the others come with those that are looked for, or with type checkers.
        brought = {"_typeshed", "markupsafe", "typing_extensions", "urllib3"}
        assert foreign(of_sandbox=False) - brought == set(PACKAGES) - {"psycopg"}
        assert foreign(of_sandbox=True) - brought == set(SANDBOX_PACKAGES)


def can_listen(host: str) -> bool:
    """Whether this machine has the address; not every container has IPv6."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True


HOSTS = [
    ("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("localhost", "localhost"), ("::1", "[::1]"),  # noqa: S104
    ("[::1]", "[::1]"), ("::", "[::]"), ('"::1"', "[::1]"),
]  # fmt: skip
"""As HOST is written, and as it is printed."""


class TestListening:
    @pytest.mark.parametrize(("host", "printed"), [pair for pair in HOSTS if can_listen(pair[0].strip('[]"'))])
    def test_what_is_printed_is_what_is_served(self, tmp_path: Path, host: str, printed: str) -> None:
        settings = environment("http://127.0.0.1:9", f"sqlite:///{tmp_path}/x.sqlite", 0, HOST=host, WEBHOOK_URL="")
        process = subprocess.Popen(
            [sys.executable, "main.py"], cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.fullmatch(r"LNPay listens on http://(.+):(\d+) \(Ctrl-C to stop\)\n", line)
            assert found is not None, line
            assert found[1] == printed
            assert requests.get(f"{local_url_of(found[1].strip('[]'), int(found[2]))}/healthz", timeout=10).ok
        finally:
            process.terminate()
            process.communicate(timeout=60)

    @pytest.mark.parametrize(
        ("host", "words"), [("203.0.113.7", "HOST=203.0.113.7 is not"), ("no.such.host.invalid", "HOST=no.such.host")]
    )
    def test_a_host_of_another_machine_is_named(self, tmp_path: Path, host: str, words: str) -> None:
        settings = environment("http://127.0.0.1:9", f"sqlite:///{tmp_path}/x.sqlite", 5000, HOST=host)

        done = subprocess.run(
            [sys.executable, "main.py"], cwd=ROOT, env=settings, capture_output=True, text=True, timeout=60
        )

        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr

    def test_each_trouble_has_its_own_advice(self) -> None:
        assert "from 1024 on" in explain_trouble("127.0.0.1", 80, PermissionError(13, "Permission denied"))
        assert "[::1]:5000: Address in use" in explain_trouble("::1", 5000, OSError(98, "Address in use"))
        assert "choose another with PORT=5050" in explain_trouble("::1", 5000, SystemExit(1))

    def test_addresses_of_ipv6_are_in_brackets(self) -> None:
        assert url_of("fe80::1%eth0", 5000) == "http://[fe80::1%25eth0]:5000"
        assert local_url_of("::", 5000) == "http://[::1]:5000"
        assert why_api_is_open("::1", "", has_keys=False) is None
        assert why_api_is_open("::", "", has_keys=False) is not None

    def test_two_ports_in_a_row_are_found_for_the_sandbox(self) -> None:
        first = find_pair_of_ports("127.0.0.1")

        with socket.create_server(("127.0.0.1", first)), socket.create_server(("127.0.0.1", first + 1)):
            pass

    def test_a_sandbox_has_no_room_on_the_last_port(self, tmp_path: Path) -> None:
        settings = environment("http://127.0.0.1:9", "", 65_535)

        done = subprocess.run(
            [sys.executable, "main.py", "--sandbox"], cwd=ROOT, env=settings, capture_output=True, text=True, timeout=60
        )

        assert done.returncode == 1
        assert "PORT must be less than 65535" in done.stderr


def test_the_version_is_said_without_any_settings() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "main.py", "--version"],
        env={"LNPAY_ENV_FILE": os.devnull, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stdout) == (0, f"LNPay {version()}\n")
