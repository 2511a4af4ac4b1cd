"""Print one random secret: for WEBHOOK_SECRET (the default), API_KEYS, or DELIVERY_SECRET (--delivery)."""

from __future__ import annotations

import argparse
import base64
import secrets
import string
from collections.abc import Sequence

STRIKE_LENGTHS = range(10, 50 + 1)
"""Lengths that Strike accepts for a subscription's secret."""

DEFAULT_LENGTH = 32
DELIVERY_KEY_BYTES = 32

# Letters and digits only: the secret goes through .env files, shells and dashboards without quoting.
_ALPHABET = string.ascii_letters + string.digits


def random_secret(length: int = DEFAULT_LENGTH) -> str:
    """`length` random letters and digits, 5.95 bits each."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def random_delivery_secret() -> str:
    """A Standard Webhooks secret: `whsec_` and the base64 of 32 random bytes."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(DELIVERY_KEY_BYTES)).decode()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one secret and nothing else, so that `$(python key_generator.py)` works."""
    options = _parser().parse_args(arguments)
    print(random_delivery_secret() if options.delivery else random_secret(options.length))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Print one random secret.")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "length",
        nargs="?",
        type=_length,
        default=DEFAULT_LENGTH,
        help="number of characters; Strike requires 10 to 50 for WEBHOOK_SECRET (default: %(default)s)",
    )
    choice.add_argument("--delivery", action="store_true", help="a whsec_... secret for DELIVERY_SECRET")
    return parser


def _length(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) in STRIKE_LENGTHS):
        raise argparse.ArgumentTypeError("Strike accepts secrets of 10 to 50 characters")
    return int(text)


if __name__ == "__main__":
    main()
