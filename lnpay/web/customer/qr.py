"""A QR code of a payment request, as PNG and as SVG: black on white, with the quiet zone the standard asks for.

The mask is fixed, because scoring all eight takes longer than everything else. Any mask is valid, and a payment request
is practically random: over random ones the best mask scores 8 % better than a fixed one, which no reader notices.

Nothing heavy is imported until the first code is drawn.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from functools import cache
from html import escape

QUIET_ZONE = 4
"""Width of the white border, in modules."""

PIXELS_PER_MODULE = 8
"""One byte of a 1-bit image, so that a module is never cut and its edges stay sharp."""

_URI_CHARACTERS = re.compile(r"[0-9A-Za-z]+", re.ASCII)
_MASK = 7
_WHITE = b"\xff"
_PIXELS_OF_MODULES = bytes.maketrans(b"\x00\x01", _WHITE + b"\x00")
"""The 8 pixels of a module in one row: white for 0, black for 1."""

Matrix = Sequence[bytes]
"""Rows of modules without the quiet zone; 1 is black."""


def payment_uri(payment_request: str) -> str:
    """The URI a wallet opens: `lightning:` and the payment request in upper case, which gives the smallest QR code.

    Raises ValueError if it is not letters and digits only.
    """
    if not _URI_CHARACTERS.fullmatch(payment_request):
        raise ValueError("a payment request is letters and digits only")
    return "lightning:" + payment_request.upper()


def qr_png(payment_request: str) -> bytes:
    """PNG, 1 bit per pixel, 8 pixels per module, quiet zone included. Raises ValueError as payment_uri does."""
    from PIL import Image

    matrix = _matrix(payment_uri(payment_request).upper())
    size = len(matrix) + 2 * QUIET_ZONE
    side = _WHITE * QUIET_ZONE
    rows = [side + row.translate(_PIXELS_OF_MODULES) + side for row in matrix]
    blank = [_WHITE * size] * QUIET_ZONE
    pixels = b"".join(row * PIXELS_PER_MODULE for row in (*blank, *rows, *blank))
    image = Image.frombytes("1", (size * PIXELS_PER_MODULE, size * PIXELS_PER_MODULE), pixels)
    png = io.BytesIO()
    # Level 1 takes half the time of level 6 and some 400 bytes more.
    image.save(png, "PNG", compress_level=1)
    return png.getvalue()


def qr_svg(payment_request: str, title: str = "QR code to pay with a Lightning wallet") -> str:
    """SVG of any size, one unit per module, quiet zone included. Raises ValueError as payment_uri does.

    title: the text for screen readers. The SVG has no ids, so that it can be embedded in any page.
    """
    matrix = _matrix(payment_uri(payment_request).upper())
    size = len(matrix) + 2 * QUIET_ZONE
    path = "".join(_row_path(row, y) for y, row in enumerate(matrix, QUIET_ZONE))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" shape-rendering="crispEdges" '
        f'role="img"><title>{escape(title)}</title>'
        f'<rect width="{size}" height="{size}" fill="#fff"/><path fill="#000" d="{path}"/></svg>'
    )


def _row_path(row: bytes, y: int) -> str:
    """One rectangle for each run of black modules."""
    # A white module after the last one closes a run that reaches the edge.
    edges = [x for x, (left, right) in enumerate(zip((0, *row), (*row, 0), strict=True)) if left != right]
    runs = zip(edges[::2], edges[1::2], strict=True)
    return "".join(f"M{QUIET_ZONE + start} {y}h{end - start}v1h-{end - start}z" for start, end in runs)


def _matrix(text: str) -> Matrix:
    """Modules of the smallest QR code of `text`: alphanumeric, error correction L.

    L because a screen does not tear, and larger modules help a camera more.
    Raises ValueError if the text exceeds the largest code.
    """
    from lnpay.web.customer.qr_codewords import codewords, smallest_version

    version = smallest_version(len(text))
    empty, places = _layout(version)
    modules = bytearray(empty)
    words = bytes(codewords(text, version))
    # Up to seven modules are left over.
    for place, bit in zip(places, f"{int.from_bytes(words):0{8 * len(words)}b}", strict=False):
        if bit == "1":
            modules[place] ^= 1
    side = _side_of(version)
    return [bytes(modules[start : start + side]) for start in range(0, len(modules), side)]


@cache
def _layout(version: int) -> tuple[bytes, list[int]]:
    """The modules of a code whose bits of data are all 0, row after row, and which module each bit inverts.

    Kept, because payment requests of one shop need only a few versions.
    """
    empty, full = (_draw(version, word) for word in (0x00, 0xFF))
    side = _side_of(version)
    places: list[int] = []
    # Two columns at a time from the right, upwards and downwards in turn, without the column of the timing pattern.
    for turn, right in enumerate([*range(side - 1, 6, -2), 5, 3, 1]):
        rows = range(side) if turn % 2 else reversed(range(side))
        places += [row * side + column for row in rows for column in (right, right - 1)]
    return empty, [place for place in places if empty[place] != full[place]]


def _draw(version: int, word: int) -> bytes:
    """The library's modules of a code in which every codeword is `word`."""
    import qrcode

    code = qrcode.QRCode(version, error_correction=qrcode.ERROR_CORRECT_L, mask_pattern=_MASK)
    # Where the library keeps the codewords of its data; it computes them only if there are none.
    code.data_cache = [word] * _side_of(version) ** 2
    code.make(fit=False)
    return b"".join(bytes(row) for row in code.modules)


def _side_of(version: int) -> int:
    return 4 * version + 17
