"""What the worker scripts share: options, signals and the last line of output."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from datetime import datetime
from functools import partial

from config.settings import SettingsError, load_settings
from lnpay.deliveries.hook import load_deliver
from lnpay.domain.errors import LnpayError, Stopping
from lnpay.runtime.backend import Backend
from lnpay.runtime.bootstrap import build_backend
from lnpay.runtime.console import add_log_file, set_up_console
from lnpay.runtime.logs import set_up_logging
from lnpay.runtime.signals import call_on_signals
from lnpay.runtime.worker_passes import (
    Pass,
    Summary,
    make_pass,
    repeat,
)

log = logging.getLogger("lnpay.workers")


def run_worker(name: str, description: str, one_pass: Pass) -> int:
    """Make one pass, or one every --watch seconds until SIGTERM. Returns the exit code: 1 if the operator is needed.

    name: the worker's name in its heartbeat.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--watch", type=_seconds, metavar="SECONDS", help="repeat until SIGTERM or Ctrl-C")
    add_log_file(parser)
    set_up_console()
    options = parser.parse_args()
    watch = options.watch
    try:
        set_up_console(options.log_file)
        settings = load_settings()
        set_up_logging(settings.log_level, settings.log_format)
        backend = build_backend(settings, load_deliver(settings.hook_files))
    except (SettingsError, LnpayError) as error:
        print(error, file=sys.stderr)
        return 1
    call_on_signals(backend.stop.set, second="is ignored")
    try:
        if watch is None:
            return _once(name, backend, one_pass)
        repeat(_shown(partial(make_pass, backend, name, one_pass)), watch, backend.stop)
        return 0
    finally:
        backend.close()


def _shown(one_pass: Callable[[], Summary]) -> Callable[[], Summary]:
    """The same pass; on a terminal it also prints its summary, so that it does not look stuck."""
    if not sys.stdout.isatty():
        return one_pass

    def make() -> Summary:
        summary = one_pass()
        print(f"{datetime.now():%H:%M:%S} {summary}", flush=True)  # noqa: DTZ005 - local time, for the person watching
        return summary

    return make


def _once(name: str, backend: Backend, one_pass: Pass) -> int:
    try:
        summary = make_pass(backend, name, one_pass)
    except Stopping:
        return 0
    except LnpayError as error:
        print(f"trouble: {error.message}")
        return 1
    print(summary)
    return 1 if summary.trouble else 0


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError("must be a number of seconds between 1 and 86400")
    return seconds
