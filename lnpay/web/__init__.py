"""HTTP: parse, call a use case, answer. No business rules here."""

from lnpay.web.app import create_app

__all__ = ["create_app"]
