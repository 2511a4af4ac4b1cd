"""Serve LNPay.

python main.py                          serve, with the settings of config/.env
python main.py --with-workers           the same, and do the workers' passes inside (for people without cron)
python main.py --sandbox                no key, no account: a simulated Strike, a demo shop and a wallet beside it
python main.py deliveries list          messages that the shop has not taken, and why
python main.py redeliver ORDER          send the shop the messages about an order again
python main.py doctor                   look at every part, and say what is wrong and what to do
python main.py refunds list             refunds that are not sent yet, and why; see also refunds --help
python main.py keys list                API keys of shops; see also keys --help
python main.py report                   what came in and went back last month, and whether Strike agrees
python main.py backup FILE              copy the database while it is in use; restore FILE puts it back
python main.py copy-database URL        from SQLite to PostgreSQL, compared value by value
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import secrets
import sys
from pathlib import Path

from lnpay.runtime.packages import check_packages

check_packages()

from config.settings import Settings, SettingsError, load_settings
from lnpay.commands import add_commands
from lnpay.deliveries.hook import load_deliver
from lnpay.domain.errors import LnpayError
from lnpay.monitoring.exposure import why_api_is_open
from lnpay.repository.maintenance.files import COMPANIONS
from lnpay.repository.maintenance.sqlite_url import sqlite_path
from lnpay.runtime.backend import Backend
from lnpay.runtime.bootstrap import build_backend
from lnpay.runtime.console import add_log_file, set_up_console
from lnpay.runtime.listening import (
    explain_trouble,
    find_pair_of_ports,
    find_port,
    url_of,
)
from lnpay.runtime.logs import set_up_logging
from lnpay.runtime.signals import call_on_signals
from lnpay.runtime.worker_passes import start_timekeeper, start_workers
from lnpay.strike.client import SUBSCRIBED_EVENTS
from lnpay.web import create_app
from lnpay.web.customer.checkout import BOARD
from lnpay.web.serving import make_server, run_until

log = logging.getLogger(__name__)

LAST_PORT = 65_535

SHOP_SETTINGS = (
    "API_KEYS", "CORS_ORIGINS", "CURRENCY", "DELIVERY_EVENTS", "DELIVERY_SECRET", "DELIVERY_URL", "LOG_FORMAT",
    "LOG_LEVEL", "METRICS_TOKEN", "TIME_OFFSET",
)  # fmt: skip
"""What a sandbox takes from the environment: with them it is the backend of a shop that is being built."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    set_up_console()
    options = _parse(arguments)
    try:
        set_up_console(options.log_file)
        if options.sandbox:
            return _serve_sandbox()
        settings = load_settings()
        set_up_logging(settings.log_level, settings.log_format)
        if options.on_settings is not None:
            return int(options.on_settings(settings, options))
        backend = build_backend(settings, load_deliver(settings.hook_files))
    except SettingsError as error:
        return _refuse(error, options)
    except LnpayError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        if options.command is None:
            return serve(backend, settings, with_workers=options.with_workers)
        return int(options.command(backend, options))
    except LnpayError as error:
        print(error.message, file=sys.stderr)
        return 1
    finally:
        backend.close()


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="LNPay: Lightning payments for a shop, through Strike.")
    parser.add_argument("--sandbox", action="store_true", help="try everything out: no key, no account, no money")
    parser.add_argument("--with-workers", action="store_true", help="do the workers' passes inside this process")
    add_log_file(parser)
    parser.set_defaults(command=None, on_settings=None, on_wrong_settings=None)
    add_commands(parser.add_subparsers(metavar="COMMAND"))
    return parser.parse_args(arguments)


def _refuse(error: SettingsError, options: argparse.Namespace) -> int:
    """Say what is wrong with the settings, in the form that the command has for it."""
    if options.on_wrong_settings is not None:
        return int(options.on_wrong_settings(error.problems, options))
    print(error, file=sys.stderr)
    return 1


def serve(backend: Backend, settings: Settings, *, with_workers: bool) -> int:
    """Answer requests until SIGTERM or Ctrl-C; then finish what is in hand."""
    app = create_app(backend)
    try:
        port = find_port(settings.host, settings.port)
        server = make_server(app, settings.host, port, app.extensions[BOARD].is_fresh)
    except (OSError, ValueError) as error:
        print(explain_trouble(settings.host, settings.port, error), file=sys.stderr)
        return 1
    call_on_signals(backend.stop.set, second="kills")
    backend.issuer.rates.warm_up()
    start_timekeeper(backend)
    backend.delivery_dispatcher.start()
    backend.refund_dispatcher.start()
    if with_workers:
        start_workers(backend)
    why = why_api_is_open(settings.host, settings.webhook_url, settings.api_keys)
    if why is not None:
        log.warning("ANYONE MAY MAKE INVOICES FOR YOUR ORDERS: %s. Set API_KEYS (python key_generator.py)", why)
    print(f"LNPay listens on {url_of(settings.host, port)} (Ctrl-C ends it)", flush=True)
    try:
        run_until(server, backend.stop)
    finally:
        backend.stop.set()
        backend.delivery_dispatcher.join()
        backend.refund_dispatcher.join()
        server.close()
    return 0


def _serve_sandbox() -> int:
    """Serve beside a simulated world on the next port, with a database of its own that starts empty."""
    # A shop in production never loads this part.
    from lnpay.sandbox.server import SandboxServer
    from lnpay.sandbox.simulator import Simulator

    settings = _sandbox_settings()
    deliver = load_deliver(settings.hook_files)
    set_up_logging(settings.log_level, settings.log_format)
    simulator = Simulator()
    simulator.config.backend_url = f"http://127.0.0.1:{settings.port}"
    simulator.config.shop_currency = settings.currency
    simulator.config.backend_api_key = next(iter(settings.api_keys), "")
    try:
        # Werkzeug prints two lines of its own about a port that is taken; ours also says what to do.
        with contextlib.redirect_stderr(io.StringIO()):
            world = SandboxServer(simulator, port=settings.port + 1)
    except (OSError, SystemExit) as error:
        print(explain_trouble("127.0.0.1", settings.port + 1, error), file=sys.stderr)
        return 1
    _forget(settings.database_url)
    # Both live by the simulator's clock, so that a payment can come too late without anybody waiting for it.
    backend = build_backend(settings, deliver, clock=simulator.clock.now, sandbox_url=world.url)
    with world:
        backend.strike.create_subscription(settings.webhook_url, settings.webhook_secret, SUBSCRIBED_EVENTS)
        lnpay_url = f"http://127.0.0.1:{settings.port}"
        print(f"Tour    {world.url}/  (start here)")
        print(f"Shop    {world.url}/shop\nWallet  {world.url}/wallet\nLedger  {world.url}/ledger")
        print(f"Faults  {world.url}/faults\nAPI     {lnpay_url}/docs")
        print(f"Admin   {lnpay_url}/admin (password: {settings.admin_password})")
        try:
            return serve(backend, settings, with_workers=True)
        finally:
            backend.close()


def _sandbox_settings() -> Settings:
    """Settings that need no `.env` and reach nothing but this machine.

    PORT chooses the two ports; SHOP_SETTINGS in the environment are for trying out a shop of one's own.
    """
    key, no_file = "sandbox-key", Path("no-such-file")
    port = load_settings({"STRIKE_API_KEY": key, "PORT": os.environ.get("PORT", "")}, no_file).port
    if port == LAST_PORT:
        raise SettingsError([f"PORT must be less than {LAST_PORT} here: the simulator listens on the next one"])
    port = port or find_pair_of_ports("127.0.0.1")
    world = f"http://127.0.0.1:{port + 1}"
    environ = {
        "STRIKE_API_KEY": key,
        "STRIKE_API_URL": f"{world}/v1",
        "WEBHOOK_SECRET": "sandbox-webhook-secret",
        "WEBHOOK_URL": f"http://127.0.0.1:{port}/webhook",
        "COINGECKO_API_URL": f"{world}/coingecko/api/v3",
        "COINBASE_API_URL": f"{world}/coinbase/v2",
        "DELIVERY_URL": f"{world}/shop/webhook",
        # One file for each port: a second sandbox must not empty the first one's.
        "DATABASE_URL": f"sqlite:///sandbox-{port}.sqlite",
        "PORT": str(port),
        "ADMIN_PASSWORD": secrets.token_urlsafe(12),
    }
    given = {name: os.environ[name] for name in SHOP_SETTINGS if os.environ.get(name)}
    return load_settings({**environ, **given}, no_file)


def _forget(database_url: str) -> None:
    """Begin with an empty database: the simulator remembers nothing of the last time either."""
    path = sqlite_path(database_url)
    assert path is not None  # noqa: S101 - the sandbox has no other database
    for suffix in ("", *COMPANIONS):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
