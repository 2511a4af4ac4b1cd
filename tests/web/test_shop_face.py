"""The shop's branding on the customer's pages, and the page at /."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lnpay.domain.settings import Logo
from lnpay.runtime.worker_passes import main_pass
from lnpay.web.customer.shop import lightened
from tests.owing import owe
from tests.world import World

HTML = {"Accept": "text/html"}
PNG = Logo(b"\x89PNG\r\n\x1a\nrest", "image/png")


@pytest.fixture
def shop(make_world: Callable[..., World]) -> World:
    return make_world(shop_name="Bücher & Meer", shop_color="#0a3b6d", shop_logo=PNG)


def pages(world: World) -> list[str]:
    """The payment page, the refund page, and an error of each."""
    invoice = owe(world, None)
    refund = world.refund(invoice)
    assert refund is not None
    paths = [f"/checkout/{world.sell().token}", f"/refund/{refund.token}", "/checkout/none", "/refund/none"]
    return [world.client.get(path, headers=HTML).text for path in paths]


def test_every_page_shows_name_colour_and_logo(shop: World) -> None:
    for page in pages(shop):
        assert '<span dir="auto">Bücher &amp; Meer</span>' in page
        assert "Bücher &amp; Meer</title>" in page
        assert 'href="../static/shop/style.css?v=' in page
        assert 'src="../static/shop/logo?v=' in page


def test_without_settings_nothing_is_added(world: World) -> None:
    for page in pages(world):
        assert "shop.css" not in page
        assert 'class="shop"' not in page


def test_the_logo_is_served_with_its_content_type(shop: World) -> None:
    answer = shop.client.get("/static/shop/logo")

    assert (answer.status_code, answer.mimetype, answer.data) == (200, "image/png", PNG.content)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "max-age=86400" in answer.headers["Cache-Control"]


def test_the_colour_is_lighter_in_the_dark(shop: World) -> None:
    style = shop.client.get("/static/shop/style.css")

    assert style.mimetype == "text/css"
    assert "--accent: #0a3b6d; --on-accent: #fff" in style.text
    assert f"--accent: {lightened('#0a3b6d')}; --on-accent: #0e1311" in style.text


@pytest.mark.parametrize(("color", "in_the_dark"), [("#000000", "#8c8c8c"), ("#0a6b4d", "#549782")])
def test_a_colour_is_lightened_only_as_far_as_it_takes(color: str, in_the_dark: str) -> None:
    assert lightened(color) == in_the_dark


@pytest.mark.parametrize("path", ["/static/shop/logo", "/static/shop/style.css"])
def test_what_is_not_set_is_a_404(world: World, path: str) -> None:
    assert world.client.get(path).status_code == 404


def test_the_first_page_is_a_page_for_people_and_json_for_programs(shop: World) -> None:
    page = shop.client.get("/", headers=HTML)
    answer = shop.client.get("/")

    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert "<h1>Bücher &amp; Meer</h1>" in page.text
    assert 'alt="Bücher &amp; Meer"' in page.text
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert answer.get_json() == {"status": "success", "service": "LNPay", "shop": "Bücher & Meer", "docs": "/docs"}


def test_the_first_page_of_a_shop_without_a_name(world: World) -> None:
    assert "<h1>LNPay</h1>" in world.client.get("/", headers=HTML).text
    assert world.client.get("/").get_json()["shop"] is None


def test_every_stage_says_what_it_is_about(make_world: Callable[..., World]) -> None:
    world = make_world()
    about = '<p class="about"><bdi>2 books</bdi> · <bdi>$12.34</bdi> · <bdi>#1001</bdi></p>'
    invoice = owe(world, None, description="2 books", correlation_id="1001")
    refund = world.refund(invoice)
    assert refund is not None
    paid = world.sell(description="2 books", correlation_id="attempt-2", order_id="1001")
    world.pay(paid)
    main_pass(world.backend)

    for path in (f"/checkout/{invoice.token}", f"/refund/{refund.token}", f"/checkout/{paid.token}"):
        assert about in world.client.get(path, headers=HTML).text


def test_where_the_customer_pays_only_the_order_is_added(world: World) -> None:
    invoice = world.sell(description="2 books", correlation_id="1001")

    page = world.client.get(f"/checkout/{invoice.token}", headers=HTML).text

    assert '<p class="about"><bdi>#1001</bdi></p>' in page


def test_a_generated_order_id_is_not_shown(world: World) -> None:
    page = world.client.get(f"/checkout/{world.sell().token}", headers=HTML).text

    assert 'class="about"' not in page
