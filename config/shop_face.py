"""Readers for the shop's branding: its name, colour and logo."""

from __future__ import annotations

import re
from pathlib import Path

from config.values import ROOT
from lnpay.domain.settings import Logo

MAX_NAME_CHARACTERS = 40

MAX_LOGO_BYTES = 200 * 1024
"""The customer's phone loads the logo before showing how to pay, so it must be small."""

LOGO_NAMES = ("logo.png", "logo.jpg", "logo.jpeg", "logo.webp")

MIN_CONTRAST = 4.5
"""Contrast of white text on the colour that WCAG 2 requires (AA)."""

_COLOR = re.compile(r"#[0-9a-fA-F]{6}")

_SVG = re.compile(rb"<(?:svg|\?xml|!doctype svg|!--)", re.IGNORECASE)


def shop_name(text: str) -> str:
    """The name that customers see."""
    name = " ".join(text.split())
    if len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        raise ValueError(f"must be at most {MAX_NAME_CHARACTERS} visible characters")
    return name


def shop_color(text: str) -> str:
    """A colour on which white text is readable."""
    if not _COLOR.fullmatch(text):
        raise ValueError("must be a colour such as #0a6b4d")
    contrast = 1.05 / (_luminance(text) + 0.05)
    if contrast < MIN_CONTRAST:
        raise ValueError(
            f"is too light: the white text on its buttons has a contrast of {contrast:.1f}, and needs {MIN_CONTRAST}. "
            "Choose a darker shade"
        )
    return text.lower()


def _luminance(color: str) -> float:
    """The relative luminance of WCAG 2, from 0 to 1."""
    parts = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def find_logo(folder: Path) -> Path | None:
    """The logo file in `folder`, if there is one."""
    return next((folder / name for name in LOGO_NAMES if (folder / name).is_file()), None)


def logo(text: str) -> Logo:
    """The logo at a path relative to the project's folder. Its content decides its type, not its name."""
    try:
        with (ROOT / text).open("rb") as file:
            content = file.read(MAX_LOGO_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or 'no such file'}") from error
    if len(content) > MAX_LOGO_BYTES:
        raise ValueError(f"is larger than {MAX_LOGO_BYTES // 1024} KiB: save it smaller, 400 pixels wide are enough")
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return Logo(content, "image/png")
    if content.startswith(b"\xff\xd8\xff"):
        return Logo(content, "image/jpeg")
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return Logo(content, "image/webp")
    if _SVG.match(content.lstrip(b"\xef\xbb\xbf \t\r\n")):
        raise ValueError("is an SVG, which can hold scripts: save it as PNG or WebP")
    raise ValueError("is not a PNG, JPEG or WebP image")
