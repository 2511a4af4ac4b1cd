"""How long a worker's pass takes if there is nothing to do."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Figure, seconds_of, take_turns
from bench.processes import ROOT, environment, free_port, provider

ROUNDS = 7
AIM_SECONDS = 1.0


def run(*command: str, environ: dict[str, str]) -> None:
    """Run python until it ends."""
    subprocess.run([sys.executable, *command], cwd=ROOT, env=environ, check=True, capture_output=True)


def measure() -> Iterator[Figure]:
    """`python workers/main_worker.py` from start to end, as cron does it."""
    with tempfile.TemporaryDirectory() as folder, provider() as provider_url:
        environ = environment(provider_url, Path(folder), free_port())
        run("workers/main_worker.py", environ=environ)
        value, floor = take_turns(
            ROUNDS,
            lambda: seconds_of(lambda: run("workers/main_worker.py", environ=environ)),
            lambda: seconds_of(lambda: run("-c", "pass", environ=environ)),
        )
    yield Figure(
        "one idle worker pass", value * 1000, "ms", floor * 1000, "python -c pass",
        f"< {AIM_SECONDS * 1000:.0f} ms", value < AIM_SECONDS,
    )  # fmt: skip
