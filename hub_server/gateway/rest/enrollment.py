"""What machines without a certificate may ask: the CA, to join, and to come back."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, Protocol

import msgspec
from aiohttp import web

from hub_server.enrollment.model import StoredKey
from hub_server.gateway.rest.addresses import AddressReader
from hub_server.gateway.rest.bodies import BodyReader, json_answer
from protocol.enrollment import (
    CaReply,
    EnrollPending,
    EnrollReply,
    EnrollRequest,
    RecoverRequest,
    RegisterReply,
    RegisterRequest,
)
from protocol.envelope import SignedTrust

KEY_HEADER: Final = "X-API-Key"


class Enrollment(Protocol):
    async def enroll(self, request: EnrollRequest, address: str) -> EnrollReply | EnrollPending: ...
    async def key_of(self, key_text: str, address: str) -> StoredKey: ...
    async def register(self, key: StoredKey, request: RegisterRequest, address: str) -> RegisterReply: ...
    async def recover(self, request: RecoverRequest, address: str) -> EnrollReply | EnrollPending: ...


class Anchor(Protocol):
    """What agents are told to trust, as it is at the moment of the question."""

    @property
    def ca_bundle_pem(self) -> str: ...
    @property
    def trust(self) -> SignedTrust: ...


class EnrollmentRoutes:
    def __init__(self, *, enrollment: Enrollment, anchor: Anchor, bodies: BodyReader | None = None) -> None:
        self._enrollment = enrollment
        self._anchor = anchor
        self._bodies = bodies or BodyReader()
        self._addresses = AddressReader()
        self._enroll_decoder = msgspec.json.Decoder(EnrollRequest)
        self._register_decoder = msgspec.json.Decoder(RegisterRequest)
        self._recover_decoder = msgspec.json.Decoder(RecoverRequest)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/agent/ca", self._give_ca, allow_head=False),
            web.post("/api/v1/agent/enroll", self._enroll),
            web.post("/api/v1/agent/recover", self._recover),
            web.post("/api/agents/register", self._register),
        ]

    async def _give_ca(self, _request: web.Request) -> web.Response:
        return json_answer(CaReply(ca_bundle_pem=self._anchor.ca_bundle_pem, trust=self._anchor.trust))

    async def _enroll(self, request: web.Request) -> web.Response:
        body = await self._bodies.read(request, self._enroll_decoder)
        return _answer(await self._enrollment.enroll(body, self._addresses.address_of(request)))

    async def _recover(self, request: web.Request) -> web.Response:
        body = await self._bodies.read(request, self._recover_decoder)
        return _answer(await self._enrollment.recover(body, self._addresses.address_of(request)))

    async def _register(self, request: web.Request) -> web.Response:
        """The key counts before the body: nobody without one gets anything read."""
        address = self._addresses.address_of(request)
        key = await self._enrollment.key_of(request.headers.get(KEY_HEADER, ""), address)
        body = await self._bodies.read(request, self._register_decoder)
        return json_answer(await self._enrollment.register(key, body, address), HTTPStatus.CREATED)


def _answer(reply: EnrollReply | EnrollPending) -> web.Response:
    return json_answer(reply, HTTPStatus.ACCEPTED if isinstance(reply, EnrollPending) else HTTPStatus.OK)
