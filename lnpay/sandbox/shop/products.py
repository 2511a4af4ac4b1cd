"""What the demo shop sells, and the cart that a customer carries in a cookie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lnpay.domain.money import decimals_of

MOST_OF_ONE = 20


@dataclass(frozen=True, slots=True)
class Product:
    """One product. cents: its price in hundredths of the shop's currency."""

    name: str
    about: str
    cents: int


PRODUCTS: dict[str, Product] = {
    "coffee": Product("A bag of coffee", "Whole beans, roasted on Monday", 1250),
    "cappuccino": Product("Cappuccino", "With a heart in the foam", 490),
    "croissant": Product("Croissant", "Still warm", 320),
    "tea": Product("Green tea", "A tin of sencha", 720),
    "teapot": Product("Teapot", "Stoneware, for four cups", 3400),
    "candle": Product("Candle", "For when the lights go out", 899),
}

_SIGNS = {"usd": "$", "eur": "€", "gbp": "£"}


@dataclass(frozen=True, slots=True)
class CartLine:
    """Some of one product, in a cart or an order."""

    slug: str
    count: int

    @property
    def product(self) -> Product:
        """What it is."""
        return PRODUCTS[self.slug]

    @property
    def cents(self) -> int:
        """What all of it costs."""
        return self.product.cents * self.count


@dataclass(frozen=True, slots=True)
class Cart:
    """What a customer is about to buy."""

    lines: tuple[CartLine, ...] = ()

    @property
    def count(self) -> int:
        """How many things there are in it."""
        return sum(line.count for line in self.lines)

    @property
    def cents(self) -> int:
        """What it all costs."""
        return sum(line.cents for line in self.lines)

    def changed(self, slug: str, by: int) -> Cart:
        """The cart with more or fewer of one product."""
        counts = {line.slug: line.count for line in self.lines}
        counts[slug] = counts.get(slug, 0) + by
        return cart_of(counts)

    def title(self) -> str:
        """What the customer reads in the wallet."""
        return ", ".join(
            line.product.name if line.count == 1 else f"{line.count} × {line.product.name}" for line in self.lines
        )

    def to_cookie(self) -> str:
        """As `read_cart` reads it again."""
        return ".".join(f"{line.slug}-{line.count}" for line in self.lines)


def cart_of(counts: Mapping[str, int]) -> Cart:
    """A cart of what is sold here, as many of each as one may have."""
    kept = {slug: min(count, MOST_OF_ONE) for slug, count in counts.items() if slug in PRODUCTS and count > 0}
    return Cart(tuple(CartLine(slug, kept[slug]) for slug in PRODUCTS if slug in kept))


def read_cart(cookie: str) -> Cart:
    """The cart in a cookie. What is not understood is left out: anybody can write a cookie."""
    counts: dict[str, int] = {}
    for part in cookie[:500].split("."):
        slug, _, count = part.partition("-")
        if count.isascii() and count.isdigit() and len(count) < 4:
            counts[slug] = int(count)
    return cart_of(counts)


def price(cents: int, currency: str) -> str:
    """An amount as LNPay takes it. Where a currency has no cents, a hundredth is one of its units."""
    return str(cents) if decimals_of(currency) == 0 else f"{cents // 100}.{cents % 100:02d}"


def with_currency(amount: str, currency: str) -> str:
    """An amount as people write it."""
    sign = _SIGNS.get(currency.lower())
    return f"{sign}{amount}" if sign else f"{amount} {currency.upper()}"
