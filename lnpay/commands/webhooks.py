"""`python main.py webhooks ...`: the webhook endpoints notified in addition to DELIVERY_URL."""

from __future__ import annotations

import argparse
import json
from functools import partial

from lnpay.commands.base import Subparsers, add_command
from lnpay.commands.tables import new_table, print_table
from lnpay.deliveries.endpoints import (
    create_endpoint,
    delete_endpoint,
    list_endpoints,
    send_test,
    update_endpoint,
)
from lnpay.domain.model import WebhookEndpoint
from lnpay.domain.states import EndpointForm, EndpointSetter
from lnpay.runtime.backend import Backend


def add_webhooks(commands: Subparsers) -> None:
    """Add `webhooks` and its actions."""
    actions = add_command(
        commands, "webhooks", "manage the webhook endpoints notified in addition to DELIVERY_URL"
    ).add_subparsers(required=True, metavar="ACTION")
    _add_create(actions)
    listing = add_command(actions, "list", "list every endpoint and its last answer, without its secret")
    _add_json(listing)
    listing.set_defaults(command=_list)
    _add_action(actions, "delete", "delete an endpoint; its undelivered messages are not sent", _delete)
    testing = _add_action(actions, "test", "send a test message now, and print the answer", _test)
    _add_json(testing)
    _add_action(actions, "enable", "enable an endpoint; messages waiting for it are sent", partial(_switch, True))
    _add_action(actions, "disable", "disable an endpoint; messages already due to it wait", partial(_switch, False))


def _add_create(actions: Subparsers) -> None:
    creating = add_command(actions, "create", "create an endpoint and print its id and secret")
    creating.add_argument("url", metavar="URL", help="where messages are sent; it may be in a private network")
    creating.add_argument(
        "--form",
        choices=[str(one) for one in EndpointForm],
        default=str(EndpointForm.STANDARD),
        help="LNPay's own messages (standard), or BTCPay Server's for shop plugins (btcpay)",
    )
    creating.add_argument(
        "--event", dest="events", action="append", metavar="NAME", help="repeat for each event; default: every event"
    )
    creating.add_argument("--secret", metavar="TEXT", help="signs the messages; default: a new random secret")
    _add_json(creating)
    creating.set_defaults(command=_create)


def _add_action(actions: Subparsers, name: str, words: str, command: object) -> argparse.ArgumentParser:
    parser = add_command(actions, name, words)
    parser.add_argument("endpoint_id", metavar="ID", help="as `webhooks list` shows it")
    parser.set_defaults(command=command)
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="answer as JSON, for programs")


def _create(backend: Backend, options: argparse.Namespace) -> int:
    created = create_endpoint(
        backend.outbox,
        url=options.url,
        form=EndpointForm(options.form),
        by=EndpointSetter.OPERATOR,
        secret=options.secret,
        events=options.events,
    )
    if options.json:
        print(json.dumps({**_as_json(created), "secret": created.secret}, indent=2))
        return 0
    print(f"id      {created.public_id}  (to delete it: python main.py webhooks delete {created.public_id})")
    print(f"secret  {created.secret}  (shown only once: give it to the shop)")
    return 0


def _list(backend: Backend, options: argparse.Namespace) -> int:
    endpoints = list_endpoints(backend.outbox)
    if options.json:
        print(json.dumps([_as_json(one) for one in endpoints], indent=2))
        return 0
    if not endpoints:
        print("there are no webhook endpoints; `python main.py webhooks create` creates one")
        return 0
    # Imported here because the server loads the commands too and draws no tables.
    from rich.text import Text

    table = new_table("id", "address", "form", "events", "state", "set by", "last answer (UTC)")
    for one in endpoints:
        table.add_row(
            one.public_id, Text(one.url), one.form, _events(one), "enabled" if one.is_enabled else "disabled",
            one.set_by, Text(_last_answer(one)),
        )  # fmt: skip
    print_table(table)
    return 0


def _delete(backend: Backend, options: argparse.Namespace) -> int:
    delete_endpoint(backend.outbox, options.endpoint_id)
    print(f"endpoint {options.endpoint_id} deleted; nothing more is sent to it")
    return 0


def _switch(is_enabled: bool, backend: Backend, options: argparse.Namespace) -> int:
    endpoint = update_endpoint(backend.outbox, options.endpoint_id, by=EndpointSetter.OPERATOR, is_enabled=is_enabled)
    print(f"endpoint {endpoint.public_id} {'enabled' if is_enabled else 'disabled'}")
    return 0


def _test(backend: Backend, options: argparse.Namespace) -> int:
    answer = send_test(backend.outbox, options.endpoint_id)
    if options.json:
        print(
            json.dumps({"is_accepted": answer.error is None, "status": answer.status, "error": answer.error}, indent=2)
        )
    elif answer.error is None:
        print(f"accepted: the endpoint answered {answer.status}")
    else:
        print(f"not accepted: {answer.error}")
    return 0 if answer.error is None else 1


def _as_json(endpoint: WebhookEndpoint) -> dict[str, object]:
    return {
        "id": endpoint.public_id,
        "url": endpoint.url,
        "form": endpoint.form,
        "wants_everything": endpoint.wants_everything,
        "events": sorted(endpoint.events),
        "is_enabled": endpoint.is_enabled,
        "automatic_redelivery": endpoint.automatic_redelivery,
        "set_by": endpoint.set_by,
        "created_at": endpoint.created_at.isoformat(),
        "last_answer_at": None if endpoint.last_answer_at is None else endpoint.last_answer_at.isoformat(),
        "last_status": endpoint.last_status,
        "last_error": endpoint.last_error,
    }


def _events(endpoint: WebhookEndpoint) -> str:
    return "all" if endpoint.wants_everything else " ".join(sorted(endpoint.events)) or "none"


def _last_answer(endpoint: WebhookEndpoint) -> str:
    if endpoint.last_answer_at is None:
        return "never called"
    return f"{endpoint.last_answer_at:%Y-%m-%d %H:%M} {endpoint.last_error or endpoint.last_status}"
