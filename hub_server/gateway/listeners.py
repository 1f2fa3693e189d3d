"""The two applications: one for people, one for agents, each with its own table of routes and nothing else."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from hub_server.access.service import AccessService
from hub_server.config import ConfigError, LimitsSettings, MetricsSettings, Settings
from hub_server.enrollment.service import EnrollmentService
from hub_server.gateway.admission import Admission
from hub_server.gateway.rest.addresses import AddressReader
from hub_server.gateway.rest.assets import AssetRoutes
from hub_server.gateway.rest.bodies import BodyReader
from hub_server.gateway.rest.enrollment import Anchor, EnrollmentRoutes
from hub_server.gateway.rest.fleet_metrics import FleetMetricsRoutes
from hub_server.gateway.rest.guard import NO_CERTIFICATE, NO_ROUTE, Handler, careful_headers, faults_guard
from hub_server.gateway.rest.health import HealthRoutes
from hub_server.gateway.rest.metrics import MetricsDoor, MetricsRoutes
from hub_server.gateway.rest.sign_in import SignInRoutes
from hub_server.gateway.visitors import Stage, signed_in_proven, stage_deadlines
from hub_server.instruments import Instruments
from protocol.limits import AGENT_SOCKET_PATH, HTTP_BODY_MAX_BYTES

log = structlog.get_logger(component="gateway")

METRICS_TOKEN_MIN_CHARS: Final = 16


class Readiness:
    """Whether the hub takes work: started, not stopping, and its database answers."""

    def __init__(self, database_answers: Callable[[], Awaitable[bool]]) -> None:
        self._database_answers = database_answers
        self._ready = False

    def set(self, ready: bool) -> None:
        self._ready = ready

    async def __call__(self) -> list[str]:
        """Return why not, nothing when ready."""
        if not self._ready:
            return ["the hub is starting or stopping"]
        return [] if await self._database_answers() else ["the database does not answer"]


def people_application(
    settings: Settings,
    *,
    access: AccessService,
    readiness: Readiness,
    instruments: Instruments,
    is_signed_in: Callable[[str], bool],
    fleet_metrics: FleetMetricsRoutes | None = None,
) -> web.Application:
    """`is_signed_in`: whether a Socket.IO session of this id has a person's sign-in. Raises ConfigError."""
    application = web.Application(
        middlewares=[faults_guard(NO_ROUTE), signed_in_proven(is_signed_in)], client_max_size=HTTP_BODY_MAX_BYTES
    )
    application.on_response_prepare.append(careful_headers(settings.web_url))
    sign_in = SignInRoutes(
        access=access,
        origins=settings.web_origins,
        is_https=settings.web_is_https,
        refresh_days=settings.access.refresh_days,
        trusted_proxies=settings.people.trusted_proxies,
        bodies=BodyReader(settings.limits.body_seconds),
    )
    metrics = MetricsRoutes(exposition=instruments.text, door=metrics_door(settings))
    for routes in (HealthRoutes(readiness=readiness), metrics, sign_in, AssetRoutes()):
        application.add_routes(routes.routes())
    if fleet_metrics is not None:
        application.add_routes(fleet_metrics.routes())
    return application


def metrics_door(settings: Settings) -> MetricsDoor:
    """Raises ConfigError."""
    return MetricsDoor(addresses=AddressReader(settings.people.trusted_proxies), token=metrics_token(settings.metrics))


def agents_application(
    settings: Settings, *, connect: Handler, enrollment: EnrollmentService, anchor: Anchor
) -> web.Application:
    application = web.Application(middlewares=[faults_guard(NO_CERTIFICATE)], client_max_size=HTTP_BODY_MAX_BYTES)
    application.on_response_prepare.append(careful_headers(settings.web_url))
    bodies = BodyReader(settings.limits.body_seconds)
    enrolling = EnrollmentRoutes(enrollment=enrollment, anchor=anchor, bodies=bodies)
    application.add_routes(enrolling.routes())
    application.router.add_get(AGENT_SOCKET_PATH, connect)
    return application


def admission(settings: Settings, active_seconds: Callable[[], float]) -> Admission:
    """Return a listener's own admission."""
    return Admission(
        connections=settings.limits.connections,
        connections_per_address=settings.limits.connections_per_address,
        trusted_proxies=settings.people.trusted_proxies,
        active_seconds=active_seconds,
    )


def deadlines(limits: LimitsSettings) -> Mapping[Stage, float]:
    return stage_deadlines(
        headers_seconds=limits.headers_seconds, body_seconds=limits.body_seconds, idle_seconds=limits.idle_seconds
    )


def count_guests(instruments: Instruments, name: str, guests: Admission) -> None:
    """Show in /metrics who waits at the listener `name`, and whom it turned away."""
    instruments.gauge(f"jtnt_{name}_guests", f"Connections of {name} that are not proven", lambda: len(guests))
    instruments.counter(
        f"jtnt_{name}_refused", "Connections closed at once", ["reason"], lambda: _labelled(guests.refused)
    )
    instruments.counter(f"jtnt_{name}_cut", "Connections cut off", ["stage"], lambda: _labelled(guests.cut))


def people_tls(settings: Settings) -> Callable[[], ssl.SSLContext] | None:
    """Return TLS 1.3 for the people's listener when the settings name a certificate. Raises ConfigError."""
    if settings.people.certificate is None or settings.people.key is None:
        return None
    return _PeopleTls(settings.people.certificate, settings.people.key)


class _PeopleTls:
    """The context of the next handshake: with the files' newest content, else with what was usable last."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = certificate, key
        self._changed_at = self._newest()
        try:
            self._context = _context_of(certificate, key)
        except OSError as error:  # an ssl.SSLError is one
            raise ConfigError(
                f"people.certificate {certificate} with people.key {key} cannot be used: {error}; give readable PEM "
                "files that belong together"
            ) from error

    def __call__(self) -> ssl.SSLContext:
        changed_at = self._newest()
        if changed_at != self._changed_at:
            self._changed_at = changed_at
            try:
                self._context = _context_of(*self._files)
            except OSError as error:
                log.warning("new certificate cannot be used; the old one is shown", reason=str(error))
            else:
                log.info("certificate of the people's listener read anew")
        return self._context

    def _newest(self) -> tuple[int, ...]:
        try:
            return tuple(file.stat().st_mtime_ns for file in self._files)
        except OSError:
            return ()


def _context_of(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    return context


def metrics_token(settings: MetricsSettings) -> str | None:
    """Return what a reader of /metrics must show. Raises ConfigError."""
    file = settings.token_file
    if file is None:
        return None
    try:
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"metrics.token_file {file} cannot be read: {error}") from error
    if len(token) < METRICS_TOKEN_MIN_CHARS:
        raise ConfigError(
            f"metrics.token_file {file} holds {len(token)} characters; give a secret of {METRICS_TOKEN_MIN_CHARS} at "
            "least, as from `openssl rand -hex 16`"
        )
    return token


def _labelled(counts: Counter[str]) -> Mapping[tuple[str, ...], float]:
    return {(name,): count for name, count in dict(counts).items()}
