"""Tell Strike where to call when an invoice is paid, and see whether its calls arrive.

python webhook_settings.py                       a small menu, on a terminal
python webhook_settings.py list                  every subscription of the account
python webhook_settings.py subscribe             have Strike call WEBHOOK_URL; safe to repeat
python webhook_settings.py update ID --disable   change one: --url, --enable, --disable, --rotate-secret
python webhook_settings.py unsubscribe ID        end one for good, after a question (--yes: without)
python webhook_settings.py test                  what became of Strike's last calls

Exit codes: 0 done, 1 not done (the reason is on standard error), 2 the command line is wrong. No secret is printed.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lnpay.runtime.packages import check_packages

check_packages()

from rich.text import Text

from config.settings import Settings, SettingsError, load_settings, parse_webhook_url, require_webhook
from lnpay.commands.tables import new_table, print_table
from lnpay.domain.errors import (
    LnpayError,
    StrikeAmbiguous,
    StrikeError,
    StrikeUnavailable,
)
from lnpay.domain.model import utc_now
from lnpay.monitoring.subscriptions import (
    Record,
    StrikeEvent,
    is_same_url,
    judge,
    missing_events,
    read_events,
    subscriptions_of,
)
from lnpay.runtime.bootstrap import open_strike
from lnpay.runtime.console import set_up_console
from lnpay.strike.client import SUBSCRIBED_EVENTS, Strike

if TYPE_CHECKING:
    from rich.table import Table

Json = dict[str, Any]
Ask = Callable[[str], str]

SHOWN_FIELDS = ("id", "webhookUrl", "webhookVersion", "enabled", "created", "eventTypes")
"""What is shown of a subscription. Strike never sends the secret back; should it ever, it stops here."""

SHOWN_EVENTS = 20
"""The newest events that `test` shows."""

SCOPE = "partner.webhooks.manage"


class CommandFailed(Exception):
    """The command was not done; the text says why and what to do about it."""


class UsageError(Exception):
    """The command line asks for nothing that can be done."""


def main(arguments: Sequence[str] | None = None, *, ask: Ask = input, is_terminal: bool | None = None) -> int:
    """Run the command line. Returns the exit code. `ask` and `is_terminal` are what a test replaces."""
    set_up_console()
    parser = _parser()
    options = parser.parse_args(arguments)
    on_terminal = is_terminal if is_terminal is not None else sys.stdin.isatty() and sys.stdout.isatty()
    if options.run is None and not on_terminal:
        parser.print_usage(sys.stderr)
        print("name a command; without one there is a menu, and that needs a terminal", file=sys.stderr)
        return 2
    # What went wrong is said in a sentence of ours; the client's log lines beside it would only repeat it.
    logging.getLogger("lnpay").addHandler(logging.NullHandler())
    try:
        settings = load_settings()
        with open_strike(settings) as strike:
            desk = Desk(strike, settings, ask if on_terminal else None, as_json=getattr(options, "json", False))
            (options.run or _menu)(desk, options)
    except UsageError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except LnpayError as error:
        print(_explain(error), file=sys.stderr)
        return 1
    except (SettingsError, CommandFailed) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="answer as JSON, for programs")
    parser = argparse.ArgumentParser(
        prog="webhook_settings.py", parents=[common], description="Strike's webhook subscriptions of this account."
    )
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands (without one: a menu)", metavar="COMMAND")

    def command(name: str, run: Callable[[Desk, argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, parents=[common], help=text, description=text)
        made.set_defaults(run=run)
        return made

    command("list", _list, "show every subscription of the account")
    command("subscribe", _subscribe, "have Strike call WEBHOOK_URL; an existing subscription of that address is mended")
    update = command("update", _update, "change a subscription")
    update.add_argument("id", metavar="ID", type=_id, help="as `list` shows it")
    update.add_argument("--url", type=_url, help="call this address from now on: https, ends in /webhook")
    switch = update.add_mutually_exclusive_group()
    switch.add_argument("--enable", dest="enabled", action="store_const", const=True, help="let Strike call")
    switch.add_argument("--disable", dest="enabled", action="store_const", const=False, help="let Strike be silent")
    update.add_argument(
        "--rotate-secret", action="store_true", help="give Strike the WEBHOOK_SECRET that is set here now"
    )
    unsubscribe = command("unsubscribe", _unsubscribe, "end a subscription for good")
    unsubscribe.add_argument("id", metavar="ID", type=_id, help="as `list` shows it")
    unsubscribe.add_argument("--yes", action="store_true", help="do not ask first")
    command("test", _test, "show what became of Strike's last calls, and say what to do when they do not arrive")
    return parser


def _id(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError("is not the id of a subscription: `list` shows them") from None


def _url(text: str) -> str:
    try:
        return parse_webhook_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


class Desk:
    """What every command works with: Strike, the settings, and the person at the terminal, if there is one."""

    def __init__(self, strike: Strike, settings: Settings, ask: Ask | None, *, as_json: bool) -> None:
        self.strike = strike
        self.settings = settings
        self.ask = ask
        self.as_json = as_json
        self.has_menu = False

    def confirms(self, question: str) -> bool:
        """Whether the person says yes. Raises UsageError when there is nobody to ask."""
        if self.ask is None:
            raise UsageError("there is no terminal to ask on: add --yes")
        try:
            return self.ask(f"{question} [y/N] ").strip().lower() in ("y", "yes")
        except EOFError:
            return False

    def say(self, sentence: str) -> None:
        """Tell people; programs read the JSON instead."""
        if not self.as_json:
            print(sentence)

    def warn(self, sentence: str) -> None:
        """Tell people, wherever the answer goes."""
        print(sentence, file=sys.stderr)

    def show(self, subscriptions: Sequence[Json], *, is_numbered: bool = False) -> None:
        """Print subscriptions as a table, or as a JSON list."""
        if self.as_json:
            print(json.dumps([_shown(one) for one in subscriptions], indent=2))
        elif subscriptions:
            print_table(_table(subscriptions, self.settings.webhook_url, is_numbered=is_numbered))
        else:
            print("There is no subscription. Make one: python webhook_settings.py subscribe")

    def show_events(self, events: Sequence[StrikeEvent], do_arrive: bool | None, sentence: str) -> None:
        """Print what became of Strike's last calls. The sentence stands beside them as JSON; people get it below."""
        if self.as_json:
            shown = [_shown_event(one) for one in events]
            print(json.dumps({"arrive": do_arrive, "message": sentence, "events": shown}, indent=2))
        elif events:
            print_table(_event_table(events))

    def show_one(self, subscription: Json, sentence: str) -> None:
        """Print what became of a subscription."""
        if self.as_json:
            print(json.dumps(_shown(subscription), indent=2))
        else:
            print(sentence)
            if not self.has_menu:
                self.show([subscription])


# The commands.


def _list(desk: Desk, _options: argparse.Namespace) -> None:
    desk.show(desk.strike.list_subscriptions())


def _subscribe(desk: Desk, _options: argparse.Namespace) -> None:
    """Make sure that exactly what we need is subscribed for WEBHOOK_URL. Strike itself would take it twice."""
    require_webhook(desk.settings)
    url, secret = desk.settings.webhook_url, desk.settings.webhook_secret
    ours = subscriptions_of(desk.strike.list_subscriptions(), url)
    if not ours:
        made = desk.strike.create_subscription(url, secret, SUBSCRIBED_EVENTS)
        desk.show_one(made, f"Subscribed: Strike calls {url} from now on.")
        return
    # The secret at Strike cannot be read, so it is always sent again.
    kept, *others = ours
    changes = {"secret": secret, "enabled": True, "eventTypes": sorted(SUBSCRIBED_EVENTS)}
    updated = desk.strike.update_subscription(_id_of(kept), changes)
    desk.show_one(updated, "There was a subscription for this address: its secret and events are up to date now.")
    for other in others:
        desk.warn(f"{_id_of(other)} has the same address, so Strike calls twice: unsubscribe it.")


def _update(desk: Desk, options: argparse.Namespace) -> None:
    changes: Json = {}
    if options.url is not None:
        changes["webhookUrl"] = options.url
    if options.enabled is not None:
        changes["enabled"] = options.enabled
    if options.rotate_secret:
        require_webhook(desk.settings)
        changes["secret"] = desk.settings.webhook_secret
    if not changes:
        raise UsageError("say what to change: --url, --enable, --disable or --rotate-secret")
    desk.show_one(desk.strike.update_subscription(options.id, changes), "Updated.")


def _unsubscribe(desk: Desk, options: argparse.Namespace) -> None:
    if not options.yes:
        found = next((one for one in desk.strike.list_subscriptions() if one.get("id") == options.id), None)
        if found is None:
            raise CommandFailed(_UNKNOWN)
        if not desk.confirms(f"End the subscription of {_plain(found.get('webhookUrl'))} for good?"):
            raise CommandFailed("Nothing was changed.")
    desk.strike.delete_subscription(options.id)
    if desk.as_json:
        print(json.dumps({"id": options.id, "deleted": True}))
    desk.say("Unsubscribed.")


def _test(desk: Desk, _options: argparse.Namespace) -> None:
    """Say whether Strike's calls arrive, by what Strike itself says of the newest. Raises CommandFailed if not."""
    require_webhook(desk.settings)
    subscriptions = desk.strike.list_subscriptions()
    events = read_events(desk.strike.list_events(), utc_now())
    record = judge(events)
    trouble = _trouble(desk.settings.webhook_url, subscriptions, record)
    sentence = trouble or _good_news(record)
    desk.show_events(events[:SHOWN_EVENTS], False if trouble else record.do_arrive, sentence)
    if trouble:
        raise CommandFailed(trouble)
    desk.say(sentence)


def _trouble(url: str, subscriptions: Sequence[Json], record: Record) -> str | None:
    """What keeps Strike's calls from arriving, and what to do; None when nothing is known to."""
    ours = subscriptions_of(subscriptions, url)
    if not ours:
        return f"Strike is not told to call {url}: `subscribe` tells it."
    if ours[0].get("enabled") is not True:
        return "The subscription of this address is disabled: `subscribe` enables it."
    if missing := missing_events(ours[0]):
        return f"The subscription lacks {', '.join(missing)}: `subscribe` adds them."
    if record.do_arrive is not False:
        return None
    others = " Another subscriber of the account may be the one who refuses." if len(subscriptions) > 1 else ""
    return (
        f"Strike's newest call did not arrive ({record.arrived} of the last {record.judged} did). See that LNPay runs "
        f"and that {url} reaches it from outside; `subscribe` gives Strike the WEBHOOK_SECRET that is set here. "
        f"`python main.py doctor` looks at all of this.{others}"
    )


def _good_news(record: Record) -> str:
    if record.do_arrive is None:
        return "Strike has had nothing to tell yet: pay an invoice for a small amount, wait a minute, and try again."
    return f"Strike's calls arrive: {record.arrived} of the last {record.judged} did, and the newest."


# The menu.

_MENU = """
s  subscribe, or mend ours    e  enable     r  send WEBHOOK_SECRET anew    t  test
u  unsubscribe                d  disable    q  quit
choose: """
_CHANGES: dict[str, Json] = {
    "e": {"enabled": True, "rotate_secret": False},
    "d": {"enabled": False, "rotate_secret": False},
    "r": {"enabled": None, "rotate_secret": True},
}


def _menu(desk: Desk, _options: argparse.Namespace) -> None:
    """Show, ask, do, until the person has enough. What fails is said, and the menu goes on."""
    if desk.ask is None:
        raise UsageError("the menu needs a terminal")
    desk.as_json, desk.has_menu = False, True
    while True:
        # Without a list there is nothing to choose from, so this one may end the menu.
        subscriptions = desk.strike.list_subscriptions()
        desk.show(subscriptions, is_numbered=True)
        try:
            choice = desk.ask(_MENU).strip().lower()
            if choice in ("q", "quit"):
                return
            _do(desk, choice, subscriptions)
        except EOFError:
            print()
            return
        except LnpayError as error:
            desk.warn(_explain(error))
        except (SettingsError, CommandFailed) as error:
            desk.warn(str(error))


def _do(desk: Desk, choice: str, subscriptions: Sequence[Json]) -> None:
    if choice == "s":
        _subscribe(desk, argparse.Namespace())
    elif choice == "t":
        _test(desk, argparse.Namespace())
    elif choice in _CHANGES:
        chosen = _choose(desk, subscriptions)
        _update(desk, argparse.Namespace(id=chosen, url=None, **_CHANGES[choice]))
    elif choice == "u":
        _unsubscribe(desk, argparse.Namespace(id=_choose(desk, subscriptions), yes=False))
    elif choice:
        raise CommandFailed(f"There is no {choice!r} here.")


def _choose(desk: Desk, subscriptions: Sequence[Json]) -> str:
    """Id of the subscription that the person means; not asked when there is only one."""
    if not subscriptions:
        raise CommandFailed("There is no subscription yet: choose s.")
    if len(subscriptions) == 1:
        return _id_of(subscriptions[0])
    assert desk.ask is not None  # noqa: S101 - the menu has looked
    text = desk.ask(f"which one, 1 to {len(subscriptions)}? ").strip()
    if not (text.isascii() and text.isdecimal() and len(text) < 4 and 1 <= int(text) <= len(subscriptions)):
        raise CommandFailed("That is none of the numbers.")
    return _id_of(subscriptions[int(text) - 1])


# What people read.


def _table(subscriptions: Sequence[Json], our_url: str, *, is_numbered: bool) -> Table:
    names = ("id", "address", "on", "events", "made")
    table = new_table(*(("#", *names) if is_numbered else names))
    for column in table.columns:
        column.overflow, column.no_wrap = "fold", column.header == "id"
    for number, one in enumerate(subscriptions, 1):
        url = _plain(one.get("webhookUrl"))
        cells = (
            _plain(one.get("id")),
            f"{url} (this LNPay)" if is_same_url(url, our_url) else url,
            "yes" if one.get("enabled") is True else "no",
            "\n".join(_plain(event) for event in one.get("eventTypes") or ()),
            _plain(one.get("created"))[:10],
        )
        table.add_row(*(Text(cell) for cell in ((str(number), *cells) if is_numbered else cells)))
    return table


def _event_table(events: Sequence[StrikeEvent]) -> Table:
    table = new_table("time (UTC)", "event", "of", "what became of it")
    for one in events:
        cells = (f"{one.created_at:%Y-%m-%d %H:%M:%S}", one.event_type, _plain(one.entity_id), one.arrival)
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _shown_event(event: StrikeEvent) -> Json:
    return {
        "created": event.created_at.isoformat(),
        "eventType": event.event_type,
        "entityId": event.entity_id,
        "arrival": event.arrival,
    }


def _shown(subscription: Json) -> Json:
    return {name: subscription[name] for name in SHOWN_FIELDS if name in subscription}


def _plain(value: object) -> str:
    """A value of Strike's answer as text that cannot move the cursor, and that every terminal can show."""
    return "".join(one if one.isascii() and one.isprintable() else "?" for one in str(value or ""))


def _id_of(subscription: Json) -> str:
    return str(subscription.get("id"))


_UNKNOWN = "Strike knows no subscription of this id: `python webhook_settings.py list` shows them."
_UNFIT = (
    "Strike does not take these values: the address must be https and reachable from outside, WEBHOOK_SECRET must have "
    "10 to 50 characters, and an account has at most 50 subscriptions."
)
_BY_STATUS = {
    400: _UNFIT,
    401: "Strike does not accept STRIKE_API_KEY: put a key from https://dashboard.strike.me into config/.env.",
    404: _UNKNOWN,
    422: _UNFIT,
}


def _explain(error: LnpayError) -> str:
    """A sentence for people: what happened, and what to do about it."""
    if not isinstance(error, StrikeError):
        return error.message
    if isinstance(error, StrikeUnavailable):
        wait = f" in {error.retry_after_seconds} seconds" if error.retry_after_seconds else " later"
        return f"{error.message}: nothing was changed. Try again{wait}."
    if isinstance(error, StrikeAmbiguous):
        return f"{error.message}: it may or may not have been done. `list` shows it; `subscribe` may be repeated."
    return _explain_refusal(error)


def _explain_refusal(error: StrikeError) -> str:
    if error.status == 403 and error.strike_code is None:
        return "Strike's front door refused the call (403 without a reason): try again later, or from another network."
    if error.status == 403:
        return f"The API key may not manage webhooks: make one at https://dashboard.strike.me with the scope {SCOPE}."
    sentence = _BY_STATUS.get(error.status or 0, f"{error.message}.")
    return f"{sentence} (Strike's trace id: {error.trace_id})" if error.trace_id and error.status != 404 else sentence


if __name__ == "__main__":
    sys.exit(main())
