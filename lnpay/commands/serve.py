"""`python main.py`: serve requests until the process is stopped."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress

from lnpay.access.api_keys import has_keys
from lnpay.domain.errors import StorageUnavailable
from lnpay.domain.settings import Settings
from lnpay.monitoring.exposure import why_api_is_open
from lnpay.runtime.backend import Backend
from lnpay.runtime.listening import explain_trouble, find_port, url_of
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
        print(explain_trouble(settings.host, settings.port, error), file=sys.stderr)
        return 1
    call_on_signals(backend.stop.set, second="kills")
    backend.issuer.rates.warm_up()
    start_timekeeper(backend)
    backend.delivery_dispatcher.start()
    backend.refund_dispatcher.start()
    if with_workers:
        start_workers(backend)
    _warn_if_open(backend, settings)
    print(f"LNPay listens on {url_of(settings.host, port)} (Ctrl-C to stop)", flush=True)
    try:
        run_until(server, backend.stop)
    finally:
        backend.stop.set()
        backend.delivery_dispatcher.join()
        backend.refund_dispatcher.join()
        server.close()
    return 0


def _warn_if_open(backend: Backend, settings: Settings) -> None:
    """Warn if anyone can create invoices. An unavailable database must not prevent the start."""
    with suppress(StorageUnavailable):
        has_any = bool(settings.api_keys) or has_keys(backend.repository)
        why = why_api_is_open(settings.host, settings.webhook_url, has_keys=has_any)
        if why is not None:
            advice = "Create one: python main.py keys create --help, or set API_KEYS"
            log.warning("ANYONE CAN CREATE INVOICES FOR YOUR ORDERS: %s. %s", why, advice)
