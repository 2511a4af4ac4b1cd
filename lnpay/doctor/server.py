"""The server: does LNPay run on this machine?"""

from __future__ import annotations

from collections.abc import Iterator

from lnpay.doctor.check import Check
from lnpay.doctor.findings import Finding, fail, ok, warn
from lnpay.doctor.knock import Answer, knock
from lnpay.doctor.patient import Patient

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing listens there because of this
"""Hosts to listen on that nobody can call, and what they mean on this machine."""


def is_server_here(patient: Patient) -> bool:
    """Whether LNPay answers where these settings let it listen."""
    return _ask(patient).status == 200


def _ask(patient: Patient) -> Answer:
    return knock("GET", f"{_url(patient)}/readyz")


def _url(patient: Patient) -> str:
    host = EVERYWHERE.get(patient.settings.host, patient.settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{patient.settings.port}"


def _check_server(patient: Patient) -> Iterator[Finding]:
    name, url, answer = "server", _url(patient), _ask(patient)
    if answer.status == 200:
        yield ok(name, f"LNPay answers at {url}")
    elif answer.code == "not_ready":
        yield fail(name, f"LNPay runs at {url} and cannot use its database", "see database and database_schema")
    elif answer.status is not None:
        yield fail(name, f"what answers at {url} is not LNPay", "see what has that port, or choose another with PORT")
    else:
        advice = "start it: python main.py. On a machine that only runs workers this is as it should be"
        yield warn(name, f"LNPay does not answer at {url}: {answer.trouble}", advice)


CHECKS = (Check(("server",), _check_server),)
