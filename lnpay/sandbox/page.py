"""What every page for people needs: the simulator of this request, and templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flask import render_template, request
from werkzeug.wrappers import Response

if TYPE_CHECKING:
    from lnpay.sandbox.simulator import Simulator

Page = str | Response | tuple[str, int]


def simulator() -> Simulator:
    """The world this request is about."""
    return cast("Simulator", request.environ["sandbox.simulator"])


def show(template: str, **values: object) -> str:
    """A page, rendered while nothing changes."""
    with simulator().lock:
        return render_template(template, **values)
