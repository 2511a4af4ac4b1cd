"""Pages for people: a demo shop, a wallet, the provider's ledger, a panel of faults. No scripts needed."""

from __future__ import annotations

from functools import cache

from flask import Flask


@cache
def people_app() -> Flask:
    """The one Flask app of all simulators; each request carries its own in the environ."""
    return Flask("lnpay.sandbox", template_folder="templates")
