"""The two applications: one for people, one for agents, each with its own table of routes and nothing else."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

from aiohttp import web

from hub_server.access.service import AccessService
from hub_server.config import ConfigError, Settings
from hub_server.enrollment.service import EnrollmentService
from hub_server.gateway.rest.assets import AssetRoutes
from hub_server.gateway.rest.enrollment import EnrollmentRoutes
from hub_server.gateway.rest.guard import NO_CERTIFICATE, NO_ROUTE, Handler, careful_headers, faults_guard
from hub_server.gateway.rest.health import HealthRoutes
from hub_server.gateway.rest.metrics import MetricsRoutes
from hub_server.gateway.rest.sign_in import SignInRoutes
from hub_server.instruments import Instruments
from protocol.envelope import SignedTrust
from protocol.limits import AGENT_SOCKET_PATH, HTTP_BODY_MAX_BYTES


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
    settings: Settings, *, access: AccessService, readiness: Readiness, instruments: Instruments
) -> web.Application:
    application = web.Application(middlewares=[faults_guard(NO_ROUTE)], client_max_size=HTTP_BODY_MAX_BYTES)
    application.on_response_prepare.append(careful_headers)
    sign_in = SignInRoutes(
        access=access,
        origins=settings.web_origins,
        is_https=settings.web_is_https,
        refresh_days=settings.access.refresh_days,
        trusted_proxies=settings.people.trusted_proxies,
    )
    for routes in (
        HealthRoutes(readiness=readiness),
        MetricsRoutes(exposition=instruments.text),
        sign_in,
        AssetRoutes(),
    ):
        application.add_routes(routes.routes())
    return application


def agents_application(
    *, connect: Handler, enrollment: EnrollmentService, ca_bundle_pem: str, trust: SignedTrust
) -> web.Application:
    application = web.Application(middlewares=[faults_guard(NO_CERTIFICATE)], client_max_size=HTTP_BODY_MAX_BYTES)
    application.on_response_prepare.append(careful_headers)
    application.add_routes(EnrollmentRoutes(enrollment=enrollment, ca_bundle_pem=ca_bundle_pem, trust=trust).routes())
    application.router.add_get(AGENT_SOCKET_PATH, connect)
    return application


def people_tls(settings: Settings) -> ssl.SSLContext | None:
    """Return TLS 1.3 for the people's listener when the settings name a certificate. Raises ConfigError."""
    if settings.people.certificate is None or settings.people.key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(settings.people.certificate, settings.people.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"people.certificate {settings.people.certificate} with people.key {settings.people.key} cannot be used: "
            f"{error}; give readable PEM files that belong together"
        ) from error
    return context
