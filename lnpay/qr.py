"""A QR code of a payment request, as PNG and as SVG: black on white, with the quiet zone the standard asks for.

The `qrcode` package knows the standard; three of its steps are done here, as they took nine tenths of its 15 ms:
- The mask. It scores all eight, but any of them is valid, and what a payment request holds is as good as random: over
  random ones the best mask scores 8 % better than a fixed one, which no reader notices.
- The bits, which it counts and writes one by one, twice.
- The Reed-Solomon remainders, which it works out coefficient by coefficient.

Nothing heavy is imported until the first code is drawn.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from functools import cache
from itertools import chain, zip_longest

QUIET_ZONE = 4
"""White modules on each side."""

PIXELS_PER_MODULE = 8
"""One byte of a 1-bit image, so that a module is never cut and its edges stay sharp."""

_URI_CHARACTERS = re.compile(r"[0-9A-Za-z]+", re.ASCII)
_ALPHANUMERIC = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
_VALUE_OF = {character: value for value, character in enumerate(_ALPHANUMERIC)}
_ALPHANUMERIC_MODE = 0b0010
_PAD_BYTES = b"\xec\x11"
_MASK = 7
_BLACK, _WHITE = b"\x00", b"\xff"

Matrix = Sequence[Sequence[bool]]
"""Rows of modules without the quiet zone; True is black."""


def payment_uri(payment_request: str) -> str:
    """What a wallet opens: `lightning:` and the payment request in upper case, which makes the smallest QR code.

    Raises ValueError for what is not letters and digits only.
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
    rows = [side + b"".join([_BLACK if dark else _WHITE for dark in row]) + side for row in matrix]
    blank = [_WHITE * size] * QUIET_ZONE
    pixels = b"".join(row * PIXELS_PER_MODULE for row in (*blank, *rows, *blank))
    image = Image.frombytes("1", (size * PIXELS_PER_MODULE, size * PIXELS_PER_MODULE), pixels)
    png = io.BytesIO()
    # Level 1 is half the time of level 6, for some 400 bytes more.
    image.save(png, "PNG", compress_level=1)
    return png.getvalue()


def qr_svg(payment_request: str) -> str:
    """SVG of any size, one unit per module, quiet zone included. Raises ValueError as payment_uri does."""
    matrix = _matrix(payment_uri(payment_request).upper())
    size = len(matrix) + 2 * QUIET_ZONE
    path = "".join(_row_path(row, y) for y, row in enumerate(matrix, QUIET_ZONE))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" shape-rendering="crispEdges" '
        'role="img" aria-labelledby="qr-title"><title id="qr-title">QR code to pay with a Lightning wallet</title>'
        f'<rect width="{size}" height="{size}" fill="#fff"/><path fill="#000" d="{path}"/></svg>'
    )


def _row_path(row: Sequence[bool], y: int) -> str:
    """One rectangle for each run of black modules."""
    # A white module after the last one ends the run that reaches the edge.
    edges = [x for x, (left, right) in enumerate(zip((False, *row), (*row, False), strict=True)) if left != right]
    runs = zip(edges[::2], edges[1::2], strict=True)
    return "".join(f"M{QUIET_ZONE + start} {y}h{end - start}v1h-{end - start}z" for start, end in runs)


def _matrix(text: str) -> Matrix:
    """Modules of the smallest QR code of `text`: alphanumeric, error correction L.

    L because it is shown on a screen, where nothing is torn off and larger modules help a camera more.
    Raises ValueError when it is longer than the largest code holds.
    """
    from qrcode import base, constants
    from qrcode.main import QRCode

    bits = _alphanumeric_bits(text)
    version = _smallest_version(len(bits))
    blocks = [
        (block.data_count, block.total_count - block.data_count)
        for block in base.rs_blocks(version, constants.ERROR_CORRECT_L)
    ]
    data = _data_codewords(bits, len(text), version, sum(count for count, _ in blocks))
    code = QRCode(version=version, error_correction=constants.ERROR_CORRECT_L, mask_pattern=_MASK)
    code.data_cache = _interleave(data, blocks)
    code.makeImpl(False, _MASK)
    modules: Matrix = code.modules
    return modules


def _alphanumeric_bits(text: str) -> str:
    """ISO/IEC 18004, 7.4.4: two characters in 11 bits, a last single one in 6."""
    values = [_VALUE_OF[character] for character in text]
    pairs = [f"{45 * a + b:011b}" for a, b in zip(values[::2], values[1::2], strict=False)]
    return "".join(pairs) + (f"{values[-1]:06b}" if len(values) % 2 else "")


def _smallest_version(payload_bits: int) -> int:
    from qrcode import constants, util

    for version, capacity in enumerate(util.BIT_LIMIT_TABLE[constants.ERROR_CORRECT_L]):
        # The first entry stands for a version 0 that there is not.
        if version and 4 + _count_bits(version) + payload_bits <= capacity:
            return version
    raise ValueError("a payment request of this length fits in no QR code")


def _count_bits(version: int) -> int:
    """Length of the character count in alphanumeric mode."""
    if version < 10:
        return 9
    return 11 if version < 27 else 13


def _data_codewords(bits: str, characters: int, version: int, size: int) -> bytes:
    """`size` bytes: mode, count, payload, terminator, padding."""
    stream = f"{_ALPHANUMERIC_MODE:04b}{characters:0{_count_bits(version)}b}{bits}"
    stream += "0" * min(4, 8 * size - len(stream))
    stream += "0" * (-len(stream) % 8)
    used = int(stream, 2).to_bytes(len(stream) // 8)
    return used + (_PAD_BYTES * size)[: size - len(used)]


def _interleave(data: bytes, blocks: Sequence[tuple[int, int]]) -> list[int]:
    """First byte of every block, second of every block, and so on; then the same for the correction bytes.

    blocks: the length of data and of correction for each; only the data's may differ.
    """
    parts, corrections, start = [], [], 0
    for data_count, correction_count in blocks:
        parts.append(data[start : start + data_count])
        corrections.append(_correction(parts[-1], correction_count))
        start += data_count
    columns = chain(zip_longest(*parts), zip(*corrections, strict=True))
    return [byte for column in columns for byte in column if byte is not None]


def _correction(data: bytes, size: int) -> bytes:
    """Reed-Solomon remainder of `data`, `size` bytes: a whole row of the long division at a time, as one integer."""
    multiples = _generator_multiples(size)
    top = 8 * (size - 1)
    remainder = 0
    for byte in data:
        factor = byte ^ remainder >> top
        remainder = (remainder & (1 << top) - 1) << 8 ^ multiples[factor]
    return remainder.to_bytes(size)


@cache
def _generator_multiples(size: int) -> tuple[int, ...]:
    """The generator polynomial of degree `size`, without its leading 1, times each of the 256 field elements."""
    from qrcode import LUT, base

    logs = [base.glog(coefficient) for coefficient in LUT.rsPoly_LUT[size][1:]]
    products = (bytes(base.gexp(log + base.glog(factor)) for log in logs) for factor in range(1, 256))
    return (0, *(int.from_bytes(product) for product in products))
