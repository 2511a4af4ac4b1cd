"""The codewords of a QR code: data and error correction, in the order in which they are drawn.

The QR library computes the same, but polynomial by polynomial, which took most of the time that a code needs.
Source: ISO/IEC 18004, sections 7.4 to 7.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import zip_longest

from qrcode import ERROR_CORRECT_L
from qrcode.base import gexp, glog, rs_blocks
from qrcode.LUT import rsPoly_LUT
from qrcode.util import ALPHA_NUM, BIT_LIMIT_TABLE, MODE_ALPHA_NUM, PAD0, PAD1, length_in_bits

LARGEST_VERSION = 40
"""Sizes of QR codes are numbered from 1 to this."""

_VALUES = bytes.maketrans(ALPHA_NUM, bytes(range(len(ALPHA_NUM))))


def smallest_version(characters: int) -> int:
    """The smallest size of code for alphanumeric text at level L. Raises ValueError if there is none."""
    # A mode of 4 bits, the length, 11 bits for each pair of characters, 6 for a last one.
    bits = 4 + characters // 2 * 11 + characters % 2 * 6
    for version in range(1, LARGEST_VERSION + 1):
        if bits + length_in_bits(MODE_ALPHA_NUM, version) <= BIT_LIMIT_TABLE[ERROR_CORRECT_L][version]:
            return version
    raise ValueError("a payment request of this length does not fit into a QR code")


def codewords(text: str, version: int) -> list[int]:
    """Data and error correction of alphanumeric text that fits into a code of this version at level L."""
    sizes = rs_blocks(version, ERROR_CORRECT_L)
    data = _data(text, version, sum(size.data_count for size in sizes))
    blocks = []
    for size in sizes:
        blocks.append(data[: size.data_count])
        data = data[size.data_count :]
    checks = [_error_correction(block, sizes[0].total_count - sizes[0].data_count) for block in blocks]
    return [*_in_turn(blocks), *_in_turn(checks)]


def _data(text: str, version: int, size: int) -> bytes:
    """The text as one alphanumeric segment, padded to `size` bytes."""
    values = text.encode("ascii").translate(_VALUES)
    bits = f"{MODE_ALPHA_NUM:04b}{len(values):0{length_in_bits(MODE_ALPHA_NUM, version)}b}"
    bits += "".join(f"{len(ALPHA_NUM) * one + two:011b}" for one, two in zip(values[::2], values[1::2], strict=False))
    if len(values) % 2:
        bits += f"{values[-1]:06b}"
    bits += "0" * min(4, 8 * size - len(bits))
    bits += "0" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8)
    return (data + bytes((PAD0, PAD1)) * size)[:size]


def _error_correction(block: bytes, count: int) -> bytes:
    """The remainder of a block divided by the generator polynomial of `count` codewords, one byte after the other."""
    products, below_first, remainder = _products(count), 8 * (count - 1), 0
    for byte in block:
        first, rest = divmod(remainder, 1 << below_first)
        remainder = rest << 8 ^ products[first ^ byte]
    return remainder.to_bytes(count)


@cache
def _products(count: int) -> list[int]:
    """The generator polynomial of `count` codewords times each byte, without its leading coefficient."""
    generator = rsPoly_LUT[count][1:]
    products = [bytes(gexp(glog(factor) + glog(one)) for one in generator) for factor in range(1, 256)]
    return [0, *(int.from_bytes(product) for product in products)]


def _in_turn(blocks: Sequence[bytes]) -> list[int]:
    """The first byte of each block, then the second of each; some blocks are one byte longer."""
    return [byte for turn in zip_longest(*blocks) for byte in turn if byte is not None]
