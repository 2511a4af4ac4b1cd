"""The commands that list and change subscriptions."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from lnpay.commands.subscriptions.failures import UNKNOWN
from lnpay.commands.subscriptions.output import Json, id_of, plain
from lnpay.commands.subscriptions.session import CommandFailed, SubscriptionSession, UsageError
from lnpay.domain.model import utc_now
from lnpay.monitoring.subscriptions import Record, judge, missing_events, read_events, subscriptions_of
from lnpay.strike.client import SUBSCRIBED_EVENTS

SHOWN_EVENTS = 20
"""How many of the newest events `test` shows."""


def list_all(session: SubscriptionSession, _options: argparse.Namespace) -> None:
    """Show every subscription of the account."""
    session.show(session.strike.list_subscriptions())


def subscribe(session: SubscriptionSession, _options: argparse.Namespace) -> None:
    """Create or update the subscription of WEBHOOK_URL. Strike itself would accept duplicates."""
    session.check()
    url, secret = session.settings.webhook_url, session.settings.webhook_secret
    ours = subscriptions_of(session.strike.list_subscriptions(), url)
    if not ours:
        made = session.strike.create_subscription(url, secret, SUBSCRIBED_EVENTS)
        session.show_one(made, f"Subscribed: Strike calls {url} from now on.")
        return
    # Strike never reveals the secret it holds, so it is always sent again.
    kept, *others = ours
    changes = {"secret": secret, "enabled": True, "eventTypes": sorted(SUBSCRIBED_EVENTS)}
    updated = session.strike.update_subscription(id_of(kept), changes)
    session.show_one(updated, "A subscription for this address existed: its secret and events are now up to date.")
    for other in others:
        session.warn(f"{id_of(other)} has the same address, so Strike calls twice: unsubscribe it.")


def update(session: SubscriptionSession, options: argparse.Namespace) -> None:
    """Change what the options name. Raises UsageError if they name nothing."""
    changes: Json = {}
    if options.url is not None:
        changes["webhookUrl"] = options.url
    if options.enabled is not None:
        changes["enabled"] = options.enabled
    if options.rotate_secret:
        session.check()
        changes["secret"] = session.settings.webhook_secret
    if not changes:
        raise UsageError("say what to change: --url, --enable, --disable or --rotate-secret")
    session.show_one(session.strike.update_subscription(options.id, changes), "Updated.")


def unsubscribe(session: SubscriptionSession, options: argparse.Namespace) -> None:
    """Delete a subscription, after confirmation unless --yes is given. Raises CommandFailed if it was not deleted."""
    if not options.yes:
        found = next((one for one in session.strike.list_subscriptions() if one.get("id") == options.id), None)
        if found is None:
            raise CommandFailed(UNKNOWN)
        if not session.confirms(f"Delete the subscription of {plain(found.get('webhookUrl'))} for good?"):
            raise CommandFailed("Nothing was changed.")
    session.strike.delete_subscription(options.id)
    if session.as_json:
        print(json.dumps({"id": options.id, "deleted": True}))
    session.say("Unsubscribed.")


def show_arrivals(session: SubscriptionSession, _options: argparse.Namespace) -> None:
    """Report whether Strike's calls arrive, by Strike's own record of them. Raises CommandFailed if they do not."""
    session.check()
    subscriptions = session.strike.list_subscriptions()
    events = read_events(session.strike.list_events(), utc_now())
    record = judge(events)
    trouble = _trouble(session.settings.webhook_url, subscriptions, record)
    sentence = trouble or _good_news(record)
    session.show_events(events[:SHOWN_EVENTS], False if trouble else record.do_arrive, sentence)
    if trouble:
        raise CommandFailed(trouble)
    session.say(sentence)


def _trouble(url: str, subscriptions: Sequence[Json], record: Record) -> str | None:
    """Why Strike's calls do not arrive, and what to do; None if no reason is known."""
    ours = subscriptions_of(subscriptions, url)
    if not ours:
        return f"Strike has no subscription for {url}: `subscribe` creates it."
    if ours[0].get("enabled") is not True:
        return "The subscription of this address is disabled: `subscribe` enables it."
    if missing := missing_events(ours[0]):
        return f"The subscription lacks {', '.join(missing)}: `subscribe` adds them."
    if record.do_arrive is not False:
        return None
    others = " The refusals may come from another subscriber on the account." if len(subscriptions) > 1 else ""
    return (
        f"Strike's newest call did not arrive ({record.arrived} of the last {record.judged} did). Check that LNPay is "
        f"running and that {url} reaches it from outside; `subscribe` sends Strike the WEBHOOK_SECRET that is set "
        f"here. `python main.py doctor` checks all of this.{others}"
    )


def _good_news(record: Record) -> str:
    if record.do_arrive is None:
        return "Strike has not sent anything yet: pay an invoice for a small amount, wait a minute, and try again."
    return f"Strike's calls arrive: {record.arrived} of the last {record.judged} did, including the newest."
