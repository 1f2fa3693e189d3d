"""Samples and reports: the store of the engine in use, who asks it, and who looks after it."""

from __future__ import annotations

from dataclasses import dataclass

from hub_server.alerts.service import AlertService
from hub_server.composition.foundation import Foundation
from hub_server.config import RetentionSettings, Settings
from hub_server.fleet.service import FleetService
from hub_server.lifecycle import Worker
from hub_server.skew.service import SkewService
from hub_server.storage.engine import Database
from hub_server.telemetry.day_files.folder import DayFiles
from hub_server.telemetry.model import Received, Resolution
from hub_server.telemetry.partitions.metric_store import Partitions
from hub_server.telemetry.port import MetricStore
from hub_server.telemetry.query import Fleet, MetricHistory
from hub_server.telemetry.reports import ReportService
from hub_server.telemetry.service import TelemetryService
from hub_server.telemetry.store import ReportStore
from hub_server.telemetry.worker import Packer, Purger, Recorder, Retention


@dataclass(frozen=True, slots=True)
class Telemetry:
    service: TelemetryService
    reports: ReportService


def metric_store(settings: Settings, database: Database) -> MetricStore:
    """Return the store of samples beside `database`, not open yet."""
    if database.is_sqlite:
        return DayFiles(folder=settings.data_dir / "metrics", database=database)
    return Partitions(database)


def telemetry_on(base: Foundation, skew: SkewService) -> Telemetry:
    received = Received()
    return Telemetry(
        service=TelemetryService(
            bus=base.bus,
            clock=base.clock,
            store=base.metrics,
            received=received,
            correction_ms=skew.correction_ms,
            raw_days=base.settings.retention.metrics_days,
        ),
        reports=ReportService(
            database=base.database,
            bus=base.bus,
            clock=base.clock,
            store=ReportStore(),
            received=received,
            correction_ms=skew.correction_ms,
        ),
    )


def history_on(base: Foundation, fleet: Fleet) -> MetricHistory:
    return MetricHistory(store=base.metrics, fleet=fleet, clock=base.clock, kept_days=_days(base.settings.retention))


def telemetry_workers(
    base: Foundation, telemetry: TelemetryService, reports: ReportService, alerts: AlertService, fleet: FleetService
) -> tuple[Worker, ...]:
    async def is_enrolled(organisation_id: str, agent_id: str) -> bool:
        return await fleet.find(organisation_id, agent_id) is not None

    recorder = Recorder(bus=base.bus, clock=base.clock, telemetry=telemetry, raised=alerts)
    _show(base, recorder)
    retention = Retention(
        clock=base.clock,
        store=base.metrics,
        reports=reports,
        days=_days(base.settings.retention),
        reports_days=base.settings.retention.reports_days,
    )
    return (
        Worker("recorder", recorder.run),
        Worker("packer", Packer(clock=base.clock, store=base.metrics).run),
        Worker("retention", retention.run),
        Worker("purger", Purger(bus=base.bus, telemetry=telemetry, is_enrolled=is_enrolled).run),
    )


def _show(base: Foundation, recorder: Recorder) -> None:
    gauge = base.instruments.gauge
    gauge("jtnt_samples_stored", "Samples stored since the start", lambda: recorder.stored_samples)
    gauge(
        "jtnt_samples_too_old",
        "Samples taken and not stored: older than they are kept",
        lambda: recorder.too_old_samples,
    )
    base.instruments.count(
        "jtnt_samples_too_many",
        "Samples taken and not stored: of more types than an agent may have, or more than an hour may have",
        lambda: recorder.too_many_samples,
    )
    gauge("jtnt_samples_repeated", "Samples that were stored already", lambda: recorder.duplicate_samples)
    gauge("jtnt_commit_seconds", "How long the last commit of samples took", lambda: recorder.last_commit_seconds)
    gauge("jtnt_commit_p99_seconds", "What 99 % of the last commits took", lambda: recorder.commit_seconds(0.99))
    base.instruments.count("jtnt_commits", "Commits of samples", lambda: recorder.commits)
    gauge("jtnt_commits_failed", "Commits of samples that failed and were tried again", lambda: recorder.failed_commits)
    gauge("jtnt_frames_refused", "Frames of samples that the store refused", lambda: recorder.refused_frames)


def _days(retention: RetentionSettings) -> dict[Resolution, int]:
    return {
        Resolution.RAW: retention.metrics_days,
        Resolution.MINUTE: retention.rollup_1m_days,
        Resolution.FIVE_MINUTES: retention.rollup_5m_days,
        Resolution.HOUR: retention.rollup_1h_days,
    }
