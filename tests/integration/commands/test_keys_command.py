"""python main.py keys ...: a key is printed once, in a form for programs or people, and mistakes are named."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from lnpay.access.api_keys import create_key, find_key
from lnpay.domain.permissions import PERMISSIONS_FOR, KeyPurpose
from tests.integration.commands.test_commands import run
from tests.world import World


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


class TestCreate:
    @pytest.mark.parametrize("made_for", [str(one) for one in KeyPurpose])
    def test_programs_get_key_id_store_id_and_permissions(
        self, world: World, capsys: pytest.CaptureFixture[str], made_for: str
    ) -> None:
        assert run(world, "keys", "create", "--for", made_for, "--label", "My shop", "--json") == 0

        printed = json.loads(capsys.readouterr().out)

        assert printed.keys() == {"key", "id", "store_id", "permissions"}
        assert printed["permissions"] == list(PERMISSIONS_FOR[KeyPurpose(made_for)])
        found = find_key(world.backend.repository, printed["key"], world.backend.clock())
        assert found is not None
        assert (found.id, found.label, found.made_for) == (printed["id"], "My shop", made_for)

    def test_people_get_the_same_and_the_address(
        self, make_world: Callable[..., World], capsys: pytest.CaptureFixture[str]
    ) -> None:
        world = make_world(webhook_url="https://pay.shop.example/webhook")

        assert run(world, "keys", "create", "--for", "magento", "--label", "My shop") == 0

        text = capsys.readouterr().out
        assert "address   https://pay.shop.example" in text
        assert "python main.py keys revoke 1" in text
        assert "btcpay.store.webhooks.canmodifywebhooks" in text
        secret = text.split()[1]
        assert find_key(world.backend.repository, secret, world.backend.clock()) is not None

    def test_a_custom_key_has_the_permissions_that_are_named(
        self, world: World, capsys: pytest.CaptureFixture[str]
    ) -> None:
        names = ["btcpay.store.canviewinvoices", "btcpay.store.cancreateinvoice"]
        named = [word for name in names for word in ("--permission", name)]

        assert run(world, "keys", "create", "--for", "custom", *named, "--label", "x", "--json") == 0

        assert json.loads(capsys.readouterr().out)["permissions"] == names

    def test_the_first_key_warns_that_every_call_needs_one_now(
        self, world: World, make_world: Callable[..., World], capsys: pytest.CaptureFixture[str]
    ) -> None:
        warned = []
        for one in (world, world, make_world(api_keys=("a-shop-key-for-the-tests",))):
            run(one, "keys", "create", "--for", "custom", "--label", "x")
            warned.append("the API refuses calls without one" in capsys.readouterr().err)

        assert warned == [True, False, False]

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--for", "custom", "--label", "x", "--permission", "canfly"], "permission 'canfly' is unknown"),
            (["--for", "custom", "--label", "x", "--permission", "btcpay.store.cancreatenonapprovedpullpayments"],
             "cannot be granted; choose from btcpay.store.canviewinvoices"),
            (["--for", "woocommerce", "--label", "x", "--permission", "btcpay.store.canviewinvoices"],
             "a key for woocommerce has a fixed set of permissions"),
            (["--for", "custom", "--label", ""], "the label must have 1 to 100 printable characters"),
            (["--for", "custom", "--label", "x" * 101], "the label must have 1 to 100 printable characters"),
        ],
    )  # fmt: skip
    def test_a_mistake_is_named_and_no_key_is_created(
        self, world: World, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
    ) -> None:
        assert run(world, "keys", "create", *arguments) == 1

        assert words in capsys.readouterr().out
        run(world, "keys", "list")
        assert "there are no API keys" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--for", "shopware", "--label", "x"], "choose from 'woocommerce', 'prestashop', 'magento', 'custom'"),
            (["--label", "x"], "required: --for"),
            (["--for", "custom"], "required: --label"),
        ],
    )
    def test_a_wrong_command_line_says_what_is_expected(
        self, world: World, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            run(world, "keys", "create", *arguments)

        assert caught.value.code == 2
        assert words in capsys.readouterr().err


class TestListAndRevoke:
    def create(self, world: World, label: str = "My shop") -> str:
        return create_key(world.backend.repository, KeyPurpose.CUSTOM, label, world.backend.clock()).secret

    def test_every_key_is_listed_without_its_secret(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        secret = self.create(world, "[red]My shop[/]")

        assert run(world, "keys", "list") == 0
        text = capsys.readouterr().out
        assert run(world, "keys", "list", "--json") == 0
        (listed,) = json.loads(capsys.readouterr().out)

        assert "[red]My shop[/]" in text
        assert "active" in text
        assert "never" in text
        assert secret not in text
        assert (listed["label"], listed["last_used_at"], listed["revoked_at"]) == ("[red]My shop[/]", None, None)
        assert listed["created_at"] == world.backend.clock().isoformat()

    def test_a_revoked_key_opens_nothing_and_is_listed_as_such(
        self, world: World, capsys: pytest.CaptureFixture[str]
    ) -> None:
        secret = self.create(world)

        assert run(world, "keys", "revoke", "1") == 0

        assert find_key(world.backend.repository, secret, world.backend.clock()) is None
        run(world, "keys", "list")
        assert "revoked 2026" in capsys.readouterr().out.splitlines()[-1]

    @pytest.mark.parametrize(
        ("key_id", "words"),
        [
            ("99", "there is no API key with the id 99"),
            ("0", "there is no API key with the id 0"),
            ("9" * 30, "there is no API key with the id 9999"),
            ("one", "'one' is not the id of a key"),
            ("-1", "'-1' is not the id of a key"),
            ("²", "'²' is not the id of a key"),
            ("9" * 5_000, "is not the id of a key"),
            ("", "'' is not the id of a key"),
        ],
    )
    def test_an_invalid_id_is_named(
        self, world: World, capsys: pytest.CaptureFixture[str], key_id: str, words: str
    ) -> None:
        self.create(world)

        assert run(world, "keys", "revoke", *(["--", key_id] if key_id.startswith("-") else [key_id])) == 1

        assert words in capsys.readouterr().out
