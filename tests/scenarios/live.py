"""LNPay as other programs see it: behind real sockets, in a thread of the test or in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import requests
from werkzeug.serving import WSGIRequestHandler, make_server

from config.delivery import deliver
from lnpay.http.outgoing import pooled_session
from lnpay.runtime.backend import Backend
from lnpay.runtime.bootstrap import build_backend
from lnpay.sandbox import SandboxServer
from lnpay.sandbox.server import wait_until
from lnpay.web import create_app
from tests.sandbox_process import free_ports
from tests.world import WEBHOOK_SECRET, world_settings

ROOT = Path(__file__).resolve().parents[2]

START_SECONDS = 20.0
"""For a process to start, on a machine that does other things too."""


def free_port() -> int:
    """A free port."""
    return free_ports()


def build_live_backend(provider_url: str, database_url: str, clock: Callable[[], datetime], **changes: Any) -> Backend:
    """A backend that reaches the provider at `provider_url` over real HTTP."""
    settings = world_settings(
        database_url,
        strike_api_url=f"{provider_url}/v1",
        coingecko_api_url=f"{provider_url}/coingecko/api/v3",
        coinbase_api_url=f"{provider_url}/coinbase/v2",
        delivery_url=f"{provider_url}/shop/webhook",
        **changes,
    )
    session = pooled_session()
    session.trust_env = False
    return build_backend(settings, deliver, clock=clock, session=session)


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:
        """Log nothing: the backend has its own log."""


@contextmanager
def serving(backend: Backend, port: int = 0, *, is_sending: bool = True) -> Iterator[str]:
    """Serve a backend from threads of this process. Gives its URL; closes the backend at the end.

    is_sending: also tell the shop what is due and send refunds; without it that is left to workers.
    """
    server = make_server("127.0.0.1", port, create_app(backend), threaded=True, request_handler=_Handler)
    server.daemon_threads = True  # type: ignore[attr-defined]
    server.block_on_close = False  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    senders = [backend.delivery_dispatcher, backend.refund_dispatcher] if is_sending else []
    for sender in senders:
        sender.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        backend.stop.set()
        for sender in senders:
            sender.join()
        server.shutdown()
        thread.join(10)
        server.server_close()
        backend.close()


def environment(provider_url: str, database_url: str, port: int, **changes: str) -> dict[str, str]:
    """The environment of a program of ours beside a simulator."""
    return {
        **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR", "LANG")},
        "LNPAY_ENV_FILE": os.devnull,
        "STRIKE_API_KEY": "a-key-of-the-tests",
        "WEBHOOK_SECRET": WEBHOOK_SECRET,
        "WEBHOOK_URL": f"http://127.0.0.1:{port}/webhook",
        "STRIKE_API_URL": f"{provider_url}/v1",
        "COINGECKO_API_URL": f"{provider_url}/coingecko/api/v3",
        "COINBASE_API_URL": f"{provider_url}/coinbase/v2",
        "DELIVERY_URL": f"{provider_url}/shop/webhook",
        "DATABASE_URL": database_url,
        "LOG_LEVEL": "warning",
        "PORT": str(port),
        **changes,
    }


@contextmanager
def main_process(provider_url: str, database_url: str, log: Path, **changes: str) -> Iterator[str]:
    """Run `python main.py` until the end of the block; gives its URL. Its output goes to the file `log`."""
    with main_process_in(ROOT, provider_url, database_url, log, **changes) as url:
        yield url


@contextmanager
def main_process_in(root: Path, provider_url: str, database_url: str, log: Path, **changes: str) -> Iterator[str]:
    """The same with the program in the folder `root`: another version, perhaps."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "main.py"],
            cwd=root,
            env=environment(provider_url, database_url, port, **changes),
            stdout=output,
            stderr=output,
        )
        try:
            assert wait_until(lambda: process.poll() is not None or is_up(url), START_SECONDS), log.read_text()
            assert process.poll() is None, log.read_text()
            yield url
        finally:
            process.terminate()
            try:
                assert process.wait(30) == 0
            finally:
                process.kill()


def is_up(url: str) -> bool:
    """Whether something answers at `url`."""
    try:
        return requests.get(f"{url}/healthz", timeout=2).ok
    except requests.RequestException:
        return False


def subscribe(server: SandboxServer, url: str, events: Iterable[str] = ("invoice.updated",)) -> None:
    """Subscribe LNPay at `url` to the provider's webhooks, with the given secret."""
    requests.post(
        f"{server.url}/v1/subscriptions",
        headers={"Authorization": "Bearer a-key-of-the-tests"},
        json={
            "webhookUrl": f"{url}/webhook",
            "webhookVersion": "v1",
            "secret": WEBHOOK_SECRET,
            "enabled": True,
            "eventTypes": list(events),
        },
        timeout=5,
    ).raise_for_status()


def ask(url: str, session: requests.Session | None = None, **fields: Any) -> requests.Response:
    """POST /generate-invoice for 12.34, with `fields` changed or added. Without a session the connection is closed."""
    post = (session or requests).post
    headers = {} if session else {"Connection": "close"}
    return post(f"{url}/generate-invoice", json={"amount_fiat": "12.34", **fields}, headers=headers, timeout=30)
