"""The shop's branding on customer pages (name, colour, logo), and the page at `/`."""

from __future__ import annotations

import hashlib

from flask import Blueprint, Response, jsonify, make_response, render_template, request

from lnpay.domain.errors import NotFound
from lnpay.runtime.backend import ShopFace
from lnpay.web.api.answers import Home
from lnpay.web.context import current_backend
from lnpay.web.customer.languages import mark_language
from lnpay.web.customer.pages import page_policy

blueprint = Blueprint("shop", __name__)

# Under /static/, which proxies already pass on.
MAX_AGE_SECONDS = 86_400
"""Pages link both files with fingerprints, so that a changed file has a new URL."""

DARK_CARD = (0x17, 0x1E, 0x1B)
"""The card background of the dark theme in customer.css."""

MIN_CONTRAST = 4.5


@blueprint.get("/")
def show_home() -> Response:
    """What this server is: a page for people, JSON for programs."""
    face = current_backend().shop_face
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) != "text/html":
        response = jsonify(Home(status="success", service="LNPay", shop=face.name or None, docs="/docs"))
    else:
        response = make_response(render_template("home.html"))
        response.headers["Content-Security-Policy"] = page_policy(())
        mark_language(response)
    response.vary.add("Accept")
    return response


@blueprint.get("/static/shop/logo")
def show_logo() -> Response:
    """The file of SHOP_LOGO."""
    logo = current_backend().shop_face.logo
    if logo is None:
        raise NotFound("there is no logo")
    return _kept(Response(logo.content, mimetype=logo.media_type))


@blueprint.get("/static/shop/style.css")
def show_style() -> Response:
    """A style sheet with SHOP_COLOR for the light and the dark theme."""
    color = current_backend().shop_face.color
    if not color:
        raise NotFound("there is no colour")
    style = (
        f":root {{ --accent: {color}; --on-accent: #fff; }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ --accent: {lightened(color)}; --on-accent: #0e1311; }} }}\n"
    )
    return _kept(Response(style, mimetype="text/css"))


def _kept(response: Response) -> Response:
    response.cache_control.max_age = MAX_AGE_SECONDS
    response.cache_control.public = True
    return response


def fingerprint(face: ShopFace) -> str:
    """A hash of the files of `face`."""
    content = b"" if face.logo is None else face.logo.content
    return hashlib.sha256(face.color.encode() + content).hexdigest()[:10]


def lightened(color: str) -> str:
    """The same hue, lightened until it is readable on a dark card."""
    parts = tuple(int(color[start : start + 2], 16) for start in (1, 3, 5))
    for percent in range(0, 101, 5):
        mixed = tuple(round(one + (255 - one) * percent / 100) for one in parts)
        if _contrast(mixed, DARK_CARD) >= MIN_CONTRAST:
            break
    return "#" + "".join(f"{one:02x}" for one in mixed)


def _contrast(lighter: tuple[int, ...], darker: tuple[int, ...]) -> float:
    return (_luminance(lighter) + 0.05) / (_luminance(darker) + 0.05)


def _luminance(parts: tuple[int, ...]) -> float:
    """The relative luminance of WCAG 2, from 0 to 1."""
    linear = [one / 3_294.6 if one <= 10 else ((one / 255 + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
