"""What becomes of a description: nothing in it is refused, and it always fits into a payment request."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lnpay.domain.text import blank_unprintable, fit_description, on_one_line

FAMILY = "👨\u200d👩\u200d👧"
FLAG = "🇩🇪"
THUMB = "👍🏽"

texts = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from("a \u0301\u0300\u200d\ufe0f\u202e\u2028\x00\n\t\ud83d\u05d0\u0639" + FAMILY + FLAG + THUMB),
    ),
    max_size=400,
)  # fmt: skip


def printable(text: str) -> str:
    return on_one_line(blank_unprintable(text))


@given(texts)
@example("🎉" * 160)
@example("\u0301" * 400)
@example(FAMILY * 60)
def test_every_text_fits_into_a_payment_request(text: str) -> None:
    fitted = fit_description(printable(text))

    assert len(fitted.encode()) <= 639
    assert len(fitted.encode("utf-16-le")) <= 2 * 200


@given(texts)
def test_what_is_cut_is_a_beginning(text: str) -> None:
    text = printable(text)

    fitted = fit_description(text)

    assert fitted == text or (fitted.endswith("…") and text.startswith(fitted[:-1]))


@given(texts)
def test_nothing_unprintable_is_left(text: str) -> None:
    left = {unicodedata.category(character) for character in printable(text)}

    assert not left & {"Cc", "Cs", "Zl", "Zp"}


@given(texts)
def test_what_is_printable_stays_as_it_is(text: str) -> None:
    once = printable(text)

    assert printable(once) == once


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Two\r\ncoffees\t☕", "Two coffees ☕"),
        (" \x00a\x1bb\u2029 ", "a b"),
        ("cut \ud83d", "cut"),
        ("ذرة", "ذرة"),
        ("\n\t", ""),
    ],
)
def test_line_breaks_and_controls_become_spaces(text: str, wanted: str) -> None:
    assert printable(text) == wanted


@pytest.mark.parametrize("one", [FAMILY, FLAG, THUMB, "e\u0301", "❤\ufe0f", "한"])
@pytest.mark.parametrize("start", ["", "a", "ab", "abc"])
def test_no_character_that_people_see_is_cut_in_two(one: str, start: str) -> None:
    fitted = fit_description(start + one * 200)

    whole = fitted.removesuffix("…").removeprefix(start)
    assert whole
    assert whole == one * (len(whole) // len(one))


def test_what_fits_is_not_touched() -> None:
    for text in ("", "a" * 200, "€" * 200, "🎉" * 100):
        assert fit_description(text) == text


def test_a_text_without_any_edge_is_cut_all_the_same() -> None:
    assert len(fit_description("a" + "\u0301" * 300)) == 200
