"""The demo shop's pages: products, a cart, orders. Like a real shop, they use only LNPay's API."""

from __future__ import annotations

from flask import Blueprint, abort, redirect, request, url_for
from werkzeug.wrappers import Response

from lnpay.sandbox.people.page import Page, show, simulator
from lnpay.sandbox.shop.actions import place_order, refresh_state
from lnpay.sandbox.shop.backend import BackendFailed
from lnpay.sandbox.shop.greenfield import connect
from lnpay.sandbox.shop.orders import ShopOrder, Way
from lnpay.sandbox.shop.products import (
    PRODUCTS,
    Cart,
    price,
    read_cart,
)

COOKIE = "sandbox_cart"
REFRESH_SECONDS = 2
REFRESHED_AT_ONCE = 3
"""For how many open orders the list refreshes the state."""

pages = Blueprint("shop", __name__, url_prefix="/shop")


@pages.context_processor
def _of_the_shop() -> dict[str, object]:
    return {"cart": _cart(), "products": PRODUCTS, "price": _price}


def _price(cents: int) -> str:
    return price(cents, simulator().config.shop_currency)


def _cart() -> Cart:
    return read_cart(request.cookies.get(COOKIE, ""))


def _leave_with(cart: Cart, to: str) -> Response:
    """Redirect to another page with this cart."""
    response = redirect(to, 303)
    response.set_cookie(COOKIE, cart.to_cookie(), path="/shop", httponly=True, samesite="Lax")
    return response


@pages.get("")
def show_shop() -> Page:
    """The products, the orders so far, and LNPay's notifications."""
    for one in _open_orders()[:REFRESHED_AT_ONCE]:
        refresh_state(simulator(), one)
    return show("shop.html", form=request.args, problem=None)


def _open_orders() -> list[ShopOrder]:
    """The newest first."""
    with simulator().lock:
        return [one for one in reversed(simulator().shop.orders.values()) if not one.is_final]


@pages.post("")
def order() -> Page:
    """Order something by its name and amount."""
    try:
        placed = place_order(
            simulator(),
            product=request.form.get("product", "").strip() or "Something",
            amount=request.form.get("amount", ""),
            address=request.form.get("address", "").strip(),
            shop_url=_shop_url(),
        )
    except BackendFailed as failure:
        return show("shop.html", form=request.form, problem=str(failure)), 502
    return redirect(_next_page(placed), 303)


@pages.post("/way")
def choose_way() -> Page:
    """Choose how the shop connects to LNPay from now on. As a plugin it finds its store and adds its webhook first."""
    name = request.form.get("way", "")
    if name not in list(Way):
        abort(400)
    try:
        if name == Way.GREENFIELD:
            connect(simulator(), request.host_url.rstrip("/"))
    except BackendFailed as failure:
        return show("shop.html", form={}, problem=str(failure)), 502
    with simulator().lock:
        simulator().shop.way = Way(name)
    return redirect(url_for("shop.show_shop"), 303)


@pages.get("/cart")
def show_cart() -> Page:
    """The cart, and where to order it."""
    return show("cart.html", form={}, problem=None)


@pages.post("/cart")
def change_cart() -> Page:
    """Put one more in, or take one out."""
    slug = request.form.get("more") or request.form.get("less") or ""
    if slug not in PRODUCTS:
        abort(400)
    return _leave_with(_cart().changed(slug, 1 if "more" in request.form else -1), url_for("shop.show_cart"))


@pages.post("/cart/order")
def order_cart() -> Page:
    """Order what is in the cart; LNPay makes the invoice."""
    cart = _cart()
    if not cart.lines:
        return redirect(url_for("shop.show_cart"), 303)
    address = request.form.get("address", "").strip()
    try:
        placed = place_order(
            simulator(),
            product=cart.title(),
            amount=_price(cart.cents),
            address=address,
            cart=cart,
            shop_url=_shop_url(),
        )
    except BackendFailed as failure:
        return show("cart.html", form=request.form, problem=str(failure)), 502
    return _leave_with(Cart(), _next_page(placed))


def _shop_url() -> str:
    return request.host_url.rstrip("/") + url_for("shop.show_shop")


def _page_of(order: ShopOrder) -> str:
    return url_for("shop.show_order", order_id=order.order_id)


def _next_page(order: ShopOrder) -> str:
    """Where the customer goes after ordering: a plugin leads to the payment page at once."""
    return str(order.answer["checkout_url"]) if order.way is Way.GREENFIELD else _page_of(order)


def _find(order_id: str) -> ShopOrder:
    found: ShopOrder | None = simulator().shop.orders.get(order_id)
    if found is None:
        abort(404)
    return found


@pages.get("/orders/<order_id>")
def show_order(order_id: str) -> Page:
    """One order: how to pay it, and its state."""
    found = _find(order_id)
    refresh_state(simulator(), found)
    return show("order.html", order=found, refresh_seconds=None if found.is_final else REFRESH_SECONDS)


@pages.get("/orders/<order_id>/again")
def order_again(order_id: str) -> Page:
    """Put the same items into the cart again; the payment page of an expired order links here."""
    found = _find(order_id)
    if found.cart.lines:
        return _leave_with(found.cart, url_for("shop.show_cart"))
    return redirect(url_for("shop.show_shop", product=found.product, amount=found.amount, _anchor="own"), 303)
