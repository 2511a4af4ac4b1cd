"""Subscribe to Strike's webhooks, and check whether its calls arrive.

python webhook_settings.py                       an interactive menu
python webhook_settings.py list                  every subscription of the account
python webhook_settings.py subscribe             subscribe WEBHOOK_URL; safe to repeat
python webhook_settings.py update ID --disable   change one: --url, --enable, --disable, --rotate-secret
python webhook_settings.py unsubscribe ID        delete one, after confirmation (--yes: without)
python webhook_settings.py test                  the outcomes of Strike's last calls

Exit codes: 0 success, 1 failure (standard error says why), 2 wrong command line. No secret is printed.
"""

from __future__ import annotations

import argparse
import sys
import uuid
from collections.abc import Sequence

from lnpay.runtime.packages import check_packages

check_packages()

from config.settings import SettingsError, load_settings, require_webhook
from config.values import webhook_url
from lnpay.commands import subscriptions
from lnpay.commands.subscriptions import actions, menu
from lnpay.commands.subscriptions.session import Ask, Command, CommandFailed
from lnpay.domain.settings import Settings
from lnpay.runtime.console import run_program, set_up_console


def main(arguments: Sequence[str] | None = None, *, ask: Ask = input, is_terminal: bool | None = None) -> int:
    """Run the command line. Returns the exit code. Tests replace `ask` and `is_terminal`."""
    set_up_console()
    parser = _parser()
    options = parser.parse_args(arguments)
    on_terminal = is_terminal if is_terminal is not None else sys.stdin.isatty() and sys.stdout.isatty()
    if options.run is None and not on_terminal:
        parser.print_usage(sys.stderr)
        print("give a command: the menu needs a terminal", file=sys.stderr)
        return 2
    try:
        settings = load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    return subscriptions.run(
        options.run or menu.run_menu,
        settings,
        options,
        check=lambda: _check(settings),
        ask=ask if on_terminal else None,
        as_json=getattr(options, "json", False),
    )


def _check(settings: Settings) -> None:
    try:
        require_webhook(settings)
    except SettingsError as error:
        raise CommandFailed(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="answer as JSON, for programs")
    parser = argparse.ArgumentParser(
        prog=subscriptions.PROGRAM, parents=[common], description="Strike's webhook subscriptions of this account."
    )
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands (without one: a menu)", metavar="COMMAND")

    def command(name: str, run: Command, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, parents=[common], help=text, description=text)
        made.set_defaults(run=run)
        return made

    command("list", actions.list_all, "show every subscription of the account")
    command(
        "subscribe",
        actions.subscribe,
        "subscribe WEBHOOK_URL; an existing subscription of that address is updated",
    )
    update = command("update", actions.update, "change a subscription")
    update.add_argument("id", metavar="ID", type=_id, help="as `list` shows it")
    update.add_argument("--url", type=_url, help="call this address from now on: https, ends in /webhook")
    switch = update.add_mutually_exclusive_group()
    switch.add_argument("--enable", dest="enabled", action="store_const", const=True, help="enable the subscription")
    switch.add_argument("--disable", dest="enabled", action="store_const", const=False, help="disable the subscription")
    update.add_argument("--rotate-secret", action="store_true", help="send Strike the current WEBHOOK_SECRET")
    unsubscribe = command("unsubscribe", actions.unsubscribe, "delete a subscription")
    unsubscribe.add_argument("id", metavar="ID", type=_id, help="as `list` shows it")
    unsubscribe.add_argument("--yes", action="store_true", help="do not ask first")
    command(
        "test",
        actions.show_arrivals,
        "show the outcomes of Strike's last calls, and say what to do when they do not arrive",
    )
    return parser


def _id(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError("is not the id of a subscription: `list` shows them") from None


def _url(text: str) -> str:
    try:
        return webhook_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(run_program(main))
