"""The filters of Strike's lists: what they mean and what they refuse."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnpay.sandbox.strike.api.odata import BadQuery, Row, parse_filter

KINDS = {"state": "text", "correlationId": "text", "created": "date", "deliverySuccess": "bool"}
ROW: Row = {
    "state": "PAID",
    "correlationId": "it's 1",
    "created": datetime(2026, 1, 2, tzinfo=UTC),
    "deliverySuccess": None,
}


@pytest.mark.parametrize(
    "text",
    [
        "state eq 'PAID'",
        "state in ('UNPAID','PAID')",
        "correlationId eq 'it''s 1'",
        "created gt 2026-01-01T00:00:00Z",
        "created ge 2026-01-02T00:00:00+00:00 and created le 2026-01-02T00:00:00Z",
        "created lt '2026-01-03T00:00:00Z'",
        "state eq 'UNPAID' or state eq 'PAID'",
        "state eq 'PAID' or state eq 'X' and state eq 'Y'",
        "(state eq 'PAID' or state eq 'X') and created gt 2025-01-01T00:00:00Z",
    ],
)
def test_a_filter_that_holds(text: str) -> None:
    assert parse_filter(text, KINDS).matches(ROW)


@pytest.mark.parametrize(
    "text",
    [
        "state eq 'UNPAID'",
        "state eq 'paid'",
        "state in ('UNPAID')",
        "created gt 2026-01-02T00:00:00Z",
        "deliverySuccess eq false",
        "(state eq 'PAID' or state eq 'X') and state eq 'Y'",
    ],
)
def test_a_filter_that_does_not_hold(text: str) -> None:
    assert not parse_filter(text, KINDS).matches(ROW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "state",
        "state eq",
        "state ne 'PAID'",
        "color eq 'red'",
        "contains(state, 'P')",
        "state eq 'PAID",
        "state eq 'PAID' and",
        "state eq 'PAID' state eq 'PAID'",
        "state in ()",
        "state in ('PAID'",
        "(state eq 'PAID'",
        "created gt yesterday",
        "deliverySuccess eq 'true'",
        "state eq 'A' & state eq 'B'",
        "(" * 50 + "state eq 'A'" + ")" * 50,
    ],
)
def test_what_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(BadQuery):
        parse_filter(text, KINDS)


@given(st.text(alphabet="state eq'()PAIDandor,in created2026-", max_size=60))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    try:
        found = parse_filter(text, KINDS).matches(ROW)
    except BadQuery:
        return
    assert found in (True, False)
