"""`python main.py`: serve requests until the process is stopped."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

from lnpay.access.api_keys import has_keys
from lnpay.deliveries.hook import load_deliver
from lnpay.domain.errors import LnpayError, StorageUnavailable
from lnpay.domain.settings import Settings
from lnpay.monitoring.exposure import why_api_is_open
from lnpay.runtime.backend import Backend
from lnpay.runtime.bootstrap import build_backend
from lnpay.runtime.listening import explain_trouble, find_port, url_of
from lnpay.runtime.processes import ServerProcesses, can_fork, open_sockets
from lnpay.runtime.signals import call_on_signals
from lnpay.runtime.worker_passes import start_timekeeper, start_workers
from lnpay.web import create_app
from lnpay.web.customer.checkout import STATUS_CACHE
from lnpay.web.serving import make_server, run_until

log = logging.getLogger(__name__)


def serve(backend: Backend, settings: Settings, *, with_workers: bool) -> int:
    """Serve requests until SIGTERM or Ctrl-C, then finish the work in progress."""
    app = create_app(backend)
    try:
        port = find_port(settings.host, settings.port)
        server = make_server(app, settings.host, port, app.extensions[STATUS_CACHE].is_fresh)
    except (OSError, ValueError) as error:
        return _refuse_address(settings, error)
    call_on_signals(backend.stop.set, second="kills")
    _start_threads(backend, with_workers=with_workers)
    _warn_if_open(backend, settings)
    _say_listening(settings, port)
    _run(backend, server)
    return 0


def serve_in_processes(settings: Settings, *, with_workers: bool, has_log_file: bool) -> int:
    """Serve requests in as many processes as WORKERS says, until SIGTERM or Ctrl-C. Returns the exit code.

    with_workers: the first process also runs the workers' passes.
    """
    if not can_fork():
        print("WORKERS must be 1 on this system: start several servers, each with its own PORT", file=sys.stderr)
        return 1
    if has_log_file:
        print("--log-file is for a single process: set WORKERS=1, or redirect the output instead", file=sys.stderr)
        return 1
    try:
        port = find_port(settings.host, settings.port)
        sockets = open_sockets(settings.host, port)
    except (OSError, ValueError) as error:
        return _refuse_address(settings, error)

    def serve_one(number: int, say_ready: Callable[[], None]) -> int:
        try:
            backend = replace(build_backend(settings, load_deliver(settings.hook_files)), process=number)
        except LnpayError as error:
            print(error.message, file=sys.stderr)
            return 1
        with closing(backend):
            app = create_app(backend)
            server = make_server(app, settings.host, port, app.extensions[STATUS_CACHE].is_fresh, sockets=sockets)
            # The parent passes a signal on, and systemd sends it to every process too: the second does not mean "kill".
            call_on_signals(backend.stop.set, second="is ignored")
            _start_threads(backend, with_workers=with_workers and number == 0)
            if number == 0:
                _warn_if_open(backend, settings)
            say_ready()
            _run(backend, server)
        return 0

    return ServerProcesses(settings.workers, serve_one, sockets, lambda: _say_listening(settings, port)).run()


def _refuse_address(settings: Settings, error: OSError | ValueError) -> int:
    print(explain_trouble(settings.host, settings.port, error), file=sys.stderr)
    return 1


def _say_listening(settings: Settings, port: int) -> None:
    print(f"LNPay listens on {url_of(settings.host, port)} (Ctrl-C to stop)", flush=True)


def _start_threads(backend: Backend, *, with_workers: bool) -> None:
    backend.issuer.rates.warm_up()
    start_timekeeper(backend)
    backend.delivery_dispatcher.start()
    backend.refund_dispatcher.start()
    if with_workers:
        start_workers(backend)


def _run(backend: Backend, server: Any) -> None:  # noqa: ANN401 - untyped there
    """Serve until `backend.stop` is set, and finish the work in progress."""
    try:
        run_until(server, backend.stop)
    finally:
        backend.stop.set()
        backend.delivery_dispatcher.join()
        backend.refund_dispatcher.join()
        server.close()


def _warn_if_open(backend: Backend, settings: Settings) -> None:
    """Warn if anyone can create invoices. An unavailable database must not prevent the start."""
    with suppress(StorageUnavailable):
        has_any = bool(settings.api_keys) or has_keys(backend.repository)
        why = why_api_is_open(settings.host, settings.webhook_url, has_keys=has_any)
        if why is not None:
            advice = "Create one: python main.py keys create --help, or set API_KEYS"
            log.warning("ANYONE CAN CREATE INVOICES FOR YOUR ORDERS: %s. %s", why, advice)
