"""Which API key a request brings, and whether it permits what the request asks for.

A key comes as `Authorization: Bearer <key>`, or as `Authorization: token <key>`, as Greenfield clients send it.
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

    key: None for a key of API_KEYS, and where no key is needed. Both have every right.
    secret: the key as it was sent; empty where none was needed.
    """

    permissions: Permissions
    key: ApiKey | None
    secret: str = field(repr=False)

    @property
    def scope(self) -> str:
        """What tells this caller from others, whose Idempotency-Keys are their own. No request can choose it."""
        return self.secret if self.key is None else f"key {self.key.id}"

    def check(self, permission: Permission) -> None:
        """Raise PermissionMissing unless the caller has this right."""
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
    """As `require`, but a key is needed even where none was ever set up. None: any key will do."""
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
    """Who brings the key of this request; looked up once."""
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
    # Every one is compared, so that the time taken says nothing.
    matches = [hmac.compare_digest(secret.encode(), one.encode()) for one in backend.access.api_keys]
    if any(matches):
        return Caller(GRANTABLE, None, secret)
    key = find_key(backend.repository, secret, backend.clock())
    return None if key is None else Caller(key.permissions, key, secret)
