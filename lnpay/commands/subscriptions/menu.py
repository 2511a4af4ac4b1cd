"""The interactive menu."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lnpay.commands.subscriptions.actions import show_arrivals, subscribe, unsubscribe, update
from lnpay.commands.subscriptions.failures import explain
from lnpay.commands.subscriptions.output import Json, id_of
from lnpay.commands.subscriptions.session import CommandFailed, SubscriptionSession, UsageError
from lnpay.domain.errors import LnpayError

_MENU = """
s  subscribe, or update ours  e  enable     r  send WEBHOOK_SECRET again   t  test
u  unsubscribe                d  disable    q  quit
choose: """
_CHANGES: dict[str, Json] = {
    "e": {"enabled": True, "rotate_secret": False},
    "d": {"enabled": False, "rotate_secret": False},
    "r": {"enabled": None, "rotate_secret": True},
}


def run_menu(session: SubscriptionSession, _options: argparse.Namespace) -> None:
    """List, ask, act, until the user quits. Failures are printed and do not end the menu."""
    if session.ask is None:
        raise UsageError("the menu needs a terminal")
    session.as_json, session.has_menu = False, True
    while True:
        # Without a list there is nothing to choose from, so an error here ends the menu.
        subscriptions = session.strike.list_subscriptions()
        session.show(subscriptions, is_numbered=True)
        try:
            choice = session.ask(_MENU).strip().lower()
            if choice in ("q", "quit"):
                return
            _do(session, choice, subscriptions)
        except EOFError:
            print()
            return
        except LnpayError as error:
            session.warn(explain(error))
        except CommandFailed as error:
            session.warn(str(error))


def _do(session: SubscriptionSession, choice: str, subscriptions: Sequence[Json]) -> None:
    if choice == "s":
        subscribe(session, argparse.Namespace())
    elif choice == "t":
        show_arrivals(session, argparse.Namespace())
    elif choice in _CHANGES:
        chosen = _choose(session, subscriptions)
        update(session, argparse.Namespace(id=chosen, url=None, **_CHANGES[choice]))
    elif choice == "u":
        unsubscribe(session, argparse.Namespace(id=_choose(session, subscriptions), yes=False))
    elif choice:
        raise CommandFailed(f"{choice!r} is not a choice.")


def _choose(session: SubscriptionSession, subscriptions: Sequence[Json]) -> str:
    """Id of the chosen subscription; no question is asked if there is only one."""
    if not subscriptions:
        raise CommandFailed("There is no subscription yet: choose s.")
    if len(subscriptions) == 1:
        return id_of(subscriptions[0])
    assert session.ask is not None  # noqa: S101 - run_menu has checked
    text = session.ask(f"which one, 1 to {len(subscriptions)}? ").strip()
    if not (text.isascii() and text.isdecimal() and len(text) < 4 and 1 <= int(text) <= len(subscriptions)):
        raise CommandFailed("That number is not in the list.")
    return id_of(subscriptions[int(text) - 1])
