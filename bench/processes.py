"""The measured programs, each in a separate process as in production."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parents[1]

START_SECONDS = 30.0
POLL_SECONDS = 0.002

BARE_SERVER = """
import sys, flask, waitress
app = flask.Flask("bare")
app.add_url_rule("/healthz", view_func=lambda: {"status": "ok"})
waitress.serve(app, host="127.0.0.1", port=int(sys.argv[1]), threads=16)
"""


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(*command: str, port: int, environ: dict[str, str] | None = None) -> Iterator[int]:
    """Run python with these arguments until the end of the block; gives its process id once it answers on `port`."""
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for_answer(port, process)
        yield process.pid
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _wait_for_answer(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
                if connection.recv(1):
                    return
        except OSError:
            time.sleep(POLL_SECONDS)
    raise RuntimeError(f"{process.args!r} did not answer; its exit code: {process.poll()}")


@contextmanager
def provider() -> Iterator[str]:
    """A simulated provider without rate limits; gives its URL."""
    port = free_port()
    with running("-m", "lnpay.sandbox", "--port", str(port), "--rate-limits", "off", port=port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def delayed(provider_url: str, path_pattern: str, seconds: float) -> Iterator[None]:
    """Make the provider wait before it answers calls whose path matches."""
    fault = {"kind": "delay", "path_pattern": path_pattern, "seconds": seconds, "times": None}
    requests.post(f"{provider_url}/_control/faults", json=fault, timeout=5).raise_for_status()
    try:
        yield
    finally:
        requests.delete(f"{provider_url}/_control/faults", timeout=5)


def environment(provider_url: str, folder: Path, port: int, **changes: str) -> dict[str, str]:
    """The environment of LNPay's programs beside a provider, with their database in `folder`."""
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT", "TEMP") if name in os.environ},
        "STRIKE_API_KEY": "a-key-of-the-bench",
        "WEBHOOK_SECRET": "a-secret-of-the-bench",
        "STRIKE_API_URL": f"{provider_url}/v1",
        "COINGECKO_API_URL": f"{provider_url}/coingecko/api/v3",
        "COINBASE_API_URL": f"{provider_url}/coinbase/v2",
        "DELIVERY_URL": f"{provider_url}/shop/webhook",
        "DATABASE_URL": f"sqlite:///{folder.as_posix()}/invoices.sqlite",
        "PORT": str(port),
        **changes,
    }


@contextmanager
def lnpay(provider_url: str, folder: Path, **changes: str) -> Iterator[tuple[str, int]]:
    """LNPay's server, with `changes` to its environment; gives its URL and its process id."""
    port = free_port()
    with running("main.py", port=port, environ=environment(provider_url, folder, port, **changes)) as pid:
        yield f"http://127.0.0.1:{port}", pid


def resident_mib(pid: int) -> float:
    """The resident memory of a process."""
    answer = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=True, text=True)  # noqa: S607
    return int(answer.stdout) / 1024
