"""Names of invoices at Strike: readable, short, harmless, and never chosen by others."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnpay.domain.strike_names import (
    StrikeName,
    new_installation,
    new_strike_name,
    read_strike_name,
)


@given(st.text(max_size=60))
def test_a_name_is_short_and_of_harmless_characters_for_any_order_id(order: str) -> None:
    name = new_strike_name(order, new_installation())

    assert re.fullmatch(r"[A-Za-z0-9_.-]{19,40}", name)
    assert read_strike_name(name) is not None


@pytest.mark.parametrize(
    ("order", "shown"),
    [
        ("1001", "1001"),
        ("wc_order-9", "wc_order-9"),
        ("O'Neill's & co", "O-Neill-s-co"),
        ("x' or state eq 'PAID", "x-or-state-eq-PAID"),
        ("Bestellung № 7", "Bestellung-7"),
        ("592d101c-7eb5-4560-b88f-924e80aa05e2", "592d101c-7eb5-4560-b8"),
        ("", ""),
    ],
)
def test_the_order_id_can_be_read_in_it(order: str, shown: str) -> None:
    assert read_strike_name(new_strike_name(order, "abcdef")) == StrikeName(shown, "abcdef")


def test_no_two_names_are_the_same_and_no_two_databases_share_theirs() -> None:
    assert len({new_strike_name("1001", "abcdef") for _ in range(1000)}) == 1000
    assert len({new_installation() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "foreign", ["1001", "order.1001", "592d101c-7eb5-4560-b88f-924e80aa05e2", "", "a.abcdef234567"]
)
def test_a_name_of_another_program_is_not_read_as_ours(foreign: str) -> None:
    assert read_strike_name(foreign) is None
