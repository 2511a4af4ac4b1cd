"""The blueprint that every route of the Greenfield API is part of."""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from lnpay.web.greenfield.errors import API_PREFIX, set_up_errors


class SlashBlueprint(Blueprint):
    """A blueprint whose URLs may end in a slash, as those of BTCPay Server may."""

    def add_url_rule(self, rule: str, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as Flask has it
        """Add a rule that also matches with a slash at its end."""
        options.setdefault("strict_slashes", False)
        super().add_url_rule(rule, *args, **options)


blueprint = SlashBlueprint("greenfield", __name__, url_prefix=API_PREFIX)
set_up_errors(blueprint)
