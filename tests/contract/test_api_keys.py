"""API keys over both databases: what is kept of them, and who wins a race."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event, insert, select, update
from sqlalchemy.exc import IntegrityError

from lnpay.access.api_keys import (
    CreatedKey,
    create_key,
    find_key,
    has_keys,
    list_keys,
    revoke_key,
    store_id,
)
from lnpay.domain.errors import InvalidRequest, NotFound
from lnpay.domain.permissions import PERMISSIONS_FOR, KeyPurpose, Permission, parse_permissions
from lnpay.repository import Repository
from lnpay.repository.tables import api_keys, metadata
from tests.databases import fresh_postgres

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An up-to-date database of each engine, shared by the tests of this file."""
    with contextlib.ExitStack() as stack:
        if request.param == "postgresql":
            found = stack.enter_context(fresh_postgres(request.getfixturevalue("postgres_server")))
        else:
            found = f"sqlite:///{tmp_path_factory.mktemp('keys')}/invoices.sqlite"
        made = Repository(found)
        made.upgrade()
        made.close()
        yield found


@pytest.fixture
def repository(url: str) -> Iterator[Repository]:
    made = Repository(url)
    with made.engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())
    yield made
    made.close()


def key_of(repository: Repository, purpose: KeyPurpose = KeyPurpose.WOOCOMMERCE) -> CreatedKey:
    return create_key(repository, purpose, "My shop", NOW)


class TestCreating:
    def test_a_key_is_found_by_its_secret_alone(self, repository: Repository) -> None:
        first, second = key_of(repository), key_of(repository, KeyPurpose.PRESTASHOP)

        found = find_key(repository, second.secret, NOW)

        assert found == second.key
        assert second.key.permissions == PERMISSIONS_FOR[KeyPurpose.PRESTASHOP]
        assert first.secret != second.secret
        for wrong in ("", first.secret[:-1], first.secret + "x", first.secret.swapcase(), "\udcff", "x" * 30_000):
            assert find_key(repository, wrong, NOW) is None

    def test_a_secret_has_many_letters_and_digits_and_nothing_else(self, repository: Repository) -> None:
        secret = key_of(repository).secret

        assert len(secret) >= 32
        assert secret.isascii()
        assert secret.isalnum()

    def test_a_stolen_database_shows_no_key(self, repository: Repository, url: str) -> None:
        made = key_of(repository)
        with repository.engine.connect() as connection:
            stolen = repr(connection.execute(select(api_keys)).all())

        assert made.secret not in stolen
        assert hashlib.sha256(made.secret.encode()).hexdigest() in stolen
        assert made.secret not in repr(made)
        if url.startswith("sqlite"):
            folder = Path(url.removeprefix("sqlite:///")).parent
            assert not [file for file in folder.iterdir() if made.secret.encode() in file.read_bytes()]
        # What was stolen opens nothing either.
        assert find_key(repository, made.key.key_hash, NOW) is None

    @pytest.mark.parametrize("label", ["", "   ", "x" * 101, "a\x00b", "a\u202eb"])
    def test_a_label_that_people_cannot_read_is_refused(self, repository: Repository, label: str) -> None:
        with pytest.raises(InvalidRequest, match="1 to 100 printable"):
            create_key(repository, KeyPurpose.MAGENTO, label, NOW)

        assert not has_keys(repository)

    def test_only_a_custom_key_has_permissions_of_its_own(self, repository: Repository) -> None:
        chosen = parse_permissions(["btcpay.store.canviewinvoices"])

        assert create_key(repository, KeyPurpose.CUSTOM, "x", NOW, permissions=chosen).key.permissions == chosen
        for purpose, permissions in ((KeyPurpose.WOOCOMMERCE, chosen), (KeyPurpose.CUSTOM, ())):
            with pytest.raises(InvalidRequest):
                create_key(repository, purpose, "x", NOW, permissions=permissions)

    def test_two_keys_of_one_secret_are_refused_by_the_database(self, repository: Repository) -> None:
        made = key_of(repository)

        with pytest.raises(IntegrityError), repository.transaction() as tx:
            tx.api_keys.add(replace(made.key, label="another"))

    @pytest.mark.parametrize("wrong", [{"key_hash": "short"}, {"made_for": "shopware"}])
    def test_the_database_refuses_what_is_no_key(self, repository: Repository, wrong: dict[str, str]) -> None:
        good = {"key_hash": "0" * 64, "label": "x", "permissions": "", "made_for": "custom", "created_at": NOW}

        with pytest.raises(IntegrityError), repository.engine.begin() as connection:
            connection.execute(insert(api_keys).values({**good, **wrong}))


class TestRevoking:
    def test_a_revoked_key_is_unknown_at_once_and_stays_in_the_list(self, repository: Repository) -> None:
        made, kept = key_of(repository), key_of(repository)

        revoked = revoke_key(repository, made.key.id, NOW)
        again = revoke_key(repository, made.key.id, NOW + timedelta(days=1))

        assert revoked.revoked_at == again.revoked_at == NOW
        assert find_key(repository, made.secret, NOW) is None
        assert find_key(repository, kept.secret, NOW) is not None
        assert [one.id for one in list_keys(repository)] == [kept.key.id, made.key.id]

    @pytest.mark.parametrize("key_id", [0, -1, 99, 2**63 - 1, 2**63, 10**30])
    def test_a_key_that_does_not_exist_cannot_be_revoked(self, repository: Repository, key_id: int) -> None:
        with pytest.raises(NotFound, match=f"no API key with the id {key_id}"):
            revoke_key(repository, key_id, NOW)

    def test_revoking_the_last_key_does_not_count_as_having_none(self, repository: Repository) -> None:
        assert not has_keys(repository)
        revoke_key(repository, key_of(repository).key.id, NOW)

        assert has_keys(repository)


class TestUse:
    def test_the_last_use_is_written_at_most_once_a_minute(self, repository: Repository) -> None:
        made = key_of(repository)
        writes: list[str] = []
        event.listen(repository.engine, "before_cursor_execute", lambda *a: writes.append(a[2]))

        for seconds in (0, 1, 59, 60, 61, 119):
            find_key(repository, made.secret, NOW + timedelta(seconds=seconds))

        assert len([one for one in writes if one.startswith("UPDATE")]) == 2
        assert list_keys(repository)[0].last_used_at == NOW + timedelta(seconds=60)

    def test_a_use_that_a_wrong_clock_dated_in_the_future_is_corrected(self, repository: Repository) -> None:
        made = key_of(repository)
        find_key(repository, made.secret, NOW + timedelta(days=400))

        find_key(repository, made.secret, NOW)

        assert list_keys(repository)[0].last_used_at == NOW

    def test_a_right_that_only_a_later_version_knows_is_none(self, repository: Repository) -> None:
        made = key_of(repository)
        with repository.engine.begin() as connection:
            text = "btcpay.store.canviewinvoices btcpay.store.canfly"
            connection.execute(update(api_keys).values(permissions=text))

        found = find_key(repository, made.secret, NOW)

        assert found is not None
        assert found.permissions == (Permission.VIEW_INVOICES,)


class TestStoreId:
    def test_it_is_made_once_and_stays(self, repository: Repository) -> None:
        made = key_of(repository)

        assert {made.store_id, key_of(repository).store_id, store_id(repository), store_id(repository)} == {
            made.store_id
        }
        assert made.store_id.isascii()
        assert made.store_id.isalnum()

    def test_it_can_be_needed_before_the_first_key_and_after_the_first_order(self, repository: Repository) -> None:
        with repository.transaction() as tx:
            name = tx.installation.make_name()

        made = store_id(repository)

        assert key_of(repository).store_id == made
        with repository.reading() as tx:
            assert tx.installation.name() == name

    def test_processes_that_need_it_at_once_get_the_same_one(self, repository: Repository, url: str) -> None:
        others = [Repository(url) for _ in range(6)]
        with ThreadPoolExecutor(6) as threads:
            found = list(threads.map(store_id, others))
        for one in others:
            one.close()

        assert len(set(found)) == 1
        assert found[0] == store_id(repository)


class TestPermissions:
    def test_the_sets_are_exactly_those_that_each_plugin_accepts(self) -> None:
        four = {
            "btcpay.store.canviewinvoices", "btcpay.store.cancreateinvoice", "btcpay.store.canviewstoresettings",
            "btcpay.store.canmodifyinvoices",
        }  # fmt: skip
        webhooks, settings = "btcpay.store.webhooks.canmodifywebhooks", "btcpay.store.canmodifystoresettings"

        assert {str(purpose): set(found) for purpose, found in PERMISSIONS_FOR.items()} == {
            "woocommerce": four | {webhooks},
            "prestashop": four | {webhooks, settings},
            "magento": four | {webhooks},
            "custom": four | {webhooks},
        }

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("btcpay.store.cancreatenonapprovedpullpayments", "cannot be granted"),
            ("unrestricted", "is unknown"),
            ("BTCPAY.STORE.CANVIEWINVOICES", "is unknown"),
            ("", "is unknown"),
        ],
    )
    def test_a_right_that_no_key_can_have_is_refused_by_name(self, name: str, why: str) -> None:
        with pytest.raises(InvalidRequest, match=f"'{name}' {why}; choose from btcpay.store.canviewinvoices, "):
            parse_permissions(["btcpay.store.canviewinvoices", name])

    def test_duplicates_count_once(self) -> None:
        twice = ["btcpay.store.cancreateinvoice", "btcpay.store.canviewinvoices", "btcpay.store.cancreateinvoice"]

        assert parse_permissions(twice) == (Permission.VIEW_INVOICES, Permission.CREATE_INVOICE)
