"""Which delivery hook is used, and what a merchant reads when it cannot be loaded."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import pytest

from config.settings import HOOK_FILES
from config.values import ROOT
from lnpay.deliveries.hook import FORMER_NAMES, hook_in_use, is_own_a_default, is_shipped_changed, load_deliver
from lnpay.domain.errors import HookUnusable
from lnpay.domain.events import EventType
from lnpay.domain.model import Event
from lnpay.domain.settings import HookFiles

EVENT = Event("msg_1", EventType.INVOICE_SETTLED, {}, b"{}", {}, "https://shop.example/webhook")
SHIPPED = HOOK_FILES.shipped.read_text("utf-8")
FIRST_SHIPPED = (ROOT / "tests" / "contract" / "data" / "delivery-0.1.0.py").read_text("utf-8")


@pytest.fixture
def files(tmp_path: Path) -> HookFiles:
    """An installation as it comes: no hook of the merchant's own."""
    shipped = tmp_path / "delivery.py"
    shipped.write_text(SHIPPED, "utf-8")
    return HookFiles(tmp_path / "local" / "delivery.py", shipped)


def write_own(files: HookFiles, content: str | bytes) -> Path:
    """Put a hook of the merchant's own in its place."""
    files.own.parent.mkdir(exist_ok=True)
    files.own.write_bytes(content.encode() if isinstance(content, str) else content)
    return files.own


def test_the_merchants_own_hook_is_used_if_there_is_one(files: HookFiles, tmp_path: Path) -> None:
    own = write_own(files, 'def deliver(event):\n    open(__file__ + ".txt", "w").write(event.id)\n')

    load_deliver(files)(EVENT)

    assert own.with_name("delivery.py.txt").read_text() == "msg_1"


def test_without_one_the_default_is_used(files: HookFiles) -> None:
    assert hook_in_use(files) == files.shipped
    assert load_deliver(files).__code__.co_filename == str(files.shipped)
    # A file where the folder should be is no hook either.
    files.own.parent.write_text("")
    assert hook_in_use(files) == files.shipped


def test_a_link_that_leads_nowhere_does_not_quietly_mean_the_default(files: HookFiles) -> None:
    files.own.parent.mkdir()
    files.own.symlink_to("gone.py")

    with pytest.raises(HookUnusable, match="cannot be loaded: No such file or directory"):
        load_deliver(files)


def test_the_hook_of_the_first_release_still_loads(files: HookFiles) -> None:
    write_own(files, FIRST_SHIPPED)

    assert load_deliver(files).__code__.co_filename == str(files.own)


@pytest.mark.parametrize(("former", "today"), FORMER_NAMES.items())
def test_a_hook_may_import_a_module_by_a_name_it_once_had(files: HookFiles, former: str, today: str) -> None:
    write_own(files, f"import lnpay.{former}\nfrom lnpay.{former} import *\n\ndeliver = lambda _: lnpay.{former}\n")

    assert load_deliver(files)(EVENT) is importlib.import_module(today)


def test_a_hook_may_define_dataclasses(files: HookFiles) -> None:
    write_own(
        files,
        "from __future__ import annotations\nimport dataclasses, typing\n\n\n@dataclasses.dataclass\nclass Line:\n"
        "    text: typing.ClassVar[str] = ''\n\n\ndef deliver(event):\n    pass\n",
    )

    load_deliver(files)(EVENT)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("def deliver(event)\n", "line 1: expected ':'"),
        ("import os\nimport not_there_at_all\n", "line 2: the module not_there_at_all is not installed"),
        ("from lnpay.domain.model import Nothing\n", "line 1: ImportError"),
        ("KEY = open('/no/such/secret-key').read()\n", "line 1: No such file or directory"),
        ("\nraise ValueError('secret-key')\n", "line 2: ValueError"),
        ("import sys\nsys.exit('secret-key')\n", "line 2: SystemExit"),
        (b"NAME = 'caf\xe9'\n", "cannot be loaded: "),
        ("", "has no function deliver(event)"),
        ("deliver = 'secret-key'\n", "has no function deliver(event)"),
    ],
)
def test_a_hook_that_cannot_be_used_is_named_with_the_line_and_without_its_values(
    files: HookFiles, content: str | bytes, words: str
) -> None:
    own = write_own(files, content)

    with pytest.raises(HookUnusable) as refused:
        load_deliver(files)

    assert str(own) in refused.value.message
    assert words in refused.value.message
    assert "secret-key" not in refused.value.message


@pytest.mark.parametrize("content", [SHIPPED, FIRST_SHIPPED, SHIPPED.replace("\n", "\r\n")])
def test_every_default_that_was_shipped_is_known_as_one(files: HookFiles, content: str) -> None:
    """Add the digest of a changed default to SHIPPED_DIGESTS; never remove one."""
    files.shipped.write_bytes(content.encode())
    write_own(files, content)

    assert not is_shipped_changed(files)
    assert is_own_a_default(files)


def test_a_changed_default_is_known_as_changed(files: HookFiles) -> None:
    files.shipped.write_text(SHIPPED.replace("(3, 12)", "(3, 60)"), "utf-8")

    assert is_shipped_changed(files)
    assert not is_own_a_default(files)
    assert not is_own_a_default(replace(files, own=write_own(files, "def deliver(event): pass\n")))


def test_git_ignores_the_merchants_files() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()

    assert {"config/.env", "config/local/*", "!config/local/README.md"} <= set(ignored)
    assert HOOK_FILES.own == ROOT / "config" / "local" / "delivery.py"
