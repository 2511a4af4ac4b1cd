"""The customer's pages in every language: complete, and the one that the customer wants."""

from __future__ import annotations

import gettext
import io
import re
from decimal import Decimal
from pathlib import Path
from typing import IO

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from flask_babel import force_locale

from lnpay import web
from lnpay.invoices.settle import reconcile_invoice
from lnpay.web import create_app
from lnpay.web.customer.languages import LANGUAGES, in_fiat, locale_name
from tests.world import World

WEB = Path(web.__file__).parent
TRANSLATED = sorted(set(LANGUAGES) - {"en"})
PLACEHOLDER = re.compile(r"%\(\w+\)s|%")


def catalogue(language: str) -> Catalog:
    """What people have written."""
    path = WEB / "translations" / locale_name(language) / "LC_MESSAGES" / "messages.po"
    return read_po(io.BytesIO(path.read_bytes()), locale=locale_name(language))


def used_texts() -> set[object]:
    """Every text that the templates ask for."""
    found = extract_from_dir(WEB, method_map=[("templates/**.html", "jinja2")])
    return {text for _, _, text, _, _ in found}


def forms(message: Message) -> list[str]:
    return [message.string] if isinstance(message.string, str) else list(message.string or ())


def texts(compiled: IO[bytes]) -> dict[object, str]:
    """What a compiled catalogue says, without its header."""
    said: dict[object, str] = dict(gettext.GNUTranslations(compiled)._catalog)  # type: ignore[attr-defined]
    return {text: translated for text, translated in said.items() if text}


def test_each_language_of_the_product_has_a_folder_and_each_folder_a_language() -> None:
    folders = {path.name for path in (WEB / "translations").iterdir() if path.is_dir()}

    assert folders == {locale_name(language) for language in TRANSLATED}
    assert len(LANGUAGES) >= 10


@pytest.mark.parametrize("language", TRANSLATED)
class TestACatalogue:
    def test_has_every_text_of_the_templates_and_no_other(self, language: str) -> None:
        assert {message.id for message in catalogue(language) if message.id} == used_texts()

    def test_nothing_is_missing_fuzzy_or_left_over(self, language: str) -> None:
        found = catalogue(language)

        assert not found.fuzzy
        assert not found.obsolete
        for message in found:
            assert not message.fuzzy
            assert all(form.strip() for form in forms(message)), message.id

    def test_placeholders_are_those_of_the_text(self, language: str) -> None:
        for message in catalogue(language):
            source = message.id if isinstance(message.id, str) else message.id[-1]
            for form in forms(message):
                assert sorted(PLACEHOLDER.findall(form)) == sorted(PLACEHOLDER.findall(source)) or not source, form

    def test_has_a_form_for_each_plural(self, language: str) -> None:
        found = catalogue(language)

        for message in found:
            assert not message.pluralizable or len(forms(message)) == found.num_plurals

    def test_is_compiled_as_it_is_written(self, language: str) -> None:
        path = WEB / "translations" / locale_name(language) / "LC_MESSAGES" / "messages.mo"
        again = io.BytesIO()
        write_mo(again, catalogue(language))
        again.seek(0)

        with path.open("rb") as file:
            assert texts(file) == texts(again), "see lnpay/web/translations/README.md"


class TestWhichLanguage:
    @pytest.mark.parametrize(
        ("query", "header", "language"),
        [
            ("", "", "en"),
            ("", "de-AT,de;q=0.9,en;q=0.8", "de"),
            ("", "pt-PT", "pt-BR"),
            ("", "pt", "pt-BR"),
            ("", "zh-Hans-SG", "zh-CN"),
            ("", "nl, fr;q=0.4, it;q=0.7", "it"),
            ("", "xx, *", "en"),
            ("", "%%%;q=x,,;", "en"),
            ("?lang=ja", "de", "ja"),
            ("?lang=zh-cn", "de", "zh-CN"),
            ("?lang=pt_BR", "de", "pt-BR"),
            ("?lang=tlh", "de", "de"),
            ("?lang=%00'\"><", "", "en"),
        ],
    )
    def test_the_address_decides_before_the_browser(self, world: World, query: str, header: str, language: str) -> None:
        invoice = world.sell()

        page = world.client.get(f"/checkout/{invoice.token}{query}", headers={"Accept-Language": header})

        assert f'<html lang="{language}"' in page.text
        assert page.headers["Content-Language"] == language
        assert "Accept-Language" in page.headers["Vary"]

    def test_arabic_runs_from_right_to_left(self, world: World) -> None:
        invoice = world.sell()

        assert 'dir="rtl"' in world.client.get(f"/checkout/{invoice.token}?lang=ar").text[:100]

    def test_a_chosen_language_stays_when_the_form_is_sent(self, world: World) -> None:
        invoice = world.sell()
        world.pay(invoice, late_seconds=200)
        reconcile_invoice(world.backend.settlement, invoice.strike_invoice_id)
        refund = world.refund(invoice)
        assert refund is not None

        page = world.client.get(f"/checkout/{invoice.token}?lang=es")
        sent = world.client.post(f"/refund/{refund.token}?lang=es", data={"ln_address": "ann@wallet.test"})

        assert f'action="../refund/{refund.token}?lang=es"' in page.text
        assert sent.status_code == 303
        assert sent.headers["Location"].endswith("?lang=es")


@pytest.mark.parametrize(
    ("language", "amount", "currency", "text"),
    [
        ("en", "12.34", "usd", "$12.34"),
        ("de", "1234.50", "eur", "1.234,50\xa0€"),
        ("pt-BR", "1234.50", "brl", "R$\xa01.234,50"),
        ("ja", "1200", "jpy", "￥1,200"),
        ("hi", "1234567.80", "inr", "₹12,34,567.80"),
        ("ar", "12.34", "usd", "\u200f12.34\xa0US$\u200e"),
        ("ar", "12.34", "sar", "\u200f12.34\xa0ر.س.\u200f"),
        ("en", "5.125", "kwd", "KWD5.125"),
        ("en", "10.55", "mmk", "MMK10.55"),
    ],
)
def test_money_is_written_as_the_language_does_and_never_rounded(
    world: World, language: str, amount: str, currency: str, text: str
) -> None:
    with create_app(world.backend).test_request_context(), force_locale(locale_name(language)):
        assert in_fiat(Decimal(amount), currency) == text
