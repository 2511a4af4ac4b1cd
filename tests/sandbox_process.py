"""`python main.py --sandbox` as a developer starts it, and what people do in it."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from lnpay.sandbox.server import wait_until

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0

PORTS = range(20_000, 32_000)
"""Below those that the system gives to outgoing connections: one of these could be taken before it is used."""


@dataclass(frozen=True)
class RunningSandbox:
    """A sandbox in a process of its own: LNPay at `url`, the simulated world at `world`."""

    url: str
    world: str

    def pay(self, payment_request: str, *, late: bool = False) -> None:
        """The customer's wallet pays; late: after the time to pay, which the sandbox's clock lets pass."""
        body = {"payment_request": payment_request, "late_seconds": 150 if late else 0}
        requests.post(f"{self.world}/_control/pay", json=body, timeout=30).raise_for_status()

    def wait(self, seconds: float) -> None:
        """Let the sandbox's clock pass some time."""
        requests.post(f"{self.world}/_control/clock/advance", json={"seconds": seconds}, timeout=30).raise_for_status()


@contextmanager
def running_sandbox(
    folder: Path, program: Path = ROOT, files: int | None = None, /, **environment: str
) -> Iterator[RunningSandbox]:
    """Start a sandbox whose log is in `folder`; `environment` is what the developer has set.

    program: the copy of LNPay to run; its database is there. files: how many it may open, where that is limited.
    """
    port = int(environment.get("PORT") or free_ports(2))
    sandbox = RunningSandbox(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}")
    log = folder / "sandbox.log"
    limit = [] if files is None else ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*limit, sys.executable, str(program / "main.py"), "--sandbox"],
            env={**os.environ, **environment, "PORT": str(port), "PYTHONUNBUFFERED": "1"},
            cwd=folder,
            stdout=output,
            stderr=output,
        )
        try:
            assert wait_until(lambda: process.poll() is not None or is_up(sandbox.url), START_SECONDS), log.read_text()
            assert process.poll() is None, log.read_text()
            yield sandbox
        finally:
            process.terminate()
            process.wait(60)


def is_up(url: str) -> bool:
    """Whether something answers at `url`."""
    try:
        requests.get(url, timeout=5)
    except requests.RequestException:
        return False
    return True


def free_ports(count: int = 1) -> int:
    """The first of `count` consecutive free ports."""
    while True:
        first = random.SystemRandom().choice(PORTS)
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
