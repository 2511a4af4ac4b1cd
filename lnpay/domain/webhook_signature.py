"""Verify Strike's webhooks and sign messages to the shop: both HMAC-SHA256, over the exact bytes on the wire.

Strike: header `X-Webhook-Signature`, hex, keyed with the subscription's secret (WEBHOOK_SECRET).
Shop: Standard Webhooks (https://www.standardwebhooks.com), keyed with what DELIVERY_SECRET encodes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from datetime import datetime

from lnpay.domain.errors import SignatureMismatch

DELIVERY_SECRET_PREFIX = "whsec_"  # noqa: S105 - the public prefix of every such secret

_HEX_SHA256 = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_DELIVERY_KEY_BYTES = range(24, 64 + 1)
"""The key lengths Standard Webhooks allows; receivers' libraries refuse others."""


def verify_strike_signature(body: bytes, header: str | None, *secrets: str) -> None:
    """Return if `header` is Strike's signature of `body`, the raw bytes received, under any of `secrets`.

    Hex in either case: Strike's documentation signs in lower case, its service in upper case.
    The signature contains no time, so a replayed call verifies too: acting on it must be repeatable.
    Raises SignatureMismatch for anything else, also when no secret is given: everybody knows the empty key.
    """
    if not all(secrets) or not secrets:
        raise SignatureMismatch("no webhook secret is set, so no call can be trusted")
    if header is None:
        raise SignatureMismatch("the signature is missing")
    # bytes.fromhex alone would take spaces, and compare_digest raises on non-ASCII text.
    if not _HEX_SHA256.fullmatch(header):
        raise SignatureMismatch("the signature is not the hex of 32 bytes")
    signature = bytes.fromhex(header)
    if not any(hmac.compare_digest(signature, _strike_signature(body, secret)) for secret in secrets):
        raise SignatureMismatch("the signature does not match the body")


def sign_as_strike(body: bytes, secret: str) -> str:
    """The `X-Webhook-Signature` that Strike would send, to test whether our own /webhook knows a secret."""
    return _strike_signature(body, secret).hex().upper()


def _strike_signature(body: bytes, secret: str) -> bytes:
    return hmac.digest(secret.encode(), body, hashlib.sha256)


def decode_delivery_secret(secret: str) -> bytes:
    """Key bytes in a Standard Webhooks secret: `whsec_` and the base64 of 24 to 64 bytes, padded or not.

    Raises ValueError with a sentence that does not contain the secret.
    """
    if not secret.startswith(DELIVERY_SECRET_PREFIX):
        raise ValueError(f"must start with {DELIVERY_SECRET_PREFIX}")
    encoded = secret.removeprefix(DELIVERY_SECRET_PREFIX).rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        # No cause: a chained exception would carry the secret's characters into a log.
        raise ValueError(f"must be base64 after {DELIVERY_SECRET_PREFIX}") from None
    if len(key) not in _DELIVERY_KEY_BYTES:
        raise ValueError(f"must hold 24 to 64 bytes after {DELIVERY_SECRET_PREFIX}, not {len(key)}")
    return key


def sign_delivery(secret: str, message_id: str, at: datetime, body: bytes) -> str:
    """`webhook-signature` for one delivery: `v1,` and the base64 HMAC of "id.unix seconds.body".

    at: the time of this attempt, aware; it must be the one in `webhook-timestamp`.
    """
    signed = f"{message_id}.{_unix_seconds(at)}.".encode() + body
    digest = hmac.digest(decode_delivery_secret(secret), signed, hashlib.sha256)
    return "v1," + base64.b64encode(digest).decode()


def delivery_headers(secret: str, message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """Standard Webhooks headers of one attempt to deliver `body`; unsigned when `secret` is empty.

    message_id: the same on every attempt, so that the shop can drop repeats; without a point.
    at: the time of this attempt, aware; receivers refuse one that is minutes off.
    """
    headers = {"webhook-id": message_id, "webhook-timestamp": str(_unix_seconds(at))}
    if secret:
        headers["webhook-signature"] = sign_delivery(secret, message_id, at, body)
    return headers


def _unix_seconds(at: datetime) -> int:
    if at.tzinfo is None:
        raise ValueError("a time without a zone could mean any hour")
    return int(at.timestamp())
