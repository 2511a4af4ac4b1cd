"""`python main.py keys ...`: create, list and revoke API keys."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime

from lnpay.access.api_keys import CreatedKey, create_key, has_keys, list_keys, revoke_key, store_id
from lnpay.commands.base import Subparsers, add_command
from lnpay.commands.tables import new_table, print_table
from lnpay.domain.errors import InvalidRequest
from lnpay.domain.model import ApiKey
from lnpay.domain.permissions import GRANTABLE, KeyPurpose, parse_permissions
from lnpay.runtime.backend import Backend

MAX_ID_DIGITS = 40

FIRST_KEY_WARNING = (
    "This is the first key: from now on the API refuses calls without one, including those of a shop that has none."
)


def add_keys(commands: Subparsers) -> None:
    """Add `keys` and its actions."""
    actions = add_command(commands, "keys", "create, list and revoke API keys").add_subparsers(
        required=True, metavar="ACTION"
    )
    creating = add_command(actions, "create", "create a key and print it; it cannot be printed again")
    creating.add_argument(
        "--for", dest="made_for", required=True, choices=[str(one) for one in KeyPurpose], help="who will use it"
    )
    creating.add_argument("--label", required=True, metavar="TEXT", help="a name to recognise it by")
    creating.add_argument(
        "--permission",
        dest="permissions",
        action="append",
        metavar="NAME",
        help=f"only with --for custom; repeat for each permission: {', '.join(GRANTABLE)}",
    )
    _add_json(creating)
    creating.set_defaults(command=_create)
    listing = add_command(actions, "list", "list every key, without its secret")
    _add_json(listing)
    listing.set_defaults(command=_list)
    revoking = add_command(actions, "revoke", "revoke a key at once, on every server")
    revoking.add_argument("key_id", metavar="ID", help="as `keys list` shows it")
    revoking.set_defaults(command=_revoke)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="answer as JSON, for programs")


def _create(backend: Backend, options: argparse.Namespace) -> int:
    permissions = None if options.permissions is None else parse_permissions(options.permissions)
    is_first = not backend.access.api_keys and not has_keys(backend.repository)
    created = create_key(
        backend.repository,
        KeyPurpose(options.made_for),
        options.label,
        backend.clock(),
        permissions=permissions,
    )
    print(_created_as_json(created) if options.json else _created_as_text(created, backend.access.public_url))
    if is_first:
        print(FIRST_KEY_WARNING, file=sys.stderr)
    return 0


def _created_as_json(created: CreatedKey) -> str:
    key = created.key
    return json.dumps(
        {"key": created.secret, "id": key.id, "store_id": created.store_id, "permissions": list(key.permissions)},
        indent=2,
    )


def _created_as_text(created: CreatedKey, address: str | None) -> str:
    lines = [
        f"key       {created.secret}  (shown only once: LNPay keeps no copy)",
        f"store id  {created.store_id}",
        f"address   {address or 'where the shop reaches LNPay; WEBHOOK_URL is not set'}",
        f"id        {created.key.id}  (to revoke it: python main.py keys revoke {created.key.id})",
        "permits   " + "\n          ".join(created.key.permissions),
    ]
    return "\n".join(lines)


def _list(backend: Backend, options: argparse.Namespace) -> int:
    keys = list_keys(backend.repository)
    if options.json:
        print(json.dumps([_as_json(key) for key in keys], indent=2))
        return 0
    if not keys:
        print("there are no API keys in the database; `python main.py keys create` creates one")
        return 0
    # Imported here because the server loads the commands too and draws no tables.
    from rich.text import Text

    print(f"store id  {store_id(backend.repository)}")
    table = new_table("id", "label", "for", "created (UTC)", "last used (UTC)", "state", "permissions")
    for key in keys:
        state = "active" if key.revoked_at is None else f"revoked {_minute(key.revoked_at)}"
        names = " ".join(one.removeprefix("btcpay.store.") for one in key.permissions)
        table.add_row(
            str(key.id), Text(key.label), key.made_for, _minute(key.created_at), _minute(key.last_used_at), state, names
        )
    print_table(table)
    return 0


def _as_json(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "label": key.label,
        "made_for": key.made_for,
        "permissions": list(key.permissions),
        "application_id": key.application_id,
        "redirect_host": key.redirect_host,
        "created_at": _iso(key.created_at),
        "last_used_at": _iso(key.last_used_at),
        "revoked_at": _iso(key.revoked_at),
    }


def _revoke(backend: Backend, options: argparse.Namespace) -> int:
    text = options.key_id
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_ID_DIGITS):
        raise InvalidRequest(
            f"{text[:MAX_ID_DIGITS]!r} is not the id of a key: `python main.py keys list` shows the ids"
        )
    key = revoke_key(backend.repository, int(text), backend.clock())
    print(f"key {key.id} ({key.label}) was revoked at {_minute(key.revoked_at)} UTC; every server refuses it")
    return 0


def _minute(at: datetime | None) -> str:
    return "never" if at is None else f"{at:%Y-%m-%d %H:%M}"


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
