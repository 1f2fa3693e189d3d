"""The status in words, and what the files alone tell when no daemon runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, assert_never

from msgspec import Struct

from agent_client.config import Config, ConfigError, load_config
from agent_client.control.status import CertificateStatus, Status
from agent_client.paths import PENDING_KEY, Places
from agent_client.renewal.pairs import Pairs
from agent_client.store.secure import SecureStore, StoreError
from agent_client.trust.document import TrustError, load_trust
from protocol.frames import Checkpoint

_AGREEING_MS: Final = 500


class OfflineReport(Struct, frozen=True, kw_only=True):
    """What is known without a daemon. Null where the files do not tell."""

    running: bool = False
    enrolled: bool
    problem: str
    agent_id: str | None = None
    organisation_id: str | None = None
    hub_url: str | None = None
    certificate_not_after_ms: int | None = None
    trust_version: int | None = None
    spool_file_bytes: int | None = None


def offline_report(places: Places) -> OfflineReport:
    try:
        config = load_config(places)
    except (ConfigError, StoreError) as error:
        half_done = SecureStore(places.certs).exists(PENDING_KEY)
        hint = (
            "; an earlier try did not finish: if its token is still good, the same command completes it"
            if half_done
            else ""
        )
        return OfflineReport(enrolled=False, problem=f"{error}{hint}")
    return _of_config(places, config)


def _of_config(places: Places, config: Config) -> OfflineReport:
    return OfflineReport(
        enrolled=True,
        problem=f"the daemon is not running; start it: jtnt-agentd{places.option}",
        agent_id=config.agent_id,
        organisation_id=config.organisation_id,
        hub_url=config.hub_url,
        certificate_not_after_ms=_not_after_ms(places, config),
        trust_version=_trust_version(places),
        spool_file_bytes=places.database.stat().st_size if places.database.exists() else None,
    )


def offline_lines(report: OfflineReport) -> list[str]:
    lines = ["daemon        NOT RUNNING", f"              {report.problem}"]
    if report.enrolled:
        lines += [
            f"agent         {report.agent_id}",
            f"organisation  {report.organisation_id}",
            f"hub           {report.hub_url}",
            f"certificate   {certificate_words(report.certificate_not_after_ms)}",
            f"trust         {trust_words(report.trust_version)}",
        ]
        if report.spool_file_bytes is not None:
            lines.append(f"spool         {size_words(report.spool_file_bytes)} on disk")
    return lines


def status_lines(status: Status) -> list[str]:
    spool = status.spool
    waiting = ", ".join(f"{count} {stream}" for stream, count in spool.waiting.items() if count) or "nothing"
    lines = [
        f"daemon        running, process {status.pid}, version {status.agent_version}",
        f"agent         {status.agent_id}",
        f"organisation  {status.organisation_id}",
        f"hub           {status.hub_url}",
        f"connection    {_connection_words(status)}",
        f"heartbeat     {_heartbeat_words(status)}",
        f"spool         {size_words(spool.used_bytes)}; waiting for the hub: {waiting}",
        f"jobs          {status.jobs_running} running, {status.jobs_unreported} the hub does not hold the result of",
        f"certificate   {certificate_words(status.certificate.not_after_ms)}{_renewal_words(status.certificate)}",
        f"trust         {trust_words(status.trust_version)}",
        f"policy        {status.policy or 'not told by this daemon'}",
        f"clock         {clock_words(status.health.clock_ahead_ms)}",
        f"itself        {size_words(status.health.rss_bytes)}, {status.health.cpu_percent:.2g} % of a processor",
    ]
    if spool.dropped:
        dropped = ", ".join(f"{count} {stream}" for stream, count in spool.dropped.items())
        lines.append(f"dropped       {dropped}: they did not fit the spool")
    if status.failing_collectors:
        lines.append(f"failing       collectors: {', '.join(status.failing_collectors)}")
    if status.advice:
        lines.append(f"to do         {status.advice}")
    return lines


def witness_lines(checkpoints: Sequence[Checkpoint]) -> list[str]:
    if not checkpoints:
        return ["no checkpoints yet: the hub shows one when this agent connects"]
    return [
        f"{datetime.fromtimestamp(kept.at_ms / 1000, UTC):%F %T} UTC  hub {kept.hub_id}  row {kept.number}  {kept.hash}"
        for kept in checkpoints
    ]


def certificate_words(not_after_ms: int | None) -> str:
    if not_after_ms is None:
        return "CANNOT BE READ"
    days = (not_after_ms / 1000 - time.time()) / 86400
    if days > 0:
        return f"{days:.1f} days left"
    return f"EXPIRED {-days:.1f} days ago; the daemon asks the hub for a new one, which a person approves there"


def trust_words(version: int | None) -> str:
    return f"document version {version}" if version is not None else "CANNOT BE READ"


def clock_words(ahead_ms: int | None) -> str:
    if ahead_ms is None:
        return "not compared with the hub's yet"
    if abs(ahead_ms) < _AGREEING_MS:
        return "agrees with the hub's"
    return f"{abs(ahead_ms) / 1000:.1f} s {'ahead of' if ahead_ms > 0 else 'behind'} the hub's"


def size_words(size_bytes: int) -> str:
    return f"{size_bytes / 1024:.0f} KiB" if size_bytes < 1024 * 1024 else f"{size_bytes / 1024 / 1024:.1f} MiB"


def _renewal_words(certificate: CertificateStatus) -> str:
    match certificate.renewal:
        case "asking" | "changing":
            return "; a new one is being taken up"
        case "failed":
            return f"; NOT RENEWED: {certificate.problem}"
        case "awaiting_approval":
            return f"; {certificate.problem}"
        case "forbidden":
            return f"; IT GETS NONE (403 forbidden): {certificate.problem}"
        case "scheduled" if (certificate.not_after_ms or 0) / 1000 <= time.time():
            return ""
        case "scheduled" if certificate.renew_at_ms is None:
            return "; its renewal is planned once connected"
        case "scheduled":
            days = (certificate.renew_at_ms / 1000 - time.time()) / 86400
            return f"; renewed by itself in {max(days, 0):.1f} days"
        case _:
            assert_never(certificate.renewal)


def _not_after_ms(places: Places, config: Config) -> int | None:
    try:
        return Pairs(places).candidates(config.agent_id)[0].facts.not_after_ms
    except StoreError:
        return None


def _trust_version(places: Places) -> int | None:
    try:
        return load_trust(places)[1].version
    except (StoreError, TrustError):
        return None


def _connection_words(status: Status) -> str:
    if status.connected_since_ms is not None:
        return f"connected for {_ago(status.connected_since_ms)}, session {status.session_id}"
    if status.next_attempt_ms is not None:
        seconds = max(status.next_attempt_ms / 1000 - time.time(), 0)
        return f"NOT CONNECTED, next try in {seconds:.0f} s; last time: {status.last_end}"
    return status.link


def _heartbeat_words(status: Status) -> str:
    if status.last_heartbeat_ms is None:
        return "none answered yet"
    ago, interval = _ago(status.last_heartbeat_ms), status.heartbeat_interval_seconds
    return f"answered {ago} ago in {status.round_trip_ms} ms, every {interval:g} s"


def _ago(at_ms: int) -> str:
    seconds = max(int(time.time() - at_ms / 1000), 0)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [
        f"{count} {unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s")) if count
    ]
    return " ".join(parts[:2]) or "0 s"
