"""What machines without a certificate may ask: the CA, and to join."""

from __future__ import annotations

from typing import Protocol

import msgspec
from aiohttp import web

from hub_server.errors import TokenRefused
from hub_server.gateway.rest.addresses import AddressReader
from hub_server.gateway.rest.bodies import BodyReader, json_answer
from protocol.enrollment import CaReply, EnrollReply, EnrollRequest
from protocol.envelope import SignedTrust


class Enrollment(Protocol):
    async def enroll(self, request: EnrollRequest, address: str) -> EnrollReply: ...


class EnrollmentRoutes:
    def __init__(
        self, *, enrollment: Enrollment, ca_bundle_pem: str, trust: SignedTrust, bodies: BodyReader | None = None
    ) -> None:
        self._enrollment = enrollment
        self._ca = CaReply(ca_bundle_pem=ca_bundle_pem, trust=trust)
        self._bodies = bodies or BodyReader()
        self._addresses = AddressReader()
        self._decoder = msgspec.json.Decoder(EnrollRequest)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/agent/ca", self._give_ca, allow_head=False),
            web.post("/api/v1/agent/enroll", self._enroll),
            web.post("/api/agents/register", self._register),
        ]

    async def _give_ca(self, _request: web.Request) -> web.Response:
        return json_answer(self._ca)

    async def _enroll(self, request: web.Request) -> web.Response:
        body = await self._bodies.read(request, self._decoder)
        return json_answer(await self._enrollment.enroll(body, self._addresses.address_of(request)))

    async def _register(self, _request: web.Request) -> web.Response:
        raise TokenRefused(
            "this hub has no organisation keys enabled; enroll with a token: `jtnt-agent enroll <join string>`"
        )
