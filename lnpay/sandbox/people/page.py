"""What every page for people needs: the simulator of this request, and templates."""

from __future__ import annotations

from typing import cast

from flask import render_template, request
from werkzeug.wrappers import Response

from lnpay.sandbox.world import World

Page = str | Response | tuple[str, int]


def simulator() -> World:
    """The world this request is about."""
    return cast("World", request.environ["sandbox.simulator"])


def show(template: str, **values: object) -> str:
    """A page, rendered while nothing changes."""
    with simulator().lock:
        return render_template(template, **values)
