"""The languages of the customer's pages: choosing one per request, and formatting amounts and times in it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from babel import Locale
from babel.dates import format_time
from babel.numbers import format_currency, format_decimal
from flask import Flask, Response, has_request_context, request
from flask_babel import Babel, get_locale, ngettext

LANGUAGES = {
    "en": "English",
    "ar": "العربية",
    "de": "Deutsch",
    "es": "Español",
    "fr": "Français",
    "hi": "हिन्दी",
    "it": "Italiano",
    "ja": "日本語",
    "pt-BR": "Português (Brasil)",
    "zh-CN": "简体中文",
}
"""Language codes as browsers send them, with each language's own name."""

DEFAULT_LANGUAGE = "en"

_BY_LOWER_CASE = {code.lower(): code for code in LANGUAGES}
_BY_PRIMARY = {code.partition("-")[0]: code for code in LANGUAGES}


def set_up_languages(app: Flask) -> None:
    """Make the app's templates use the language of each request."""
    Babel(app, locale_selector=lambda: locale_name(wanted_language()))
    app.jinja_env.globals.update(
        LANGUAGES=LANGUAGES,
        wanted_language=wanted_language,
        language_query=language_query,
        text_direction=lambda: _locale().text_direction,
    )
    app.jinja_env.filters.update(fiat=in_fiat, price=as_price, grouped=grouped, clock_time=clock_time)


def locale_name(language: str) -> str:
    """Babel's name of a language: its catalogue's folder."""
    return str(Locale.parse(language, sep="-"))


def wanted_language() -> str:
    """The language of this request: `?lang=`, else the best of Accept-Language, else English."""
    if not has_request_context():
        return DEFAULT_LANGUAGE
    chosen = chosen_language()
    if chosen is not None:
        return chosen
    for tag in request.accept_languages.values():
        known = known_language(tag)
        if known is not None:
            return known
    return DEFAULT_LANGUAGE


def chosen_language() -> str | None:
    """The language that the address asks for with `?lang=`, if it is one of ours."""
    return known_language(request.args.get("lang", ""))


def language_query() -> str:
    """What keeps a chosen language in a link: "?lang=de", or nothing."""
    chosen = chosen_language()
    return "" if chosen is None else f"?lang={chosen}"


def known_language(tag: str) -> str | None:
    """The supported language for a tag: pt-PT gets Brazilian Portuguese rather than English."""
    tag = tag.lower().replace("_", "-")
    return _BY_LOWER_CASE.get(tag) or _BY_PRIMARY.get(tag.partition("-")[0])


def mark_language(response: Response) -> None:
    """Mark the response's language, and tell caches that it varies with Accept-Language."""
    response.headers["Content-Language"] = wanted_language()
    response.vary.add("Accept-Language")


def in_fiat(amount: Decimal, currency: str) -> str:
    """An amount of money in the request's locale, never rounded."""
    if currency == "sats":
        return str(ngettext("%(sats)s sat", "%(sats)s sats", int(amount), sats=grouped(int(amount))))
    if currency == "btc":
        return f"{format_decimal(amount, '#,##0.00000000', locale=_locale())}\N{NO-BREAK SPACE}BTC"
    return _in_order(format_currency(amount, currency.upper(), locale=_locale(), decimal_quantization=False))


def as_price(price: Decimal, currency: str) -> str:
    """The price of one bitcoin, with the currency's usual decimals."""
    return _in_order(format_currency(price, currency.upper(), locale=_locale()))


def _in_order(amount: str) -> str:
    """Keep the currency sign in place: in right-to-left text a trailing "US$" would be shown as "$US"."""
    is_from_right = amount.startswith("\N{RIGHT-TO-LEFT MARK}") and not amount.endswith("\N{RIGHT-TO-LEFT MARK}")
    return amount + "\N{LEFT-TO-RIGHT MARK}" if is_from_right else amount


def grouped(number: int) -> str:
    """A whole number with digit grouping."""
    return format_decimal(number, locale=_locale())


def clock_time(moment: datetime) -> str:
    """A time of day, in UTC: the customer's time zone is unknown."""
    return format_time(moment, "short", tzinfo=UTC, locale=_locale())


def _locale() -> Locale:
    return get_locale() or Locale.parse(DEFAULT_LANGUAGE)
