"""`python main.py --sandbox`: LNPay with a simulated world. The only module of LNPay that loads the simulator."""

from __future__ import annotations

import contextlib
import io
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from lnpay.commands.serve import serve
from lnpay.domain.model import Event
from lnpay.domain.settings import Settings
from lnpay.repository.maintenance.files import COMPANIONS
from lnpay.repository.maintenance.sqlite_url import sqlite_path
from lnpay.runtime.bootstrap import build_backend
from lnpay.runtime.listening import explain_trouble
from lnpay.sandbox.config import ACCOUNTS
from lnpay.sandbox.server import SandboxServer
from lnpay.sandbox.simulator import Simulator
from lnpay.strike.client import SUBSCRIBED_EVENTS


def serve_sandbox(settings: Settings, deliver: Callable[[Event], None], account: str = "bitcoin") -> int:
    """Serve with a simulated world on the next port and an empty database of its own. Returns the exit code.

    settings: point to the simulator, which listens on the port after `port`. deliver: the merchant's hook.
    account: the kind of account at Strike (sandbox/config.py: ACCOUNTS).
    """
    simulator = Simulator()
    simulator.config.update(ACCOUNTS[account])
    simulator.config.backend_url = f"http://127.0.0.1:{settings.port}"
    simulator.config.shop_currency = settings.currency
    simulator.config.backend_api_key = demo_shop_key = secrets.token_urlsafe(24)
    try:
        # Werkzeug prints its own message about a port in use; ours also says what to do.
        with contextlib.redirect_stderr(io.StringIO()):
            world = SandboxServer(simulator, settings.host, settings.port + 1)
    except (OSError, SystemExit) as error:
        print(explain_trouble(settings.host, settings.port + 1, error), file=sys.stderr)
        return 1
    _forget(settings.database_url)
    # For a browser on this machine: the address that it listens on may be 0.0.0.0.
    world_url = f"http://127.0.0.1:{settings.port + 1}"
    # Both use the simulator's clock, so that a payment can be late without waiting.
    backend = build_backend(
        settings, deliver, clock=simulator.clock.now, sandbox_url=world_url, demo_shop_key=demo_shop_key
    )
    with world:
        backend.strike.create_subscription(settings.webhook_url, settings.webhook_secret, SUBSCRIBED_EVENTS)
        lnpay_url = f"http://127.0.0.1:{settings.port}"
        print(f"Tour    {world_url}/  (start here)")
        print(f"Shop    {world_url}/shop\nWallet  {world_url}/wallet\nLedger  {world_url}/ledger")
        print(f"Faults  {world_url}/faults\nAPI     {lnpay_url}/docs")
        print(f"Admin   {lnpay_url}/admin (password: {settings.admin_password})")
        try:
            return serve(backend, settings, with_workers=True)
        finally:
            backend.close()


def _forget(database_url: str) -> None:
    """Start with an empty database, because the simulator starts empty too."""
    path = sqlite_path(database_url)
    assert path is not None  # noqa: S101 - the sandbox uses SQLite only
    for suffix in ("", *COMPANIONS):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
