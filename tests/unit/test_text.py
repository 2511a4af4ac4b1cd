"""Text is cleaned, cut and formatted: no description is refused, and every one fits into a payment request."""

from __future__ import annotations

import unicodedata
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lnpay.domain.text import (
    blank_lone_surrogates,
    blank_unprintable,
    counted,
    fit_description,
    is_printable_ascii,
    is_storable,
    on_one_line,
    printable,
    terminal_safe,
    utc_minute,
    utc_second,
)

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


def clean(text: str) -> str:
    return on_one_line(blank_unprintable(text))


@given(texts)
@example("🎉" * 160)
@example("\u0301" * 400)
@example(FAMILY * 60)
def test_every_text_fits_into_a_payment_request(text: str) -> None:
    fitted = fit_description(clean(text))

    assert len(fitted.encode()) <= 639
    assert len(fitted.encode("utf-16-le")) <= 2 * 200


@given(texts)
def test_what_is_cut_is_a_beginning(text: str) -> None:
    text = clean(text)

    fitted = fit_description(text)

    assert fitted == text or (fitted.endswith("…") and text.startswith(fitted[:-1]))


@given(texts)
def test_nothing_unprintable_is_left(text: str) -> None:
    left = {unicodedata.category(character) for character in clean(text)}

    assert not left & {"Cc", "Cs", "Zl", "Zp"}


@given(texts)
def test_what_is_printable_stays_as_it_is(text: str) -> None:
    once = clean(text)

    assert clean(once) == once


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
    assert clean(text) == wanted


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


def test_only_what_every_database_accepts_is_storable() -> None:
    assert is_storable("order 7, übung 🍞")
    assert is_storable("\u200b\x1b")
    assert not is_storable("a\0b")
    assert not is_storable("half \ud83c of an emoji")


def test_our_own_ids_are_printable_ascii() -> None:
    assert is_printable_ascii("msg_0123abc-DEF ~")
    assert not any(is_printable_ascii(text) for text in ("a\0", "a\n", "ü", "\x7f"))


def test_text_for_a_terminal_cannot_move_its_cursor() -> None:
    assert terminal_safe("a\x1b[2Jb\r\nü") == "a?[2Jb???"
    assert terminal_safe("one\ntwo", keep="\n") == "one\ntwo"


def test_direction_marks_are_not_printable() -> None:
    assert printable("a\u202eb\tc") == "a b c"
    assert printable("a\u202eb", instead="") == "ab"


def test_lone_surrogates_alone_are_blanked() -> None:
    assert blank_lone_surrogates("a\ud800\tb🍞") == "a \tb🍞"


def test_times_are_written_in_utc() -> None:
    at = datetime(2026, 11, 23, 6, 12, 40, tzinfo=timezone(timedelta(hours=1)))

    assert utc_minute(at) == "2026-11-23 05:12 UTC"
    assert utc_second(at) == "2026-11-23 05:12:40 UTC"


def test_a_count_agrees_with_its_noun() -> None:
    assert [counted(number, "row") for number in (0, 1, 1_234)] == ["0 rows", "1 row", "1,234 rows"]
