"""A shop plugin's request at GET /api-keys/authorize, validated. None of it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from werkzeug.datastructures import MultiDict

from lnpay.access.api_keys import MAX_LABEL_CHARACTERS, Application
from lnpay.domain.errors import InvalidRequest
from lnpay.domain.permissions import GRANTABLE, PERMISSIONS_FOR, KeyPurpose, Permission, Permissions
from lnpay.domain.text import on_one_line, printable
from lnpay.monitoring.exposure import is_this_machine
from lnpay.web.api.links import MAX_LINK_CHARACTERS, shop_address

FIELDS = ("applicationName", "applicationIdentifier", "permissions", "permissions[]", "redirect", "strict")
"""The fields that are read; others that plugins send are ignored."""

MAX_NAME_CHARACTERS = 60
MAX_ID_CHARACTERS = 200
MAX_PERMISSIONS = 50


@dataclass(frozen=True)
class ConnectRequest:
    """A request that the operator may authorize.

    name: the application's name for itself. permissions: what the key will permit.
    left_out: requested permissions that are not granted. redirect: where the key is sent; None shows it to the
    operator.
    """

    name: str
    application_id: str | None
    permissions: Permissions
    left_out: tuple[str, ...]
    redirect: str | None

    @property
    def host(self) -> str | None:
        """The host that the key is sent to, with any port."""
        return None if self.redirect is None else urlsplit(self.redirect).netloc.lower()

    @property
    def origin(self) -> str | None:
        """The origin, as a Content-Security-Policy names it."""
        return None if self.redirect is None else f"{urlsplit(self.redirect).scheme.lower()}://{self.host}"

    @property
    def is_readable_on_the_way(self) -> bool:
        """Whether the key would cross a network unencrypted."""
        parts = urlsplit(self.redirect or "")
        return parts.scheme.lower() == "http" and not is_this_machine(parts.hostname or "")

    @property
    def label(self) -> str:
        """The label by which the operator recognises the key."""
        return (f"{self.name} ({self.host})" if self.host else self.name)[:MAX_LABEL_CHARACTERS]

    @property
    def made_for(self) -> KeyPurpose:
        """The plugin, if the name is a known one and the permissions are exactly those it needs."""
        known = (
            one for one in PERMISSIONS_FOR if one in self.name.lower() and PERMISSIONS_FOR[one] == self.permissions
        )
        return next(known, KeyPurpose.CUSTOM)

    @property
    def application(self) -> Application:
        """The application id that is stored with the key."""
        return Application(self.application_id, self.host)


def read_connect_request(fields: MultiDict[str, str], store_id: str) -> ConnectRequest:
    """Read the fields of a request.

    Raises InvalidRequest, whose message is for the operator: for a redirect that is no absolute http(s) URL, for no
    permission that can be granted, and for a strict request that needs one that is never granted.
    """
    asked = list(dict.fromkeys(fields.getlist("permissions") + fields.getlist("permissions[]")))
    if len(asked) > MAX_PERMISSIONS:
        raise InvalidRequest(f"it asks for more than {MAX_PERMISSIONS} permissions")
    names = list(dict.fromkeys(one.strip().removesuffix(f":{store_id}") for one in asked))
    permissions = tuple(one for one in GRANTABLE if one in names)
    left_out = [one for one in names if one not in GRANTABLE]
    # Plugins request refunds as required but work without: they then tell the user that they cannot refund.
    impossible = [_shown(one, MAX_NAME_CHARACTERS) for one in left_out if one != Permission.CREATE_PULL_PAYMENTS]
    is_strict = fields.get("strict", "true").strip().lower() not in ("false", "0")
    if impossible and is_strict:
        raise InvalidRequest(f"it insists on permissions that LNPay never grants: {', '.join(impossible)}")
    if not permissions:
        raise InvalidRequest("it asks for no permission that LNPay can grant")
    return ConnectRequest(
        _shown(fields.get("applicationName", ""), MAX_NAME_CHARACTERS) or "A shop",
        _shown(fields.get("applicationIdentifier", ""), MAX_ID_CHARACTERS) or None,
        permissions,
        tuple(_shown(one, MAX_NAME_CHARACTERS) for one in left_out),
        _redirect(fields.get("redirect", "").strip()),
    )


def _redirect(text: str) -> str | None:
    if not text:
        return None
    if len(text) > MAX_LINK_CHARACTERS:
        raise InvalidRequest(f"the address to return to has more than {MAX_LINK_CHARACTERS:,} characters")
    try:
        redirect = shop_address(text)
    except ValueError as error:
        raise InvalidRequest(f"the address to return to {error}") from error
    # A Content-Security-Policy, which limits the form to one host, cannot express an IPv6 address.
    if "[" in urlsplit(redirect).netloc:
        raise InvalidRequest("the address to return to must have a host name or an IPv4 address")
    return redirect


def _shown(text: str, most: int) -> str:
    """Text from outside on one line, without characters that hide or reverse others."""
    return on_one_line(printable(text))[:most].strip()
