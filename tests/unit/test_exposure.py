"""Who can make invoices without a key."""

from __future__ import annotations

import pytest

from lnpay.monitoring.exposure import why_api_is_open

PUBLIC = "https://pay.shop.example/webhook"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost", "LOCALHOST", "[::1]", "localhost."])
@pytest.mark.parametrize("webhook_url", ["", "http://127.0.0.1:5000/webhook", "http://localhost/webhook"])
def test_what_only_this_machine_can_call_needs_no_key(host: str, webhook_url: str) -> None:
    assert why_api_is_open(host, webhook_url, has_keys=False) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "192.168.1.7", "fe80::1", "pay.shop.example", "lnpay"])  # noqa: S104
def test_an_address_that_others_can_call_is_named(host: str) -> None:
    assert (why_api_is_open(host, "", has_keys=False) or "").startswith(f"HOST={host} lets other machines call LNPay")


def test_a_public_webhook_address_is_named() -> None:
    assert "LNPay is public at pay.shop.example" in (why_api_is_open("127.0.0.1", PUBLIC, has_keys=False) or "")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
def test_with_a_key_nothing_is_open(host: str) -> None:
    assert why_api_is_open(host, PUBLIC, has_keys=True) is None
