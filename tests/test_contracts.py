"""The import contracts of pyproject.toml, and that each of them notices what it forbids."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of a tree."""
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([program, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of everything that the contracts speak about."""
    for name in ("lnpay", "config", "workers"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.mo", "static"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_contracts_are_kept(tree: Path) -> None:
    answer = lint(tree)

    assert answer.returncode == 0, answer.stdout
    assert "0 broken" in answer.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("lnpay/domain/money.py", "import lnpay.strike.client", "Rooms import downwards"),
        ("lnpay/repository/refunds.py", "import lnpay.refunds.send", "Rooms import downwards"),
        ("lnpay/invoices/settle.py", "import lnpay.monitoring.overview", "Rooms import downwards"),
        ("lnpay/runtime/backend.py", "import config.settings", "Workers read the settings"),
        ("lnpay/domain/states.py", "import sqlalchemy", "The domain stands on the standard library"),
        ("lnpay/refunds/send.py", "import sqlalchemy", "Only the repository speaks SQL"),
        ("lnpay/web/app.py", "import requests", "Use cases and pages make no calls"),
        ("lnpay/repository/invoices.py", "import requests", "Use cases and pages make no calls"),
        ("lnpay/monitoring/overview.py", "import flask", "Only the web knows Flask"),
        ("lnpay/sandbox/rates/prices.py", "import lnpay.strike.client", "The sandbox shares no code"),
        ("lnpay/sandbox/wallet.py", "import lnpay.sandbox.application", "The simulated world does not know"),
        ("lnpay/doctor/target.py", "import lnpay.sandbox.rates.prices", "One command loads the sandbox"),
        ("lnpay/commands/serve.py", "import lnpay.sandbox.rates.prices", "One command loads the sandbox"),
        ("lnpay/web/api/routes.py", "import lnpay.strike.client", "The web reaches providers"),
    ],
)
def test_an_import_that_is_not_permitted_is_named(tree: Path, module: str, line: str, contract: str) -> None:
    file = tree / module
    file.write_text(f"{file.read_text('utf-8')}\n{line}\n", "utf-8")

    answer = lint(tree)

    assert answer.returncode == 1
    assert [one for one in answer.stdout.splitlines() if one.startswith(contract) and "BROKEN" in one]


@pytest.mark.parametrize("name", ["lnpay/leftover.py", "lnpay/leftovers/__init__.py"])
def test_a_module_outside_of_every_room_is_named(tree: Path, name: str) -> None:
    file = tree / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("", "utf-8")

    answer = lint(tree)

    assert answer.returncode == 1
    assert "leftover" in answer.stdout
