"""The one question an agent asks over its socket: will the hub certify this key?"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

from agent_client.renewal.renewal import RenewalFailed
from protocol.codes import ErrorCode
from protocol.frames import AgentFrame, CertificateReply, CertificateRequest, Error

ANSWER_TIMEOUT_SECONDS: Final = 30.0

_PASSING: Final = frozenset({ErrorCode.RATE_LIMITED, ErrorCode.BUSY, ErrorCode.UNAVAILABLE, ErrorCode.INTERNAL})

Send = Callable[[AgentFrame], Awaitable[None]]


class CertificateDesk:
    """Lives as long as one session; one question at a time."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._request_id = ""
        self._answer: asyncio.Future[CertificateReply | Error] | None = None

    async def ask(self, csr_pem: str) -> str:
        """Return the chain the hub answers with, leaf first. Raises RenewalFailed, or SessionEnded."""
        self._request_id = secrets.token_hex(8)
        self._answer = asyncio.get_running_loop().create_future()
        try:
            await self._send(CertificateRequest(request_id=self._request_id, csr_pem=csr_pem))
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                answer = await self._answer
        except TimeoutError:
            raise RenewalFailed("the hub did not answer in time") from None
        finally:
            self._answer = None
        if isinstance(answer, Error):
            raise RenewalFailed(f"the hub refused: {answer.message}", is_final=answer.code not in _PASSING)
        return answer.certificate_pem

    def take(self, answer: CertificateReply | Error) -> bool:
        """Return whether `answer` is to the question that is open."""
        about = answer.request_id if isinstance(answer, CertificateReply) else answer.reply_to
        if self._answer is None or self._answer.done() or about != self._request_id:
            return False
        self._answer.set_result(answer)
        return True
