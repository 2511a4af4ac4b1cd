"""How long the server takes from start to first answer."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Figure, seconds_of, take_turns
from bench.processes import lnpay, provider

ROUNDS = 5
AIM_SECONDS = 1.5


def start_server(provider_url: str, folder: Path) -> float:
    """Seconds until the first answer."""

    def start() -> None:
        with_server.__enter__()

    with_server = lnpay(provider_url, folder)
    seconds = seconds_of(start)
    with_server.__exit__(None, None, None)
    return seconds


def start_on_new_database(provider_url: str) -> float:
    """The same with tables to create."""
    with tempfile.TemporaryDirectory() as folder:
        return start_server(provider_url, Path(folder))


def import_flask() -> None:
    """The import that every Flask program needs."""
    subprocess.run([sys.executable, "-c", "import flask"], check=True)


def measure() -> Iterator[Figure]:
    """Start to first answer, with existing tables and with a new database."""
    with tempfile.TemporaryDirectory() as folder, provider() as provider_url:
        start_server(provider_url, Path(folder))
        again, first, floor = take_turns(
            ROUNDS,
            lambda: start_server(provider_url, Path(folder)),
            lambda: start_on_new_database(provider_url),
            lambda: seconds_of(import_flask),
        )
    floor_name = 'python -c "import flask"'
    for name, seconds in (("start to first answer", again), ("the same, new database", first)):
        is_met = seconds < AIM_SECONDS
        yield Figure(name, seconds * 1000, "ms", floor * 1000, floor_name, f"< {AIM_SECONDS * 1000:.0f} ms", is_met)
