"""Authenticates API keys and checks their permissions.

A key is sent as `Authorization: Bearer <key>`, or as `Authorization: token <key>` by Greenfield clients.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from flask import g, request

from lnpay.access.api_keys import find_key, has_keys
from lnpay.domain.errors import PermissionMissing, Unauthorized
from lnpay.domain.model import ApiKey
from lnpay.domain.permissions import GRANTABLE, Permission, Permissions
from lnpay.web.bearer import NEEDS_KEY
from lnpay.web.context import current_backend

SCHEMES = ("bearer", "token")


@dataclass(frozen=True)
class Caller:
    """Who makes this request.

    key: None for a key of API_KEYS, and if no key is needed; both have every permission.
    secret: the key as sent; empty if none was needed.
    """

    permissions: Permissions
    key: ApiKey | None
    secret: str = field(repr=False)

    @property
    def scope(self) -> str:
        """Separates this caller's Idempotency-Keys from those of others. A request cannot choose it."""
        return self.secret if self.key is None else f"key {self.key.id}"

    def check(self, permission: Permission) -> None:
        """Raise PermissionMissing unless the caller has this permission."""
        if permission not in self.permissions:
            raise PermissionMissing(permission)


def require(permission: Permission) -> Caller:
    """Who makes this request, if they have this right. Where no key was ever set up, everyone has.

    Raises Unauthorized without a key and for an unknown or revoked one; PermissionMissing.
    """
    caller = _find_caller()
    if caller is None:
        if is_key_needed():
            raise Unauthorized(NEEDS_KEY)
        caller = Caller(GRANTABLE, None, "")
    caller.check(permission)
    return caller


def require_key(permission: Permission | None = None) -> Caller:
    """Like `require`, but a key is needed even if none was ever created. None: any valid key."""
    caller = _find_caller()
    if caller is None:
        raise Unauthorized(NEEDS_KEY)
    if permission is not None:
        caller.check(permission)
    return caller


def is_key_needed() -> bool:
    """Whether native routes need a key: API_KEYS is set, or a key was ever created."""
    backend = current_backend()
    return bool(backend.access.api_keys) or has_keys(backend.repository)


def _find_caller() -> Caller | None:
    """The caller who sent this request's key; looked up once per request."""
    if "caller" not in g:
        g.caller = _look_up_caller()
    found: Caller | None = g.caller
    return found


def _look_up_caller() -> Caller | None:
    backend = current_backend()
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    secret = rest.strip()
    if scheme.lower() not in SCHEMES or not secret:
        return None
    access = backend.access
    keys = (*access.api_keys, access.demo_shop_key) if access.demo_shop_key else access.api_keys
    # Compare with every key, so that the timing reveals nothing.
    matches = [hmac.compare_digest(secret.encode(), one.encode()) for one in keys]
    if any(matches):
        return Caller(GRANTABLE, None, secret)
    key = find_key(backend.repository, secret, backend.clock())
    return None if key is None else Caller(key.permissions, key, secret)
