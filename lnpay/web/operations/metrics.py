"""`GET /metrics`: the metrics for Prometheus.

Three kinds: those of the database, which are the same from every process; those of this process (its price, its
requests, the webhooks that it received); and those that the client library has about the process. No label holds an
id, a secret or anything that a stranger chose: states, buckets, workers and routes are a few words each.

With WORKERS any of the processes may answer. The metrics of a process then have its number as the label `process`, or
their counters would seem to jump back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import TypeVar

from flask import Blueprint, Flask, Response, current_app
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lnpay.domain.errors import StorageUnavailable
from lnpay.monitoring.snapshot import FiguresReader, Snapshot
from lnpay.runtime.backend import Backend
from lnpay.runtime.version import version
from lnpay.web.bearer import check_bearer
from lnpay.web.context import current_backend

blueprint = Blueprint("metrics", __name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# In this format they add a line for every counter that Prometheus does not use.
disable_created_metrics()  # type: ignore[no-untyped-call]

_METERS = "lnpay.meters"

_Word = TypeVar("_Word", bound=str)

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)
"""Histogram buckets in seconds. Strike waits five; the slowest request makes two calls to Strike."""

WEBHOOK_OUTCOMES = (
    "settled", "paid_late", "refund", "ignored", "put_off", "refused_signature", "refused_body",
    "not_configured", "error",
)  # fmt: skip
"""The outcomes of a webhook call.

refund: the event was about a refund. ignored: already known, or not ours. put_off: answered 503, so that Strike calls
again, because its object is not final yet or could not be read. not_configured: WEBHOOK_SECRET is not set.
"""


@blueprint.get("/metrics")
def show() -> Response:
    """All metrics, for clients that send METRICS_TOKEN."""
    token = current_backend().access.metrics_token
    check_bearer((token,) if token else ())
    return Response(generate_latest(meters().registry), content_type=CONTENT_TYPE)


class Meters:
    """The counters of one app, and the collectors that run on each scrape."""

    def __init__(self, backend: Backend) -> None:
        self.registry, own = CollectorRegistry(), CollectorRegistry()
        self.registry.register(_OfProcess(own, backend.process))
        self.registry.register(_DatabaseCollector(FiguresReader(backend.repository, backend.clock)))
        ProcessCollector(registry=own)
        own.register(_RateCollector(backend))
        own.register(_ClockCollector(backend))
        Info("lnpay_build", "This program.", registry=own).info({"version": version()})
        self._seconds = Histogram(
            "lnpay_http_request_duration_seconds",
            "Requests of this process by route; without the status questions of open payment pages.",
            ("route", "status"),
            buckets=BUCKETS,
            registry=own,
        )
        self._webhooks = Counter(
            "lnpay_webhook_events",
            "Webhooks of Strike that this process received, by outcome.",
            ("outcome",),
            registry=own,
        )
        # Start at 0: Prometheus computes a rate only from a second value, and would miss the first refusal.
        for outcome in WEBHOOK_OUTCOMES:
            self._webhooks.labels(outcome)

    def saw_request(self, route: str, status: int, seconds: float) -> None:
        """Count a request. route: the route's template, never the path, which may hold a token."""
        self._seconds.labels(route, f"{status // 100}xx").observe(seconds)

    def saw_webhook(self, outcome: str) -> None:
        """Count a webhook under one of WEBHOOK_OUTCOMES."""
        self._webhooks.labels(outcome).inc()


def set_up_metrics(app: Flask, backend: Backend) -> None:
    """Set up the meters of `app`; routes get them from `meters`."""
    app.extensions[_METERS] = Meters(backend)


def meters() -> Meters:
    """The meters of the app that serves this request."""
    found: Meters = current_app.extensions[_METERS]
    return found


class _OfProcess(Collector):
    """The metrics of one process, with its number as a label if there are several."""

    def __init__(self, own: CollectorRegistry, process: int | None) -> None:
        self._own, self._process = own, process

    def collect(self) -> Iterator[Metric]:
        """Every metric of `own`."""
        for metric in self._own.collect():
            if self._process is not None:
                label = {"process": str(self._process)}
                metric.samples = [one._replace(labels={**one.labels, **label}) for one in metric.samples]
            yield metric


class _DatabaseCollector(Collector):
    """Figures from the database, read on each scrape."""

    def __init__(self, figures_reader: FiguresReader) -> None:
        self._figures_reader = figures_reader

    def collect(self) -> Iterator[Metric]:
        """Every figure, or only that the database is unavailable."""
        try:
            figures = self._figures_reader.read()
        except StorageUnavailable:
            yield _is_database_up(0)
            return
        yield _is_database_up(1)
        yield _gauge("lnpay_schema_info", "The tables in the database.", "version", {figures.schema_version: 1})
        yield from _money_waiting(figures)
        yield from _provider(figures)
        yield from _workers(figures)
        yield from _archived(figures)


class _RateCollector(Collector):
    """This process's price."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def collect(self) -> Iterator[Metric]:
        """The price's age and source, if there is a price."""
        standing = self._backend.issuer.rates.status()
        rate, spread = standing.rate, standing.spread
        age: dict[str, float] = (
            {} if rate is None else {rate.source: (self._backend.clock() - rate.as_of).total_seconds()}
        )
        yield _gauge("lnpay_rate_age_seconds", "Age of the last accepted price.", "source", age)
        yield GaugeMetricFamily(
            "lnpay_rate_max_age_seconds", "RATE_MAX_AGE: an older price is not used.", standing.max_age.total_seconds()
        )
        if spread is not None:
            yield GaugeMetricFamily(
                "lnpay_rate_spread_ratio", "How far apart two sources were, when last asked.", float(spread)
            )
        refreshes = CounterMetricFamily("lnpay_rate_refreshes", "How often prices were requested.", labels=("result",))
        for result, count in standing.refreshes.items():
            refreshes.add_metric((str(result),), count)
        yield refreshes


class _ClockCollector(Collector):
    """The offset of this machine's clock, measured from Strike's answers to this process."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def collect(self) -> Iterator[Metric]:
        """The clock's offset, once an answer has given Strike's time."""
        offset = self._backend.strike.time.offset()
        if offset is None:
            return
        yield GaugeMetricFamily(
            "lnpay_clock_offset_seconds",
            "How far this machine's clock is ahead of Strike's; negative when it is behind.",
            offset.ahead.total_seconds(),
        )
        yield GaugeMetricFamily(
            "lnpay_clock_offset_uncertainty_seconds",
            "The uncertainty of that offset in either direction; it grows until Strike answers again.",
            offset.uncertainty.total_seconds(),
        )


def _is_database_up(value: int) -> Metric:
    return GaugeMetricFamily("lnpay_database_up", "Whether the database answered; if so, its metrics follow.", value)


def _money_waiting(figures: Snapshot) -> Iterator[Metric]:
    yield _gauge("lnpay_invoices", "Invoices; finished ones are counted once a minute.", "state", figures.invoices)
    yield GaugeMetricFamily(
        "lnpay_unsettled_payments", "Payments that Strike lists and that could not be settled.", figures.unsettled
    )
    yield _gauge("lnpay_refunds", "Refunds; sent ones are counted once a minute.", "state", figures.refunds)
    yield _gauge(
        "lnpay_refund_oldest_age_seconds",
        "Age of the oldest refund in each open state, from when it was owed or started; 0 if there is none.",
        "state",
        figures.refund_seconds,
    )
    yield _gauge(
        "lnpay_deliveries", "Messages to the shop; finished ones are counted once a minute.", "state",
        figures.deliveries,
    )  # fmt: skip
    yield _gauge(
        "lnpay_delivery_oldest_age_seconds",
        "Age of the oldest message of each type that the shop has not accepted; 0 if there is none.",
        "event",
        figures.undelivered_seconds,
    )


def _provider(figures: Snapshot) -> Iterator[Metric]:
    made = {bucket: calls.made for bucket, calls in figures.calls.items()}
    left = {bucket: calls.left for bucket, calls in figures.calls.items()}
    yield _gauge("lnpay_provider_calls", "Calls of all processes in Strike's current window.", "bucket", made)
    yield _gauge("lnpay_provider_calls_left", "Calls that may still be made in that window.", "bucket", left)
    yield _gauge(
        "lnpay_provider_block_remaining_seconds", "How long Strike still refuses calls.", "bucket",
        figures.blocked_seconds,
    )  # fmt: skip


def _workers(figures: Snapshot) -> Iterator[Metric]:
    ages = {name: inf if one.age_seconds is None else one.age_seconds for name, one in figures.workers.items()}
    trouble = {name: one.is_in_trouble for name, one in figures.workers.items()}
    yield _worker_gauge(
        "lnpay_worker_last_run_age_seconds", "Time since its last pass ended; +Inf if there was none.", ages
    )
    yield _worker_gauge("lnpay_worker_trouble", "Whether its last pass found trouble that needs the operator.", trouble)
    seconds = {name: one.trouble_seconds for name, one in figures.workers.items()}
    yield _worker_gauge("lnpay_worker_trouble_seconds", "How long its passes have found trouble; 0: none.", seconds)
    unreadable = {name: one.unreadable for name, one in figures.workers.items()}
    yield _worker_gauge(
        "lnpay_worker_unreadable_rows", "Rows of Strike's lists and of the database that its last pass could not read.",
        unreadable,
    )  # fmt: skip
    yield _gauge("lnpay_stalled", "Work that has not moved for an hour.", "kind", figures.stalled)


def _archived(figures: Snapshot) -> Iterator[Metric]:
    totals = figures.archived
    yield GaugeMetricFamily("lnpay_archived_invoices", "Invoices whose bulk is archived.", totals.invoices)
    yield _gauge(
        "lnpay_archived_bytes", "The size of that bulk in bytes, before and after compression.", "kind",
        {"moved": totals.source_bytes, "kept": totals.kept_bytes},
    )  # fmt: skip


def _worker_gauge(name: str, text: str, values: Mapping[tuple[str, str], float]) -> Metric:
    """One value for each worker, or for each worker and host where hosts have names."""
    family = GaugeMetricFamily(name, text)
    for (worker, host), value in values.items():
        family.add_sample(name, {"worker": worker, "host": host} if host else {"worker": worker}, value)
    return family


def _gauge(name: str, text: str, label: str, values: Mapping[_Word, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for word, value in values.items():
        family.add_metric((str(word),), value)
    return family
