"""Schemathesis reads /openapi.json and looks for violations: all checks, all phases."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import update
from waitress.server import create_server

from lnpay.repository import tables
from lnpay.web import create_app
from lnpay.web.greenfield.answers import STORE_ID
from tests.world import World

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).with_name("schemathesis.toml")
KEY = "a-shop-key-for-the-tests"
EXAMPLES = 12
"""For each route in each phase, beside the several hundred that its coverage phase always tries."""


@contextmanager
def served(world: World) -> Iterator[str]:
    """The world's app behind the server of production. A second passes with every request.

    Its store is that of the document's examples.
    """
    with world.backend.repository.transaction() as tx:
        tx.installation.make_store_id()
    with world.backend.repository.engine.begin() as connection:
        connection.execute(update(tables.installation).values(store_id=STORE_ID))
    app = create_app(world.backend)
    turn = threading.Lock()

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with turn:
            world.wait(1)
        return app(environ, start_response)

    server: Any = create_server(answer, host="127.0.0.1", port=0, threads=4)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}"
    finally:
        # Closing it from another thread would take the sockets away under the loop's feet.
        server.trigger.pull_trigger(server.close)
        thread.join(10)


def attack(url: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run schemathesis with all checks on, the same examples each time."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{url}/openapi.json"]
    return subprocess.run(
        [
            *command,
            "--checks=all",
            "--warnings=off",
            f"--max-examples={EXAMPLES}",
            "--seed=1",
            "--generation-database=none",
            *more,
        ],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.web.signed_calls",
            "NO_PROXY": "127.0.0.1",
            "NO_COLOR": "1",
        },
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_it_finds_nothing(make_world: Callable[..., World], tmp_path: Path) -> None:
    with served(make_world(api_keys=(KEY,))) as url:
        found = attack(url, tmp_path, f"--header=Authorization: Bearer {KEY}")

    assert_nothing(found)


def test_it_finds_nothing_in_a_currency_of_other_decimals(make_world: Callable[..., World], tmp_path: Path) -> None:
    with served(make_world(currency="kwd")) as url:
        found = attack(url, tmp_path, "--include-path=/generate-invoice", "--phases=examples,coverage")

    assert_nothing(found)


def assert_nothing(found: subprocess.CompletedProcess[str]) -> None:
    """Check that it ran to its end and has nothing to say."""
    assert found.returncode == 0, found.stdout + found.stderr
    assert "No issues found" in found.stdout, found.stdout
