"""Tables of a newer LNPay: the database says whether this one may use them."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from lnpay.doctor.checks import database as database_checks
from lnpay.domain.errors import SchemaTooNew
from lnpay.repository import Repository
from lnpay.repository.maintenance.inspect import look
from lnpay.repository.repository import SCHEMA_VERSION

NEWER, NEWEST = "9000", "9001"


def make_newer(repository: Repository, oldest_code: str | None, said_of: str = NEWER) -> None:
    """What the migrations of a newer LNPay leave behind."""
    change = "UPDATE alembic_version SET version_num = :newer, oldest_code = :oldest, oldest_code_of = :said_of"
    with repository.engine.begin() as connection:
        connection.execute(text(change), {"newer": NEWER, "oldest": oldest_code, "said_of": said_of})


def test_tables_that_were_only_added_to_are_used_and_left_as_they_are(repository: Repository) -> None:
    make_newer(repository, SCHEMA_VERSION)

    repository.ping()
    repository.upgrade()

    condition = look(str(repository.engine.url.render_as_string(hide_password=False)))
    assert (condition.version, condition.serves(SCHEMA_VERSION), condition.serves("0001")) == (NEWER, True, False)
    assert "can still use it" in str(database_checks._schema(condition))


def test_tables_that_need_newer_code_are_refused_with_its_version(repository: Repository) -> None:
    make_newer(repository, NEWER)

    for call in (repository.ping, repository.upgrade):
        with pytest.raises(
            SchemaTooNew, match=f"only LNPay from version {NEWER} on can use it, and this is {SCHEMA_VERSION}"
        ):
            call()


@pytest.mark.parametrize(("oldest_code", "said_of"), [(None, NEWER), (SCHEMA_VERSION, SCHEMA_VERSION), ("", NEWEST)])
def test_what_was_said_of_another_version_permits_nothing(
    repository: Repository, oldest_code: str | None, said_of: str
) -> None:
    make_newer(repository, oldest_code, said_of)

    with pytest.raises(SchemaTooNew, match=f"the database is at version {NEWER}, this LNPay needs"):
        repository.ping()
    with pytest.raises(SchemaTooNew, match="start the newer LNPay that made it"):
        repository.upgrade()
