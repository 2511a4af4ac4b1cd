"""The simulated world with its HTTP interface, for tests and the sandbox's server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from lnpay.sandbox.application import answer_wsgi
from lnpay.sandbox.world import World


class Simulator(World):
    """One world that also answers requests. Safe to call from several threads."""

    def wsgi_app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Everything over HTTP: Strike, rates, control, shop, wallet."""
        return answer_wsgi(self, environ, start_response)
