"""What the repository's modules share."""

from __future__ import annotations

import pytest

from lnpay.repository.sql import by_column
from lnpay.repository.tables import milestones


def test_a_value_that_has_no_column_is_an_error() -> None:
    assert by_column(milestones, {"name": "swept"}) == {"name": "swept"}
    with pytest.raises(KeyError, match="nmae"):
        by_column(milestones, {"nmae": "swept"})
