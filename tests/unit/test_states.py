"""Every pair of states of the three machines, permitted or not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any

import pytest

from lnpay.domain.states import (
    DELIVERY_MOVES,
    INVOICE_MOVES,
    REFUND_MOVES,
    DeliveryState,
    ForbiddenMove,
    InvoiceState,
    RefundState,
    check_delivery_move,
    check_invoice_move,
    check_refund_move,
)

Check = Callable[[Any, Any], None]

# Written out once more, by hand: a table that is compared with itself proves nothing.
PERMITTED_INVOICE_MOVES = {
    ("unpaid", "settled"),
    ("unpaid", "expired"),
    ("unpaid", "paid_late"),
    ("expired", "settled"),
    ("expired", "paid_late"),
    ("expired", "lapsed"),
    ("unpaid", "cancelled"),
    ("expired", "cancelled"),
    ("cancelled", "settled"),
    ("cancelled", "paid_late"),
    ("lapsed", "settled"),
    ("lapsed", "paid_late"),
    ("paid_late", "settled"),
}
PERMITTED_REFUND_MOVES = {
    ("requested", "quoted"),
    ("requested", "failed"),
    ("requested", "needs_address"),
    ("requested", "held"),
    ("requested", "sent"),
    ("quoted", "in_flight"),
    ("quoted", "failed"),
    ("quoted", "held"),
    ("quoted", "requested"),
    ("in_flight", "sent"),
    ("in_flight", "failed"),
    ("failed", "requested"),
    ("failed", "sent"),
    ("needs_address", "requested"),
    ("needs_address", "sent"),
    ("held", "requested"),
    ("held", "sent"),
    ("held", "needs_address"),
    ("requested", "canceled"),
    ("quoted", "canceled"),
    ("failed", "canceled"),
    ("needs_address", "canceled"),
    ("held", "canceled"),
}
PERMITTED_DELIVERY_MOVES = {
    ("pending", "delivered"),
    ("pending", "abandoned"),
    ("pending", "withdrawn"),
    ("withdrawn", "delivered"),
    ("delivered", "pending"),
    ("abandoned", "pending"),
    ("abandoned", "withdrawn"),
}
MACHINES: list[tuple[str, type[StrEnum], Mapping[Any, frozenset[Any]], Check]] = [
    ("invoice", InvoiceState, INVOICE_MOVES, check_invoice_move),
    ("refund", RefundState, REFUND_MOVES, check_refund_move),
    ("delivery", DeliveryState, DELIVERY_MOVES, check_delivery_move),
]


def pairs_of(states: Iterable[StrEnum]) -> list[tuple[StrEnum, StrEnum]]:
    known = list(states)
    return list(itertools.product(known, known))


@pytest.mark.parametrize(("old", "new"), pairs_of(InvoiceState))
def test_an_invoice_makes_the_moves_of_the_design_and_no_others(old: InvoiceState, new: InvoiceState) -> None:
    assert_move(check_invoice_move, "invoice", old, new, is_permitted=(old, new) in PERMITTED_INVOICE_MOVES)


@pytest.mark.parametrize(("old", "new"), pairs_of(RefundState))
def test_a_refund_makes_the_moves_of_the_design_and_no_others(old: RefundState, new: RefundState) -> None:
    assert_move(check_refund_move, "refund", old, new, is_permitted=(old, new) in PERMITTED_REFUND_MOVES)


@pytest.mark.parametrize(("old", "new"), pairs_of(DeliveryState))
def test_a_delivery_makes_the_moves_of_the_design_and_no_others(old: DeliveryState, new: DeliveryState) -> None:
    assert_move(check_delivery_move, "delivery", old, new, is_permitted=(old, new) in PERMITTED_DELIVERY_MOVES)


@pytest.mark.parametrize(("_noun", "states", "moves", "_check"), MACHINES)
def test_every_state_has_its_line_in_the_table(
    _noun: str, states: type[StrEnum], moves: Mapping[Any, frozenset[Any]], _check: Check
) -> None:
    assert set(moves) == set(states)


@pytest.mark.parametrize(("_noun", "states", "_moves", "check"), MACHINES)
def test_no_state_becomes_itself(
    _noun: str, states: type[StrEnum], _moves: Mapping[Any, frozenset[Any]], check: Check
) -> None:
    for state in states:
        with pytest.raises(ForbiddenMove):
            check(state, state)


def test_money_in_flight_is_left_only_towards_what_the_provider_can_prove() -> None:
    assert REFUND_MOVES[RefundState.IN_FLIGHT] == {RefundState.SENT, RefundState.FAILED}


def test_money_is_in_flight_only_after_its_quote_is_stored() -> None:
    assert [old for old, new in REFUND_MOVES.items() if RefundState.IN_FLIGHT in new] == [RefundState.QUOTED]


def test_a_sent_refund_stays_sent() -> None:
    assert REFUND_MOVES[RefundState.SENT] == frozenset()


def assert_move(check: Check, noun: str, old: StrEnum, new: StrEnum, *, is_permitted: bool) -> None:
    if is_permitted:
        check(old, new)
        return
    with pytest.raises(ForbiddenMove) as refusal:
        check(old, new)
    assert str(refusal.value) == f"{noun}: {old} may not become {new}"
