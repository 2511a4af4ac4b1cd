"""The commands of `webhook_settings.py`: Strike's webhook subscriptions, and whether its calls arrive."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable

from lnpay.commands.subscriptions.failures import explain
from lnpay.commands.subscriptions.session import Ask, Command, CommandFailed, SubscriptionSession, UsageError
from lnpay.domain.errors import LnpayError
from lnpay.domain.settings import Settings
from lnpay.runtime.bootstrap import open_strike

PROGRAM = "webhook_settings.py"


def run(
    command: Command,
    settings: Settings,
    options: argparse.Namespace,
    *,
    check: Callable[[], None],
    ask: Ask | None,
    as_json: bool,
) -> int:
    """Run one command with a Strike client. Returns the exit code; standard error says what failed.

    check, ask: see SubscriptionSession.
    """
    # Failures are printed in plain words; the client's log lines would only repeat them.
    logging.getLogger("lnpay").addHandler(logging.NullHandler())
    try:
        with open_strike(settings) as strike:
            command(SubscriptionSession(strike, settings, check, ask, as_json=as_json), options)
    except UsageError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    except LnpayError as error:
        print(explain(error), file=sys.stderr)
        return 1
    except CommandFailed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 1
    return 0
