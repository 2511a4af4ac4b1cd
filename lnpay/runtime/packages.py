"""A clear error where LNPay is started without the packages that it needs. Imports nothing but the standard library."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

OLDEST_PYTHON = (3, 11)
PACKAGES = (
    "PIL", "alembic", "babel", "dotenv", "flask", "flask_babel", "flask_cors", "idna", "prometheus_client", "psycopg",
    "pydantic", "qrcode", "requests", "rich", "sqlalchemy", "waitress", "werkzeug",
)  # fmt: skip
"""The packages of requirements.txt that a server imports."""

SANDBOX_PACKAGES = ("coincurve", "flask", "requests", "werkzeug")
"""What the sandbox imports."""

_ROOT = Path(__file__).resolve().parents[2]


def check_packages(names: tuple[str, ...] = PACKAGES) -> None:
    """Return when this Python can run LNPay. Otherwise exit, with the command to run. Call it before other imports."""
    if sys.version_info < OLDEST_PYTHON:
        wanted, here = ".".join(map(str, OLDEST_PYTHON)), ".".join(map(str, sys.version_info[:3]))
        sys.exit(f"LNPay needs Python {wanted} or newer; {sys.executable} is Python {here}.")
    missing = [name for name in names if not _is_installed(name)]
    if missing:
        sys.exit(
            f"LNPay's packages are not installed for {sys.executable} (missing: {', '.join(missing)}).\n{_advice()}"
        )


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # a module without a spec took its place
        return False


def _advice() -> str:
    folder = "Scripts" if sys.platform == "win32" else "bin"
    own = _ROOT / ".venv" / folder / ("python.exe" if sys.platform == "win32" else "python")
    install = f'"{own}" -m pip install -r "{_ROOT / "requirements.txt"}"'
    if own.exists() and Path(sys.prefix).resolve() != (_ROOT / ".venv").resolve():
        return f'Start it with "{own}", or install them there:\n  {install}'
    if own.exists():
        return f"Install them:\n  {install}"
    return f'Install them:\n  "{sys.executable}" -m venv "{_ROOT / ".venv"}"\n  {install}\nThen start it with "{own}".'
