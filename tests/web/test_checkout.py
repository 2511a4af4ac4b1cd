"""GET /checkout/<token>: the page a customer pays on."""

from __future__ import annotations

import pytest

from lnpay.invoices.settle import reconcile_invoice
from tests.web.answers import assert_error
from tests.world import World


class TestThePage:
    def test_it_shows_what_to_pay(self, world: World) -> None:
        invoice = world.sell(description="Two coffees")

        page = world.client.get(f"/checkout/{invoice.token}")

        assert (page.status_code, page.mimetype) == (200, "text/html")
        assert "Two coffees" in page.text
        assert "12.34" in page.text
        assert invoice.issue.bolt11.lower() in page.text.lower()

    @pytest.mark.parametrize("late_seconds", [0, 200])
    def test_a_paid_invoice_is_not_offered_again(self, world: World, late_seconds: int) -> None:
        invoice = world.sell()
        world.pay(invoice, late_seconds=late_seconds)
        reconcile_invoice(world.backend.settlement, invoice.strike_invoice_id)

        page = world.client.get(f"/checkout/{invoice.token}")

        assert page.status_code == 200
        assert invoice.issue.bolt11.lower() not in page.text.lower()

    def test_an_expired_invoice_is_not_offered_before_any_worker_has_run(self, world: World) -> None:
        invoice = world.sell()
        world.wait(121)

        page = world.client.get(f"/checkout/{invoice.token}")

        assert invoice.issue.bolt11.lower() not in page.text.lower()

    def test_the_shops_text_is_escaped(self, world: World) -> None:
        invoice = world.sell(description="<script>alert(1)</script><img src=x onerror=alert(1)>")

        page = world.client.get(f"/checkout/{invoice.token}").text

        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "&lt;script&gt;alert" in page

    def test_its_policy_allows_only_our_own_resources(self, world: World) -> None:
        invoice = world.sell()

        policy = world.client.get(f"/checkout/{invoice.token}").headers["Content-Security-Policy"]

        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert "frame-ancestors 'none'" in policy

    def test_no_address_of_the_page_leaks_to_another_site(self, world: World) -> None:
        invoice = world.sell()

        headers = world.client.get(f"/checkout/{invoice.token}").headers

        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"


class TestUnknownTokens:
    @pytest.mark.parametrize("token", ["unknown", "%00", "%ff", "x" * 3_000, "ключ", "'--", "%F0%9F%8D%95"])
    def test_is_a_404(self, world: World, token: str) -> None:
        assert world.client.get(f"/checkout/{token}").status_code == 404

    def test_the_invoices_public_name_does_not_open_it(self, world: World) -> None:
        invoice = world.sell()

        assert world.client.get(f"/checkout/{invoice.strike_invoice_id}").status_code == 404

    def test_another_method_is_a_405(self, world: World) -> None:
        assert_error(world.client.post("/checkout/x"), 405, "method_not_allowed")
