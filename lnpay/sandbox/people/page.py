"""What every page needs: the simulator of this request, and templates."""

from __future__ import annotations

from typing import cast

from flask import render_template, request
from werkzeug.wrappers import Response

from lnpay.sandbox.world import World

Page = str | Response | tuple[str, int]


def simulator() -> World:
    """The simulator that serves this request."""
    return cast("World", request.environ["sandbox.simulator"])


def show(template: str, **values: object) -> str:
    """Render a page while the simulator is locked."""
    with simulator().lock:
        return render_template(template, **values)
