"""How long it takes to draw the QR code that every answer contains."""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator
from functools import partial

import qrcode

from bench.figures import Figure, seconds_of, take_turns
from lnpay.web.customer.qr import qr_png

ROUNDS = 200
LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
CHARACTERS = 290
"""Of a usual payment request."""

AIM_MS = 4.0


def draw_plainly(text: str) -> None:
    """Draw a QR code with the library's defaults: its own mask and PNG."""
    qrcode.make(text, error_correction=qrcode.ERROR_CORRECT_L, box_size=8).save(io.BytesIO())


def measure() -> Iterator[Figure]:
    """Time of one PNG of a payment request."""
    text = "lnbc192070n1p" + "".join(secrets.choice(LETTERS) for _ in range(CHARACTERS - 13))
    ours, plain = partial(qr_png, text), partial(draw_plainly, f"LIGHTNING:{text.upper()}")
    take_turns(10, partial(seconds_of, ours), partial(seconds_of, plain))
    value, least = take_turns(ROUNDS, partial(seconds_of, ours), partial(seconds_of, plain))
    yield Figure(
        "draw a QR code (p50)", value * 1000, "ms", least * 1000, "the QR library's own PNG",
        f"< {AIM_MS:.0f} ms", value * 1000 < AIM_MS,
    )  # fmt: skip
