"""docs/operations.md, followed: every command of the page, who gives it, and what shows that it works.

What can be run without a network and without systemd is run here, in the order of the page, by the user that the page
names, on a clean root. The rest is shown by another test, which is named, or was run by hand, which is said.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs import clean_root

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")

ROOT_USER, SERVICE, WINDOWS, DOCKER, ANYBODY = "root", "lnpay", "Windows administrator", "a user of Docker", "anybody"
FOLLOWED = "run below"
BY_HAND = "run by hand on Debian 12"
NOT_RUN = "never run by us: it needs Windows"

DEPLOY = "tests/deploy/test_deploy.py::"


@dataclass(frozen=True)
class Rule:
    """Commands that begin with `start`: who gives them, and what shows that they work."""

    start: str
    user: str
    shown_by: str


RULES = (
    Rule("# apt-get ", ROOT_USER, BY_HAND),
    Rule("# certbot ", ROOT_USER, BY_HAND),
    Rule("# supervisord ", ROOT_USER, BY_HAND),
    Rule("# supervisorctl ", ROOT_USER, BY_HAND),
    Rule("supervisorctl ", ROOT_USER, BY_HAND),
    Rule("# crontab -u lnpay -e", ROOT_USER, BY_HAND),
    Rule("# crontab -u lnpay deploy/crontab", ROOT_USER, DEPLOY + "TestCrontab"),
    Rule("# systemctl enable --now lnpay-", ROOT_USER, DEPLOY + "TestSystemd"),
    Rule("systemctl ", ROOT_USER, DEPLOY + "TestSystemd"),
    Rule("journalctl ", ROOT_USER, BY_HAND),
    Rule("timedatectl ", ROOT_USER, BY_HAND),
    Rule("smartctl ", ROOT_USER, BY_HAND),
    Rule("# runuser -u lnpay -- ", SERVICE, FOLLOWED),
    Rule("# ", ROOT_USER, FOLLOWED),
    Rule("chown ", ROOT_USER, FOLLOWED),
    Rule("chmod ", ROOT_USER, FOLLOWED),
    Rule("0 7 * * * ", SERVICE, FOLLOWED),
    Rule("15 3 * * * ", SERVICE, FOLLOWED),
    Rule(".venv/bin/python main.py copy-database ", SERVICE, "tests/contract/test_copying.py"),
    Rule(".venv/bin/python -m lnpay.sandbox ", SERVICE, FOLLOWED),
    Rule(".venv/bin/python ", SERVICE, FOLLOWED),
    Rule("python -m lnpay.sandbox", SERVICE, FOLLOWED),
    Rule("python main.py redeliver ", SERVICE, "tests/test_commands.py::TestRedeliver"),
    Rule("python main.py refunds ", SERVICE, "tests/test_commands.py::TestRefunds"),
    Rule("refunds ", SERVICE, "tests/test_commands.py::TestRefunds"),
    Rule("python main.py restore --mark", SERVICE, "tests/scenarios/test_restore.py"),
    Rule("python main.py ", SERVICE, FOLLOWED),
    Rule("python -m workers.main_worker", SERVICE, "tests/test_wheel.py"),
    Rule("webhook_settings.py ", SERVICE, "tests/test_webhook_settings.py"),
    Rule("docker ", DOCKER, DEPLOY + "TestDocker"),
    Rule("curl ", ANYBODY, "tests/web/test_webhook.py"),
    *(
        Rule(start, WINDOWS, shown_by)
        for start, shown_by in {
            "Register-ScheduledTask ": DEPLOY + "TestTaskScheduler",
            "Copy-Item ": NOT_RUN, "New-Item ": NOT_RUN, "Remove-Item ": NOT_RUN, "robocopy ": NOT_RUN,
            "cd C:": NOT_RUN, "py -m venv": NOT_RUN, ".venv\\Scripts\\python": NOT_RUN, "C:\\": NOT_RUN,
            "Get-Content ": NOT_RUN, "notepad ": NOT_RUN, "icacls ": NOT_RUN, "powershell ": NOT_RUN,
            "curl.exe ": NOT_RUN,
            "Start-ScheduledTask ": NOT_RUN, "Stop-ScheduledTask ": NOT_RUN,
        }.items()
    ),
)  # fmt: skip

NO_COMMAND = re.compile(r"[A-Z_]+=|# (only|then) ")
"""Lines of their own that are no commands: of a settings file, and comments."""

INLINE = re.compile(
    r"(# |\.venv/bin/python |python |webhook_settings\.py |refunds |docker |curl |mail |cp |sed |crontab |apt-get |"
    r"runuser |"
    r"(system|journal|supervisor|timedate|smart)ctl |chown |chmod |install |caddy |nginx |certbot |Get-|Start-|Stop-)"
)
"""How a command within a sentence begins."""


def lines_of(section: str) -> list[str]:
    """The commands of a section that stand on lines of their own."""
    text = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    [found] = [one for one in text if one.startswith(f"{section}\n")]
    return re.findall(r"^(?: {4}| {6}| {7}| {9})(\S.*)$", found, re.MULTILINE)


def commands() -> Iterator[str]:
    """Every command of the page, in lines and within sentences."""
    for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        title = part.partition("\n")[0]
        words = re.findall(r"`([^`\n]+)`", part)
        yield from (line for line in lines_of(title) if not NO_COMMAND.match(line))
        yield from (word for word in words if INLINE.match(word))


def rule_of(command: str) -> Rule | None:
    """What we say about a command."""
    return next((rule for rule in RULES if command.startswith(rule.start)), None)


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_every_command_of_the_page_has_its_user_and_its_proof(command: str) -> None:
    assert rule_of(command) is not None


def test_every_rule_is_about_a_command_of_the_page() -> None:
    used = {rule_of(command) for command in commands()}

    assert [rule for rule in RULES if rule not in used] == []


@pytest.mark.parametrize("proof", sorted({rule.shown_by for rule in RULES if rule.shown_by.startswith("tests/")}))
def test_every_test_that_is_named_is_there(proof: str) -> None:
    path, _, name = proof.partition("::")

    assert f"class {name}" in (ROOT / path).read_text("utf-8") if name else (ROOT / path).is_file()


PRELUDE = r"""
set -eE -o pipefail
trap 'echo "FAILED: $BASH_COMMAND"; cat /var/log/following/*' ERR
chmod 755 /root  # pyenv may be below it; only here
export PATH
mkdir /var/log/following

# What this root does not have: systemd, a mail server, a network for pip.
start_lnpay() {
    ( cd /srv/lnpay && exec runuser -u lnpay -- $(sed -n 's/^ExecStart=//p' /etc/systemd/system/lnpay.service) ) \
        > /var/log/following/lnpay 2>&1 &
    lnpay=$!
    for _ in $(seq 150); do curl -sf http://127.0.0.1:5000/readyz > /dev/null && return; sleep 0.2; done
    return 1
}
systemctl() {
    echo "systemctl $*"
    case "$*" in
        "enable --now lnpay" | "start lnpay") start_lnpay ;;
        "stop lnpay") kill -TERM "$lnpay" && { wait "$lnpay" || true; } ;;
    esac
}
as_cron() {
    echo "cron: $1"
    ( cd / && runuser -u lnpay -- env -i HOME=/srv/lnpay PATH=/usr/local/bin:/usr/bin:/bin sh -c "$1" )
}
as_service() { echo "lnpay: $1"; ( cd /srv/lnpay && runuser -u lnpay -- bash -c "$1" ); }
cat > /usr/local/bin/mail << 'END'
#!/bin/sh
echo "mail $*" > /var/lib/lnpay/mailed && cat >> /var/lib/lnpay/mailed
END
chmod 755 /usr/local/bin/mail
"""

TRIAL = r"""
sed -i 's|^# *STRIKE_API_KEY=.*||; s|^STRIKE_API_KEY=.*||' config/.env
printf '\n%s\n' 'WEBHOOK_URL=http://127.0.0.1:5000/webhook' >> config/.env
echo "WEBHOOK_SECRET=$(.venv/bin/python key_generator.py)" >> config/.env
"""


def root_lines(section: str) -> list[str]:
    """The commands that root runs there, without those that cannot run here."""
    found = [line for line in lines_of(section) if line.startswith("# ") and not NO_COMMAND.match(line)]
    return [line.removeprefix("# ") for line in found if (rule := rule_of(line)) and rule.shown_by == FOLLOWED]


def pip_is_lent(lines: list[str]) -> list[str]:
    """The same commands, with packages lent instead of fetched."""
    return [clean_root.packages() if " -m pip install " in line else line for line in lines]


def script(source: Path) -> str:
    """The page, as one script."""
    trial = lines_of("The first payment")
    install = pip_is_lent(root_lines("Install on Linux"))
    ready = install.index("curl -s http://127.0.0.1:5000/readyz")
    units = [line for line in install[:ready] if "systemd" in line or line.startswith("systemctl")]
    first = [line for line in install[:ready] if line not in units and "supervisor" not in line]
    [morning] = [line for line in lines_of("Watching") if line.startswith("0 7")]
    kept = lines_of("Backup and restore")
    [nightly] = [line for line in kept if line.startswith("15 3")]
    [restore] = [line for line in kept if " restore " in line]
    caddy = [line for line in root_lines("TLS") if "addy" in line]
    nginx = [line for line in root_lines("TLS") if "nginx" in line]
    upgrade = pip_is_lent(root_lines("Upgrade"))
    copied = next(number for number, line in enumerate(upgrade) if line.startswith("rm -rf"))
    folder = "/etc/letsencrypt/live/pay.example.org"
    steps = [
        PRELUDE,
        "set -x",
        f"cd {source}",
        *first,
        TRIAL,
        f"printf '%s\\n' {' '.join(line for line in trial if re.match('[A-Z_]+=', line))} >> config/.env",
        "chown root:lnpay config/.env",
        "chmod 640 config/.env",
        f"as_service '{next(line for line in trial if 'lnpay.sandbox' in line)}' > /var/log/following/sandbox 2>&1 &",
        "for _ in $(seq 150); do curl -sf http://127.0.0.1:5001/_control/clock > /dev/null && break; sleep 0.2; done",
        *units,
        # There is no subscription yet, which the doctor calls a failure.
        *(f"{line} || test $? = 1" if "doctor" in line else line for line in install[ready:]),
        *(f"as_service '{line}'" for line in lines_of("TLS") if line.startswith(".venv")),
        *(f"as_service '{line}'" for line in trial if line.startswith(".venv/bin/python main.py")),
        # A morning on which all is well is no mail; one on which LNPay is down is.
        f"as_cron {quoted(morning)}",
        "test ! -e /var/lib/lnpay/mailed",
        *root_lines("Backup and restore"),
        *(f"as_service '{line}'" for line in kept if line.startswith(".venv") and " backup " in line),
        f"as_cron {quoted(nightly)}",
        "systemctl stop lnpay",
        f"as_service \"{re.sub(r'[^ ]+$', '$(ls /var/backups/lnpay/*.sqlite | tail -1)', restore)}\"",
        f"as_cron {quoted(morning)} || true",
        "grep -q '^fail *webhook_url' /var/lib/lnpay/mailed",
        "systemctl start lnpay",
        "as_service '.venv/bin/python main.py report' || test $? = 2",
        "as_service '.venv/bin/python workers/main_worker.py'",
        *upgrade[:copied],
        f"cd {source}",
        *upgrade[copied:],
        # nginx, in the order of the page: without the certificate that certbot gets, it refuses the file.
        *nginx[:2],
        "if nginx -t; then exit 3; fi",
        f"mkdir -p {folder}",
        f"openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=pay.example.org -keyout {folder}/privkey.pem"
        f" -out {folder}/fullchain.pem 2> /dev/null",
        *nginx[2:],
        "nginx",
        "to='--resolve pay.example.org:443:127.0.0.1 https://pay.example.org/webhook'",
        "curl -sk -X POST -o /dev/null -w 'nginx %{http_code}\\n' $to",
        *caddy,
        "echo THE END",
    ]  # fmt: skip
    return "\n".join(steps)


def quoted(cron_line: str) -> str:
    """The command of a line of cron, as one word for the shell."""
    command = re.sub(r"^(\S+\s+){5}", "", cron_line).replace("'", "'\\''")
    return f"'{command}'"


def test_the_page_is_a_script_that_a_shell_understands(tmp_path: Path) -> None:
    (tmp_path / "script").write_text(script(ROOT))

    subprocess.run(["bash", "-n", str(tmp_path / "script")], check=True, timeout=30)  # noqa: S607


# Not a skip, which CI counts as a failure: where mounting is not permitted, there is no such test.
if clean_root.is_possible():

    def test_the_page_is_followed_on_a_clean_root_by_root_and_by_the_service_user(tmp_path: Path) -> None:
        source = tmp_path / "new"
        hidden = shutil.ignore_patterns(".*", "__pycache__", "*.sqlite*", "node_modules")
        shutil.copytree(ROOT, source, ignore=lambda folder, names: hidden(folder, names) - {".env.example"})
        for folder in (tmp_path, *tmp_path.parents):
            if folder.stat().st_uid == tmp_path.stat().st_uid and len(folder.parts) > 2:
                folder.chmod(folder.stat().st_mode | 0o055)
        (tmp_path / "clean").mkdir()

        done = clean_root.run(tmp_path / "clean", script(source))

        said = done.stdout + done.stderr
        assert done.returncode == 0, said[-6000:]
        assert "THE END" in done.stdout, said[-6000:]
        assert "nginx 401" in done.stdout
