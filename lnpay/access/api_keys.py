"""Creating, finding and revoking API keys. Nothing is cached: a revoked key is refused at once on every server."""

from __future__ import annotations

import hashlib
import secrets
import string
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lnpay.domain.errors import InvalidRequest, NotFound, StorageUnavailable
from lnpay.domain.model import ApiKey, NewApiKey
from lnpay.domain.permissions import PERMISSIONS_FOR, KeyPurpose, Permissions
from lnpay.repository import Repository

SECRET_CHARACTERS = 40
"""238 random bits. Letters and digits only: plugins drop everything else from a key."""

MAX_LABEL_CHARACTERS = 100

MAX_ID = 2**63 - 1
"""The largest number that a database takes as an id."""

USE_NOTED_EVERY = timedelta(minutes=1)
"""The last use of a key is written at most so often, so that reading an invoice costs no write."""


@dataclass(frozen=True)
class Application:
    """The program that asked for a key, and the host that its answer goes to, if there is one."""

    id: str | None
    redirect_host: str | None


@dataclass(frozen=True)
class CreatedKey:
    """A key that has just been created. The secret cannot be read again."""

    secret: str = field(repr=False)
    key: ApiKey
    store_id: str


def create_key(
    repository: Repository,
    made_for: KeyPurpose,
    label: str,
    now: datetime,
    *,
    permissions: Permissions | None = None,
    application: Application | None = None,
) -> CreatedKey:
    """Create a key.

    permissions: those of the purpose if omitted; only a custom key may have others.
    Raises InvalidRequest for a label that is empty, too long or not printable, and for permissions of another purpose.
    """
    label = " ".join(label.split())
    if not label or len(label) > MAX_LABEL_CHARACTERS or not label.isprintable():
        raise InvalidRequest(f"the label must have 1 to {MAX_LABEL_CHARACTERS} printable characters")
    if permissions is None:
        permissions = PERMISSIONS_FOR[made_for]
    elif made_for is not KeyPurpose.CUSTOM:
        raise InvalidRequest(f"a key for {made_for} has a fixed set of permissions; choose others for a custom key")
    if not permissions:
        raise InvalidRequest("a key needs at least one permission")
    secret = _new_secret()
    asked_by = application or Application(None, None)
    new = NewApiKey(_hash_of(secret), label, permissions, made_for, asked_by.id, asked_by.redirect_host, now)
    with repository.transaction() as tx:
        return CreatedKey(secret, tx.api_keys.add(new), tx.installation.make_store_id())


def find_key(repository: Repository, secret: str, now: datetime) -> ApiKey | None:
    """The key with this secret; None for an unknown or revoked one. Remembers the use, to the minute.

    The look-up is by hash, so the time it takes says nothing about the secret of another key.
    """
    with repository.reading() as tx:
        key = tx.api_keys.find_by_hash(_hash_of(secret))
    if key is not None and _is_use_old(key, now):
        _note_use(repository, key, now)
    return key


def _is_use_old(key: ApiKey, now: datetime) -> bool:
    return key.last_used_at is None or not now - USE_NOTED_EVERY < key.last_used_at <= now


def _note_use(repository: Repository, key: ApiKey, now: datetime) -> None:
    try:
        with repository.transaction() as tx:
            tx.api_keys.note_use(key.id, now, USE_NOTED_EVERY)
    except StorageUnavailable:
        # The repository has logged it. A key is good although its use cannot be written.
        return


def _new_secret() -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(SECRET_CHARACTERS))


def _hash_of(secret: str) -> str:
    """What is stored of a key. A fast hash is enough: secrets of 238 bits cannot be found by trial."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def has_keys(repository: Repository) -> bool:
    """Whether a key was ever created. Revoking the last one must not open the API to everyone."""
    with repository.reading() as tx:
        return tx.api_keys.has_any()


def list_keys(repository: Repository) -> list[ApiKey]:
    """Every key, the newest first, revoked ones included."""
    with repository.reading() as tx:
        return tx.api_keys.every()


def revoke_key(repository: Repository, key_id: int, now: datetime) -> ApiKey:
    """Revoke a key: from now on every server refuses it. Safe to repeat. Raises NotFound."""
    if 0 < key_id <= MAX_ID:
        with repository.transaction() as tx:
            tx.api_keys.revoke(key_id, now)
            key = tx.api_keys.find(key_id)
        if key is not None:
            return key
    raise NotFound(f"there is no API key with the id {key_id}")


def store_id(repository: Repository) -> str:
    """What Greenfield clients call this shop: one constant per database, created when it is first needed."""
    with repository.reading() as tx:
        known = tx.installation.store_id()
    if known is not None:
        return known
    with repository.transaction() as tx:
        return tx.installation.make_store_id()
