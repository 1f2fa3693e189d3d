"""The client: one connection to a hub that comes back by itself, questions with typed answers, and jobs."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from msgspec import Raw, Struct

from hub_server.operator.address import Anchors, HubAddress
from hub_server.operator.connection import Connection, opened
from hub_server.operator.errors import AnswerLost, NotConnected, NotSignedIn, NotTrusted, OperatorError, Refused
from hub_server.operator.jobs import ASK_DEADLINE_SECONDS, AWAY_MAX_SECONDS, Following, Job
from hub_server.operator.keys import OperatorKey, signed
from hub_server.operator.output import chunk_of
from hub_server.operator.packets import AnyReply, BadPacket, Heard, refusal_in, reply_of
from hub_server.operator.tokens import FixedToken, Token, TokenSource
from protocol.actions import DATA, AnyData, ExecData
from protocol.codes import ErrorCode
from protocol.commands import CommandReply, CommandsCreate, CommandsGet
from protocol.events import AgentCommandOutput
from protocol.operations import AuthRefresh, AuthRefreshReply
from protocol.people import AccountGet, AccountGetReply
from protocol.requests import Request

FIRST_BACKOFF_SECONDS: Final = 0.25
BACKOFF_MAX_SECONDS: Final = 5.0
BACKOFF_EXPONENT_MAX: Final = 10
STABLE_SECONDS: Final = 10.0
"""A connection that lasted so long makes the pauses short again."""
RENEWED_AHEAD_SECONDS: Final = 60.0
LATER_SECONDS: Final = 1.0
REPEATABLE: Final = frozenset(
    {
        "account:get",
        "agents:get",
        "agents:list",
        "alerts:list",
        "commands:cancel",
        "commands:create",  # with the idempotency key that `run` gives it
        "commands:get",
        "commands:list",
        "commands:output",
        "inventory:get",
        "metrics:newest",
        "metrics:query",
    }
)
"""Operations that are asked again when their answer was lost, or the hub had no room for them."""
PASSING: Final = frozenset({ErrorCode.RATE_LIMITED, ErrorCode.UNAVAILABLE, ErrorCode.BUSY})
OUTPUT: Final = "agent:command:output"
RESULT: Final = "agent:command:result"


class _About(Struct, frozen=True, rename="camel"):
    command_id: str


_about: Final = msgspec.json.Decoder(_About)
_output: Final = msgspec.json.Decoder(AgentCommandOutput)


class Operator:
    """An async context manager: it connects at its beginning and ends its connection with the block.

    While the hub is away it tries again, with growing pauses, for `away_max_seconds`; what was asked meanwhile waits,
    and jobs that are read go on where they were. Raises NotConnected, NotTrusted or NotSignedIn when it cannot begin.
    """

    def __init__(
        self,
        address: HubAddress,
        tokens: TokenSource,
        *,
        anchors: Anchors | None = None,
        away_max_seconds: float = AWAY_MAX_SECONDS,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._address = address
        self._tokens = tokens
        self._anchors = anchors or Anchors()
        self._away_max_seconds = away_max_seconds
        self._draw = draw
        self._tasks: asyncio.TaskGroup = asyncio.TaskGroup()
        self._keeping: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._is_here = asyncio.Event()
        """Set while connected, and for ever once the client is over."""
        self._over: OperatorError | None = None
        self._why_away = ""
        self._followings: dict[str, list[Following]] = {}
        self._account: AccountGetReply | None = None

    @classmethod
    def connect(cls, url: str, *, token: str | TokenSource, anchors: Anchors | None = None) -> Operator:
        """`token`: an API key (`jtntk_…`), an access token, or where tokens come from. Raises BadAddress."""
        tokens = FixedToken(token) if isinstance(token, str) else token
        return cls(HubAddress.parse(url), tokens, anchors=anchors)

    async def __aenter__(self) -> Self:
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._tasks.__aenter__()
        self._keeping = self._tasks.create_task(self._keep_connected(first), name="operator-connection")
        try:
            await first
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._leave()

    async def ask(
        self,
        operation: str,
        request: Request,
        reply_type: type[AnyReply],
        *,
        deadline_seconds: float = ASK_DEADLINE_SECONDS,
    ) -> AnyReply:
        """Return the hub's reply. While the hub is away, or has no room, it is waited for until the deadline.

        Raises Refused; NotConnected when no answer came in time; AnswerLost at once for an operation that may not be
        asked twice; NotSignedIn.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + deadline_seconds
        try:
            async with asyncio.timeout_at(ends_at):
                while True:
                    body = await self._answer(operation, request)
                    if body is None:
                        continue
                    error = refusal_in(body)
                    if error is None:
                        return reply_of(body, reply_type)
                    pause_seconds = LATER_SECONDS if error.retry_after_sec is None else float(error.retry_after_sec)
                    is_final = operation not in REPEATABLE or error.code not in PASSING
                    if is_final or loop.time() + pause_seconds >= ends_at:
                        raise _refusal(Refused.of(error))
                    await asyncio.sleep(pause_seconds)
        except TimeoutError as error:
            away = f": {self._why_away}" if self._why_away else ""
            raise NotConnected(f"the hub has not answered {operation} within {deadline_seconds:g} s{away}") from error
        except BadPacket as error:
            raise NotConnected(str(error)) from error

    async def run(
        self,
        agent_id: str,
        order: Sequence[str] | AnyData,
        *,
        timeout_seconds: float | None = None,
        expires_in_seconds: int | None = None,
        idempotency_key: str | None = None,
        reason: str = "",
        key: OperatorKey | None = None,
    ) -> Job:
        """Order a machine to do something; return the job as soon as the hub has it.

        `order`: the program and its arguments, or another action's data (`ScriptData(script=…)`, `ServiceData(…)`).
        `timeout_seconds`: for its run; `expires_in_seconds`: for a machine that is away to come back. However often
        this is asked for one `idempotency_key`, there is one job; without one it gets its own. `reason`: why, for the
        audit; a policy may ask for it. `key`: signs the order beside the hub's signer. Raises what `ask` raises.
        """
        data = order if not isinstance(order, Sequence) else ExecData(argv=list(order))
        request = CommandsCreate(
            agent_id=agent_id,
            command_type=next(action for action, shape in DATA.items() if isinstance(data, shape)),
            command_data=_given(data),
            timeout_sec=timeout_seconds,
            expires_in_sec=expires_in_seconds,
            idempotency_key=idempotency_key or str(uuid.uuid4()),
            reason=reason,
        )
        if key is not None:
            request = await self._signed(request, data, key)
        return Job(self, (await self.ask("commands:create", request, CommandReply)).command)

    async def job(self, command_id: str) -> Job:
        """Return a job that somebody asked for. Raises what `ask` raises."""
        return Job(self, (await self.ask("commands:get", CommandsGet(command_id=command_id), CommandReply)).command)

    async def account(self) -> AccountGetReply:
        """Return who this client is to the hub, as it was when it was first asked."""
        if self._account is None:
            self._account = await self.ask("account:get", AccountGet(), AccountGetReply)
        return self._account

    @contextmanager
    def following(self, command_id: str, following: Following) -> Iterator[None]:
        """Tell `following` what the hub says of a job, until the block ends."""
        self._followings.setdefault(command_id, []).append(following)
        try:
            yield
        finally:
            self._followings[command_id].remove(following)
            if not self._followings[command_id]:
                del self._followings[command_id]

    async def _signed(self, request: CommandsCreate, data: AnyData, key: OperatorKey) -> CommandsCreate:
        account, token = await self.account(), await self._tokens.token()
        return signed(
            request,
            data,
            key=key,
            organisation_id=account.organisation_id,
            requested_by="" if token.is_api_key else f"user:{account.username}",  # a key's own name is not told to it
            now_ms=time.time_ns() // 1_000_000,
        )

    async def _answer(self, operation: str, request: Request) -> Raw | None:
        """Return the answer, None when it was lost and the question may be put again."""
        await self._is_here.wait()
        if self._over is not None:
            raise self._over
        assert self._connection is not None
        try:
            return await self._connection.ask(operation, request)
        except AnswerLost:
            if operation not in REPEATABLE:
                raise
            return None

    async def _keep_connected(self, first: asyncio.Future[None]) -> None:
        """Be connected until the hub will have us no more. `first`: told how the first attempt went."""
        loop = asyncio.get_running_loop()
        failures, away_since = 0, loop.time()
        while self._over is None:
            began_at, failure = loop.time(), await self._connect_once(first)
            if failure is None:
                away_since = loop.time()
                failures = 0 if away_since - began_at > STABLE_SECONDS else failures
            else:
                self._why_away = failure.message
                if not first.done():
                    self._over = failure
                    first.set_exception(failure)
                elif not _may_pass(failure):
                    self._over = failure
                elif loop.time() - away_since > self._away_max_seconds:
                    self._over = NotConnected(f"the hub has been away too long: {failure.message}")
            if self._over is None:
                await asyncio.sleep(_pause_seconds(failure, failures, self._draw()))
            failures += 1
        self._is_here.set()
        self._tell_missed()

    async def _connect_once(self, first: asyncio.Future[None]) -> OperatorError | None:
        """Hold one connection from its sign-in to its end. Return why there was none."""
        try:
            token = await self._tokens.token()
            try:
                await self._hold(token, first)
            except NotSignedIn:
                await self._hold(await self._tokens.renewed(token), first)
        except OperatorError as error:
            return error
        return None

    async def _hold(self, token: Token, first: asyncio.Future[None]) -> None:
        async with opened(self._address, self._anchors, token=token.text, heard=self._hear) as connection:
            self._connection = connection
            self._is_here.set()
            if not first.done():
                first.set_result(None)
            self._tell_missed()
            async with asyncio.TaskGroup() as tasks:
                renewing = tasks.create_task(self._keep_signed_in(connection, token), name="operator-sign-in")
                try:
                    self._why_away = await connection.listen()
                finally:
                    self._is_here.clear()
                    renewing.cancel()

    async def _keep_signed_in(self, connection: Connection, token: Token) -> None:
        """Give the connection a new token before the old one ends."""
        while token.expires_at is not None:
            lasts_seconds = token.expires_at - time.time()
            await asyncio.sleep(max(lasts_seconds - RENEWED_AHEAD_SECONDS, lasts_seconds / 2, LATER_SECONDS))
            try:
                token = await self._tokens.renewed(token)
                body = await connection.ask("auth:refresh", AuthRefresh(token=token.text))
                if refusal_in(body) is not None:  # for another person or role: a new connection has its rights
                    await connection.close()
                    return
                reply_of(body, AuthRefreshReply)
            except NotSignedIn as error:
                self._over = error
                await connection.close()
                return
            except (NotConnected, Refused, BadPacket) as error:
                self._why_away = str(error)

    def _hear(self, event: Heard) -> None:
        """Tell those who follow a job what is said of it; anything else the hub tells is not for this client."""
        if event.name not in {OUTPUT, RESULT}:
            return
        try:
            followings = self._followings.get(_about.decode(event.body).command_id)
            if not followings:
                return
            chunk = chunk_of(_output.decode(event.body)) if event.name == OUTPUT else None
        except (msgspec.MsgspecError, ValueError):
            self._tell_missed()
            return
        for following in followings:
            if chunk is None:
                following.ended()
            else:
                following.heard(chunk)

    def _tell_missed(self) -> None:
        for followings in self._followings.values():
            for following in followings:
                following.missed()

    async def _leave(self) -> None:
        self._over = self._over or NotConnected("this client has been closed")
        self._is_here.set()
        if self._keeping is not None:
            self._keeping.cancel()
        await self._tasks.__aexit__(None, None, None)


def _given(data: AnyData) -> dict[str, Any]:
    """Return the data as people send it: without what nobody said."""
    return {name: value for name, value in msgspec.to_builtins(data).items() if value not in (None, {}, [])}


def _refusal(error: Refused) -> Refused | NotSignedIn:
    return NotSignedIn(error.message) if error.code == ErrorCode.UNAUTHENTICATED else error


def _may_pass(failure: OperatorError) -> bool:
    """Tell whether trying again may help without a person."""
    return isinstance(failure, NotConnected | Refused) and not isinstance(failure, NotTrusted)


def _pause_seconds(failure: OperatorError | None, failures: int, draw: float) -> float:
    """Return the pause before the next attempt: half to all of a time that doubles, or what the hub asked for.

    `draw`: 0 ≤ draw < 1.
    """
    whole = min(FIRST_BACKOFF_SECONDS * 2.0 ** min(failures, BACKOFF_EXPONENT_MAX), BACKOFF_MAX_SECONDS)
    asked = failure.retry_after_seconds if isinstance(failure, Refused) else None
    return max(whole * (1 + draw) / 2, float(asked or 0))
