"""The upgrade of docs/operations.md, done command by command: what is the merchant's is there afterwards."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from lnpay.domain.states import DeliveryState, RefundState
from lnpay.repository import Repository
from lnpay.repository.repository import SCHEMA_VERSION
from lnpay.sandbox import SandboxServer, Simulator
from lnpay.sandbox.server import wait_until
from tests.checkout import copy_program, give_python
from tests.contract.test_upgrade import DATA, fill, migrate_to, version_of
from tests.databases import find_postgres_tools, fresh_postgres
from tests.scenarios.live import ROOT, environment, free_port, is_up

LIMIT_SECONDS = 60
BASH = shutil.which("bash") or ""
RELEASED_SCHEMA = "0003"
"""Of 0.1.0."""

CHANGED_HOOK = (
    DATA.with_name("delivery-0.1.0.py").read_text("utf-8")
    + '''

def deliver(event: Event) -> None:
    """The hook as a merchant changed it: it hands messages over in a file."""
    from pathlib import Path

    with Path(__file__).with_name("notified.txt").open("a") as file:
        file.write(f"{event.id}\\n")
'''
)
"""The hook of 0.1.0 as it was shipped, its imports included, and a merchant's own words below."""
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
UPGRADE = PAGE[PAGE.index("\n## Upgrade\n") : PAGE.index("\n## Move to PostgreSQL\n")]


class Installation:
    """LNPay in a folder that stands for /srv/lnpay, and the unpacked new version in another one."""

    def __init__(self, folder: Path) -> None:
        self.installed = copy_program(folder / "srv" / "lnpay")
        self.new = copy_program(folder / "new version")
        self.backups = folder / "backups"
        self.backups.mkdir()
        self.calls = folder / "systemctl.txt"
        self.python = give_python(self.installed)
        # A module that the new version no longer has.
        (self.installed / "lnpay" / "long_gone.py").touch()
        self._try_out()

    def _try_out(self) -> None:
        """What is left in the new folder by someone who has tried the new version there."""
        (self.new / ".venv" / "bin").mkdir(parents=True)
        for name in (".venv/bin/python", "config/.env", "config/local/delivery.py", "sandbox-5000.sqlite"):
            (self.new / name).write_text("not yours")

    def follow(self, *steps: int) -> None:
        """Do the commands of these steps of the page. pip is not run: the tests' Python has the packages."""
        blocks = re.split(r"^\d\. ", UPGRADE, flags=re.MULTILINE)
        for step in steps:
            commands = "\n".join(self._here(line) for line in re.findall(r"^ {7}# (.*)$", blocks[step], re.MULTILINE))
            script = f'set -eu\nsystemctl() {{ echo "$@" >> "{self.calls}"; }}\n{commands}'
            done = subprocess.run(
                [BASH, "-c", script], cwd=self.new, env=_bare(), capture_output=True, text=True, timeout=120
            )
            assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"

    def _here(self, command: str) -> str:
        if "pip install" in command or command.endswith("doctor"):
            return "true"
        here = command.replace("runuser -u lnpay -- ", "").replace("/var/backups/lnpay/", f"{self.backups}/")
        return here.replace("/srv/lnpay", str(self.installed))

    @contextmanager
    def serving(self, url: str) -> Iterator[None]:
        """Run the service as its unit does."""
        log = self.installed.parent / "log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                [self.python, "main.py", "--with-workers"],
                cwd=self.installed, env=_bare(), stdout=output, stderr=output,
            )  # fmt: skip
        try:
            assert wait_until(lambda: server.poll() is not None or is_up(url), LIMIT_SECONDS), log.read_text()
            assert server.poll() is None, log.read_text()
            yield
        finally:
            server.terminate()
            server.wait(LIMIT_SECONDS)

    def doctor(self) -> str:
        """What the doctor says."""
        return subprocess.run(
            [self.python, "main.py", "doctor"],
            cwd=self.installed, env=_bare(), capture_output=True, text=True, timeout=60,
        ).stdout  # fmt: skip


def _bare() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    if not BASH:
        pytest.skip("the steps are for Linux: there is no bash here")
    return Installation(tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def released_url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database of 0.1.0 on each engine: refunds in every state, messages that wait."""
    with ExitStack() as stack:
        url = f"sqlite:///{tmp_path}/invoices.sqlite"
        if request.param == "postgresql":
            find_postgres_tools(monkeypatch)
            url = stack.enter_context(fresh_postgres(request.getfixturevalue("postgres_server")))
        migrate_to(url, RELEASED_SCHEMA)
        fill(url, DATA, DATA.with_name("0003.sql"))
        yield url


def refunds_of(url: str) -> dict[str, tuple[object, ...]]:
    """By token: everything that must not change, and the state last."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT token, invoice_id, amount_sats, received_sats, state FROM refunds"))
        return {str(row[0]): tuple(row[1:]) for row in rows}


def test_from_the_first_release_with_a_changed_hook_open_refunds_and_waiting_messages(
    installation: Installation, released_url: str
) -> None:
    port = free_port()
    own_hook = installation.installed / "config" / "local" / "delivery.py"
    shutil.rmtree(own_hook.parent)
    (installation.installed / "config" / "delivery.py").write_text(CHANGED_HOOK)
    with SandboxServer(Simulator(seed=1)) as world:
        settings = environment(world.url, released_url, port)
        names = [name for name in settings if name not in _bare() and name != "LNPAY_ENV_FILE"]
        env_file = "".join(f"{name}={settings[name]}\n" for name in names)
        (installation.installed / "config" / ".env").write_text(env_file)
        before = refunds_of(released_url)
        assert {row[-1] for row in before.values()} == {*RefundState} - {RefundState.CANCELED}

        installation.follow(1, 2, 3, 4)

        assert len(list(installation.backups.iterdir())) == 1
        assert installation.calls.read_text().splitlines() == ["stop lnpay", "start lnpay"]
        assert own_hook.read_text() == CHANGED_HOOK
        assert (installation.installed / "config" / ".env").read_text() == env_file
        assert refunds_of(released_url) == before
        notified = own_hook.with_name("notified.txt")
        with installation.serving(f"http://127.0.0.1:{port}"):
            repository = Repository(released_url)
            assert wait_until(lambda: not is_anything_owed(repository), LIMIT_SECONDS)
            assert f"{own_hook} is used" in installation.doctor()
            repository.close()

        assert version_of(released_url) == SCHEMA_VERSION
        assert sorted(notified.read_text().split()) == ["msg_3", "msg_4", "msg_5"]
        after = refunds_of(released_url)
        assert {token: row[:-1] for token, row in after.items()} == {token: row[:-1] for token, row in before.items()}
        states = {token.removeprefix("refund-"): row[-1] for token, row in after.items()}
        # With REFUND_MIN_SATS=1 they would stay "requested": the simulator does not know their invoices, so each pass
        # puts them off with a longer pause.
        # Open ones of so few sats wait for their customers since REFUND_MIN_SATS: asked for, and not lost.
        assert {states[one] for one in ("requested", "failed")} == {RefundState.NEEDS_ADDRESS}
        assert {states[one] for one in ("sent", "held", "needs_address", "in_flight")} == {
            RefundState.SENT, RefundState.HELD, RefundState.NEEDS_ADDRESS, RefundState.IN_FLIGHT,
        }  # fmt: skip
        # The simulator has never heard of the payment that 0.1.0 had under way: it is not made once more.
        paid = sorted(payment.quote.sats for payment in world.simulator.payments.payments.values())
        assert len(paid) == len(set(paid))
        assert not {before[f"refund-{one}"][1] for one in ("sent", "held", "in_flight")} & set(paid)


def is_anything_owed(repository: Repository) -> bool:
    """Whether a message waits, or a refund that can be sent is not."""
    with repository.reading() as tx:
        waiting = tx.figures.pending_deliveries()
        due = tx.refunds.in_states([RefundState.REQUESTED, RefundState.QUOTED, RefundState.FAILED], 100)
    return bool(waiting or due)


def test_what_is_the_merchants_survives_and_what_the_new_version_lacks_is_gone(installation: Installation) -> None:
    config = installation.installed / "config"
    yours = {
        config / ".env": f"STRIKE_API_KEY=k\nDATABASE_URL=sqlite:///{installation.installed}/shop.sqlite\n",
        config / "local" / "delivery.py": CHANGED_HOOK,
        config / "local" / "logo.svg": "<svg/>",
    }
    for path, content in yours.items():
        path.write_text(content)
    subprocess.run([installation.python, "main.py", "restore", "--mark"], cwd=installation.installed, env=_bare(),
                   check=True, capture_output=True)  # fmt: skip
    database = (installation.installed / "shop.sqlite").read_bytes()
    (config / "settings.py").write_text("old")

    installation.follow(3, 4)

    assert {path: path.read_text() for path in yours} == yours
    assert (installation.installed / "shop.sqlite").read_bytes() == database
    assert not (installation.installed / "sandbox-5000.sqlite").exists()
    assert not (installation.installed / "lnpay" / "long_gone.py").exists()
    assert (config / "settings.py").read_text() == (ROOT / "config" / "settings.py").read_text()
    assert "not yours" not in installation.python.read_text()


def test_pip_is_given_the_new_list() -> None:
    assert ".venv/bin/python -m pip install --quiet -r requirements.txt" in UPGRADE


def test_every_state_of_a_message_is_in_the_data() -> None:
    content = DATA.read_text("utf-8") + DATA.with_name("0003.sql").read_text("utf-8")

    # 0.1.0 withdrew no message.
    known = {*DeliveryState} - {DeliveryState.WITHDRAWN}
    assert {state for state in DeliveryState if f"'{state}'" in content} == known
