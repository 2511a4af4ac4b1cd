"""Serve LNPay.

python main.py                          serve, with the settings of config/.env
python main.py --with-workers           the same, and run the workers' passes in this process (without cron)
python main.py --sandbox                without an API key or account: a simulated Strike, a demo shop and a wallet
python main.py deliveries list          messages that the shop has not accepted, and why
python main.py redeliver ORDER          send the messages about an order to the shop again
python main.py doctor                   check every part, and say what is wrong and what to do
python main.py refunds list             refunds that have not been sent, and why; see also refunds --help
python main.py keys list                API keys of shops; see also keys --help
python main.py webhooks list            webhook endpoints of shops; see also webhooks --help
python main.py report                   last month's payments and refunds, reconciled with Strike
python main.py backup FILE              copy the database while it is in use; restore FILE restores it
python main.py copy-database URL        copy SQLite to PostgreSQL, compared value by value
"""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from dataclasses import replace

from lnpay.runtime.packages import check_packages

check_packages()

from config.sandbox import load_sandbox_account, load_sandbox_settings
from config.settings import SettingsError, load_settings
from lnpay.commands import add_commands
from lnpay.commands.serve import serve, serve_in_processes
from lnpay.deliveries.hook import load_deliver
from lnpay.domain.errors import LnpayError
from lnpay.domain.settings import Settings
from lnpay.runtime.backend import Backend
from lnpay.runtime.bootstrap import build_backend
from lnpay.runtime.console import add_log_file, run_program, set_up_console
from lnpay.runtime.logs import set_up_logging
from lnpay.runtime.version import version


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
        if options.command is None and settings.workers > 1:
            has_log_file = options.log_file is not None
            return serve_in_processes(settings, with_workers=options.with_workers, has_log_file=has_log_file)
        if options.command is not None:
            # The operator is waiting for the command, and a report over years takes long.
            settings = replace(settings, db_statement_timeout_seconds=0)
        backend = build_backend(settings, load_deliver(settings.hook_files))
    except SettingsError as error:
        return _refuse(error, options)
    except LnpayError as error:
        print(error, file=sys.stderr)
        return 1
    with closing(backend):
        return _use(backend, settings, options)


def _use(backend: Backend, settings: Settings, options: argparse.Namespace) -> int:
    """Serve, or run one command."""
    try:
        if options.command is None:
            return serve(backend, settings, with_workers=options.with_workers)
        code = int(options.command(backend, options))
    except LnpayError as error:
        print(error.message, file=sys.stderr)
        return 1
    unreadable = backend.repository.unreadable.in_words()
    if unreadable is not None:
        print(f"{unreadable} (python main.py doctor)", file=sys.stderr)
    return code


def run() -> int:
    """The command `lnpay`. Returns the exit code."""
    return run_program(main)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="LNPay: Lightning payments for a shop, through Strike.")
    parser.add_argument("--version", action="version", version=f"LNPay {version()}")
    parser.add_argument("--sandbox", action="store_true", help="try LNPay without an API key, an account or money")
    parser.add_argument("--with-workers", action="store_true", help="run the workers inside this process")
    add_log_file(parser)
    parser.set_defaults(command=None, on_settings=None, on_wrong_settings=None)
    commands = parser.add_subparsers(metavar="COMMAND")
    serving = commands.add_parser("serve", help="serve; the same as no command")
    serving.add_argument("--with-workers", action="store_true", default=argparse.SUPPRESS, help="see above")
    commands.add_parser("sandbox", help="the same as --sandbox").set_defaults(sandbox=True)
    add_commands(commands)
    return parser.parse_args(arguments)


def _refuse(error: SettingsError, options: argparse.Namespace) -> int:
    """Report invalid settings, in the command's own format if it has one."""
    if options.on_wrong_settings is not None:
        return int(options.on_wrong_settings(error.problems, options))
    print(error, file=sys.stderr)
    return 1


def _serve_sandbox() -> int:
    # Imported here: a shop in production never loads the simulator.
    from lnpay.commands.sandbox import serve_sandbox

    settings, account = load_sandbox_settings(), load_sandbox_account()
    deliver = load_deliver(settings.hook_files)
    set_up_logging(settings.log_level, settings.log_format)
    return serve_sandbox(settings, deliver, account)


if __name__ == "__main__":
    sys.exit(run())
