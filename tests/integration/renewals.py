"""What agents do about their certificates, over their socket."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import Final

from protocol.frames import CertificateReply, CertificateRequest, Error
from tests.integration.machine import AgentSocket, Identity, Key

_numbers: Final = itertools.count(1)


async def asked(agent: AgentSocket, csr_pem: str) -> CertificateReply | Error:
    """Return the hub's answer to a request for a certificate."""
    request_id = f"request-{next(_numbers)}"
    await agent.send(CertificateRequest(request_id=request_id, csr_pem=csr_pem))
    answer = await agent.inbox.take(
        lambda frame: (
            (isinstance(frame, CertificateReply) and frame.request_id == request_id)
            or (isinstance(frame, Error) and frame.reply_to == request_id)
        )
    )
    assert isinstance(answer, CertificateReply | Error)
    return answer


async def renewed(agent: AgentSocket, identity: Identity) -> Identity:
    """Renew with a new key; return the agent with its new certificate, kept beside the old one."""
    key = Key()
    answer = await asked(agent, key.csr_pem())
    assert isinstance(answer, CertificateReply), answer
    return kept(identity, key, answer.certificate_pem)


def kept(identity: Identity, key: Key, certificate_pem: str) -> Identity:
    number = next(_numbers)
    home = identity.certificate.parent
    certificate, key_file = home / f"client-{number}.crt", home / f"client-{number}.key"
    certificate.write_text(certificate_pem)
    key_file.write_bytes(key.pem)
    return replace(identity, certificate=certificate, key=key_file)


async def asked_or_cut(agent: AgentSocket, csr_pem: str) -> CertificateReply | Error | None:
    """Do as `asked`; None when the hub ends the session instead of answering."""
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(asked(agent, csr_pem))
        ending = tasks.create_task(agent.connection.wait_closed())
        await asyncio.wait((asking, ending), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0)  # the answer may have come with the close
        ending.cancel()
        if not asking.done():
            asking.cancel()
            return None
    return asking.result()
