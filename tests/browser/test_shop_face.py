"""The shop's name, logo and color on the pages that customers see, in a real browser."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import expect

from lnpay.domain.settings import Logo
from tests.browser.conftest import PHONE, Stand, assert_accessible, assert_fits, assert_stage, picture
from tests.browser.test_customer import late_without_address

DESKTOP = {"width": 1280, "height": 900}
COLORS = ["#0a3b6d", "#8a1c2b", "#1a1a1a"]
"""Dark ones: the setting refuses a color that is too light to read on white."""


def a_logo() -> Logo:
    """A picture that a browser can show."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "#c8102e").save(file, "PNG")
    return Logo(file.getvalue(), "image/png")


@pytest.mark.parametrize("color", COLORS)
def test_a_shops_face_keeps_every_page_accessible(make_stand: Callable[..., Stand], color: str) -> None:
    """axe finds no violation in light and dark, on a phone and a desktop."""
    stand = make_stand(shop_name="Bücher & Meer", shop_color=color, shop_logo=a_logo())
    late = late_without_address(stand)
    waiting = stand.sell()
    pages = {"waiting": stand.page_url(waiting), "refund": stand.page_url(late), "missing": f"{stand.url}/checkout/no"}

    for scheme in ("light", "dark"):
        for size, viewport in (("phone", PHONE), ("desktop", DESKTOP)):
            options: dict[str, Any] = {"color_scheme": scheme, "viewport": viewport}
            page = stand.new_context(**options).new_page()
            for name, url in pages.items():
                page.goto(url)
                expect(page.get_by_text("Bücher & Meer").first).to_be_visible()
                logo = page.locator("img[src*='shop/logo']")
                assert logo.first.evaluate("image => image.naturalWidth") == 64
                if name == "waiting":
                    assert_stage(page, "waiting")
                picture(page, f"face-{color[1:]}-{name}-{scheme}-{size}")
                assert_accessible(page)
                assert_fits(page)
