"""How long the README's two commands take, from the clone to a shop that was notified of a payment."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Figure, seconds_of
from tests.first_sale import first_sale
from tests.sandbox_process import ROOT

AIM_SECONDS = 20
PIP = "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"


def install(folder: Path) -> None:
    """The minimum of any installation: a virtual environment with the packages."""
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(python), *PIP, "-r", str(ROOT / "requirements.txt")], check=True)


def measure() -> Iterator[Figure]:
    """One sale. The floor is measured first and fills pip's cache, so neither figure includes downloads."""
    with tempfile.TemporaryDirectory() as folder:
        install(Path(folder) / "first")
        floor = seconds_of(lambda: install(Path(folder) / "floor"))
        sale = first_sale(Path(folder) / "shop")
    name = "python -m venv, and pip install of requirements.txt"
    yield Figure(
        "clone to first sale", sale.seconds, "s", floor, name, f"< {AIM_SECONDS} s", sale.seconds < AIM_SECONDS
    )
