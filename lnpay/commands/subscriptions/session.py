"""What the commands share: the Strike client, the settings, and the output."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence

from lnpay.commands.subscriptions.output import Json, event_table, shown, shown_event, subscription_table
from lnpay.commands.tables import print_table
from lnpay.domain.encoding.json_text import write_json_text
from lnpay.domain.settings import Settings
from lnpay.monitoring.subscriptions import StrikeEvent
from lnpay.strike.client import Strike

Ask = Callable[[str], str]


class CommandFailed(Exception):
    """The command failed; the message says why and what to do about it."""


class UsageError(Exception):
    """The command line is incomplete."""


class SubscriptionSession:
    """What every command works with: the Strike client, the settings, and the terminal, if there is one.

    check: raises CommandFailed if the settings lack what a subscription needs. ask: asks the user a question; None
    without a terminal. has_menu: the menu itself shows the list after each command.
    """

    def __init__(
        self,
        strike: Strike,
        settings: Settings,
        check: Callable[[], None],
        ask: Ask | None,
        *,
        as_json: bool,
    ) -> None:
        self.strike = strike
        self.settings = settings
        self.check = check
        self.ask = ask
        self.as_json = as_json
        self.has_menu = False

    def confirms(self, question: str) -> bool:
        """Whether the user says yes. Raises UsageError if there is no terminal."""
        if self.ask is None:
            raise UsageError("there is no terminal to ask on: add --yes")
        try:
            return self.ask(f"{question} [y/N] ").strip().lower() in ("y", "yes")
        except EOFError:
            return False

    def say(self, sentence: str) -> None:
        """Print a sentence for people; programs read the JSON instead."""
        if not self.as_json:
            print(sentence)

    def warn(self, sentence: str) -> None:
        """Print a sentence on standard error, even with JSON output."""
        print(sentence, file=sys.stderr)

    def show(self, subscriptions: Sequence[Json], *, is_numbered: bool = False) -> None:
        """Print subscriptions as a table, or as a JSON list."""
        if self.as_json:
            print(write_json_text([shown(one) for one in subscriptions], indent=2))
        elif subscriptions:
            print_table(subscription_table(subscriptions, self.settings.webhook_url, is_numbered=is_numbered))
        else:
            print("There is no subscription. Create one: python webhook_settings.py subscribe")

    def show_events(self, events: Sequence[StrikeEvent], do_arrive: bool | None, sentence: str) -> None:
        """Print the outcomes of Strike's last calls. JSON includes the sentence; on a terminal it is printed
        separately.
        """
        if self.as_json:
            rows = [shown_event(one) for one in events]
            print(json.dumps({"arrive": do_arrive, "message": sentence, "events": rows}, indent=2))
        elif events:
            print_table(event_table(events))

    def show_one(self, subscription: Json, sentence: str) -> None:
        """Print a subscription after a change."""
        if self.as_json:
            print(write_json_text(shown(subscription), indent=2))
        else:
            print(sentence)
            if not self.has_menu:
                self.show([subscription])


Command = Callable[[SubscriptionSession, argparse.Namespace], None]
"""One command of the command line. Raises UsageError, CommandFailed and LnpayError."""
