"""Who may call a Greenfield route, and for which store."""

from __future__ import annotations

from lnpay.access.api_keys import store_id
from lnpay.domain.errors import PermissionMissing
from lnpay.domain.permissions import Permission
from lnpay.web.authentication import require_key
from lnpay.web.context import current_backend


def require_store(given: str, permission: Permission) -> str:
    """The store id, if the key of this request has `permission` for the store `given`.

    Every call needs a key, even if native routes are open. Raises Unauthorized, or PermissionMissing, which Greenfield
    also returns for a store that is not the key's.
    """
    require_key(permission)
    known = store_id(current_backend().repository)
    if given != known:
        raise PermissionMissing(permission)
    return known
