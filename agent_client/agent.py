"""The assembled agent: where its constructors meet, and how it starts, reloads and stops."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

from agent_client.cadence import Cadence
from agent_client.clock import Clock, SystemClock
from agent_client.collectors.failures import Failures
from agent_client.collectors.lineup import slow_collectors, standard_collectors
from agent_client.collectors.machine import boot_id
from agent_client.collectors.rounds import Rounds
from agent_client.collectors.sampling import MINUTE_SECONDS, Sampler, Scheduled
from agent_client.config import Config, load_config
from agent_client.control.local import ControlServer
from agent_client.control.status import Board, CertificateStatus, SpoolStatus, Status
from agent_client.control.vitals import Vitals
from agent_client.desired import DesiredState, Unacceptable, stored_settings
from agent_client.errands.runner import ErrandProcesses
from agent_client.errors import AgentError
from agent_client.execution.link import ExecutorLink
from agent_client.farewell import reason_of_stop
from agent_client.inventory.shelf import Shelf
from agent_client.logs import Log, set_level
from agent_client.memory import give_back_memory
from agent_client.paths import Places
from agent_client.policy.file import PolicyFile
from agent_client.policy.report import policy_words
from agent_client.renewal.inheritance import Inheritance
from agent_client.renewal.pairs import Pairs
from agent_client.renewal.papers import Papers
from agent_client.renewal.recovery import Recovery
from agent_client.renewal.renewal import Renewal
from agent_client.spool.database import Database, DatabaseError
from agent_client.spool.history import History
from agent_client.spool.spool import Spool, SpoolBound
from agent_client.store.secure import SecureStore, StoreError
from agent_client.transport.absences import Absences
from agent_client.transport.connection import Connection
from agent_client.transport.parts import Parts
from agent_client.trust.keeper import TrustKeeper
from agent_client.turns import Turn
from agent_client.version import AGENT_VERSION
from agent_client.witness import Witness
from protocol.desired import AgentConfig
from protocol.enumerations import GoodbyeReason
from protocol.reports import SPOOL_DAMAGED, STARTED

HOUSEKEEPING_SECONDS: Final = 1800.0
FIRST_HOUSEKEEPING_SECONDS: Final = 5.0
RESTART_DELAY_SECONDS: Final = 5.0
FAREWELL_SECONDS: Final = 3.0

_log = Log("daemon")


class Agent:
    """One identity at work. `run()` returns once `stop()` was called; `reload()` takes up a changed configuration.

    Then `begins_anew` where another Agent is to follow, `restarts` where the whole process is to begin anew.
    """

    def __init__(self, places: Places, config: Config, clock: Clock | None = None) -> None:
        """Raises DatabaseError when there can be no spool."""
        self.config = config
        self.begins_anew = False
        self.restarts = False
        self._places = places
        self._clock = clock or SystemClock()
        self._stop = asyncio.Event()
        self._database = Database(places.database)
        self._database.on_damage = self._begin_anew
        bound = SpoolBound(config.spool_max_bytes, config.spool_max_age_seconds)
        self._spool = Spool(self._database, self._clock, bound, owner=config.agent_id, boot_id=boot_id())
        self._history = History(self._database, self._spool, SecureStore(places.marks), config.agent_id)
        self._note_start()
        self._cadence = Cadence(_settings(places))
        turn = Turn(places, config.agent_id)
        self._papers = _papers(turn, config, self._clock)
        self._desired = DesiredState(self._database, self._cadence, self._papers.trust, self._papers.renewal, turn)
        self._jobs = ExecutorLink(places, lambda: self.config, self._clock, self.restart)
        self._policy = PolicyFile.of(places, config.policy_file)
        self._board = Board()
        self._failures = Failures(self._spool, self._database)
        self._vitals = Vitals(self._board, self._spool, self._clock, self._not_after_ms)
        self._shelf = Shelf(places.inventory)
        self._sampler, self._rounds = self._observers()
        parts = Parts(
            clock=self._clock,
            spool=self._spool,
            jobs=self._jobs,
            desired=self._desired,
            cadence=self._cadence,
            board=self._board,
            witness=Witness(places),
            shelf=self._shelf,
            boot_id=boot_id(),
        )
        absences = Absences(self._database, self._spool, self._clock)
        self._connection = Connection(lambda: self.config, places, absences, parts, self._papers)
        self._control = ControlServer(places, self.status, self.reload)

    async def run(self) -> None:
        """Work until `stop()`. Then the hub is told goodbye; jobs go on, and are reported by whoever comes next."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(_kept_going(name, run), name=name)
                    for name, run in (
                        ("jobs", self._jobs.run),
                        ("connection", self._connection.run),
                        ("sampler", self._sampler.run),
                        ("rounds", self._rounds.run),
                        ("housekeeping", self._keep_house),
                    )
                ]
                tasks.append(group.create_task(self._control.run(), name="control"))
                await self._stop.wait()
                _log.info("agent stopping", jobs_running=self._jobs.running)
                await self._farewell()
                for task in tasks:
                    task.cancel()
                self._spool.settle()
                self._history.close()
        finally:
            self._database.close()

    def stop(self) -> None:
        self._stop.set()

    def restart(self) -> None:
        """Stop in order, for the process to begin anew."""
        self.restarts = True
        self.stop()

    def reload(self) -> None:
        """Take up the configuration on disk; keep the one in use when that cannot be used.

        Bounds of the spool and of running jobs are taken up at the next start. Another identity needs another Agent:
        this one stops, and `begins_anew` says why.
        """
        try:
            config = load_config(self._places)
        except AgentError as error:
            _log.error("configuration not reloaded, the old one stays", reason=str(error))
            return
        if config.agent_id != self.config.agent_id:
            _log.info("another identity was enrolled, starting anew", new_agent_id=config.agent_id)
            self._begin_anew()
            return
        self.config = config
        self._policy = PolicyFile.of(self._places, config.policy_file)
        set_level(config.log_level)
        _log.info("configuration reloaded")
        self._rounds.reconsider()
        self._connection.reconsider()

    def status(self) -> Status:
        board, config = self._board, self.config
        return Status(
            pid=os.getpid(),
            agent_version=AGENT_VERSION,
            agent_id=config.agent_id,
            organisation_id=config.organisation_id,
            hub_url=config.hub_url,
            link=board.link,
            session_id=board.session_id,
            connected_since_ms=board.connected_since_ms,
            last_heartbeat_ms=board.last_heartbeat_ms,
            round_trip_ms=board.round_trip_ms,
            next_attempt_ms=board.next_attempt_ms,
            last_end=board.last_end,
            advice=board.advice,
            spool=SpoolStatus(
                used_bytes=self._spool.used_bytes(), waiting=self._spool.waiting(), dropped=self._spool.dropped()
            ),
            jobs_running=self._jobs.running,
            jobs_unreported=self._jobs.unreported,
            failing_collectors=self._failures.names(),
            certificate=self._certificate_status(),
            trust_version=self._papers.trust.version(),
            sample_interval_seconds=self._cadence.sample_interval_seconds,
            heartbeat_interval_seconds=self._cadence.heartbeat_seconds,
            health=self._vitals.health(),
            policy=policy_words(self._policy.current(), self._policy.path),
        )

    def _observers(self) -> tuple[Sampler, Rounds]:
        common = (self._spool, self._cadence, self._clock, self._failures)
        collectors = [*standard_collectors(self._cadence), Scheduled(self._vitals, MINUTE_SECONDS)]
        slow = partial(slow_collectors, self._places, self._cadence, self._failures, self._shelf)
        return Sampler(collectors, *common), Rounds(slow, *common)

    def _note_start(self) -> None:
        """Tell the hub that this life begins, and what became of the spool since the one before it."""
        database = self._database
        if database.replaced is not None:
            _log.error("spool damaged, a new one begun", moved_to=str(database.replaced))
            self._spool.report(SPOOL_DAMAGED, {"moved_to": str(database.replaced)})
        last_ms = database.last_written_ms
        down_ms = None if last_ms is None else max(self._clock.now_ms() - last_ms, 0)
        clean = self._history.was_orderly
        self._history.open()
        self._spool.report(
            STARTED, {"version": AGENT_VERSION, "boot_id": boot_id(), "clean": clean, "down_ms": down_ms}
        )

    def _begin_anew(self) -> None:
        self.begins_anew = True
        self.stop()

    def _not_after_ms(self) -> int | None:
        facts = self._papers.renewal.facts
        return facts.not_after_ms if facts else None

    def _certificate_status(self) -> CertificateStatus:
        """Return how the certificate in use stands; before a session is up, how the one on disk does."""
        renewal = self._papers.renewal
        facts = renewal.facts
        if facts is None:
            with suppress(StoreError):
                facts = self._papers.pairs.candidates(self.config.agent_id)[0].facts
        return CertificateStatus(
            not_after_ms=facts.not_after_ms if facts else None,
            renew_at_ms=renewal.renew_at_ms(),
            renewal=renewal.state,
            problem=renewal.problem,
        )

    async def _farewell(self) -> None:
        """Say goodbye, in a bounded time."""
        reason = GoodbyeReason.RESTART if self.begins_anew or self.restarts else await reason_of_stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._connection.say_goodbye(reason)

    async def _keep_house(self) -> None:
        await asyncio.sleep(FIRST_HOUSEKEEPING_SECONDS)
        while True:
            try:
                self._spool.trim_age()
            except DatabaseError as error:
                _log.error("the spool does not take it", reason=str(error))
            self._history.note()
            give_back_memory()
            await asyncio.sleep(HOUSEKEEPING_SECONDS)


def _papers(turn: Turn, config: Config, clock: Clock) -> Papers:
    """Return the agent's papers, after the end of a change of certificate that a crash cut off."""
    places = turn.places
    pairs, errands = Pairs(places, turn), ErrandProcesses()
    try:
        pairs.finish_promotion()
    except StoreError as error:  # the pair is read where it lies
        _log.error("certificate files not in order", reason=str(error))
    trust = TrustKeeper(places, errands, config.trust_domain, turn)
    return Papers(
        inheritance=Inheritance(places, trust, errands, turn),
        pairs=pairs,
        trust=trust,
        renewal=Renewal(places, pairs, trust, errands, clock, turn),
        recovery=Recovery(pairs, trust, errands, clock, config.agent_id, boot_id()),
    )


async def _kept_going(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run a task for good: a fault in it is logged and it begins again, for an agent must not fall silent."""
    while True:
        try:
            await run()
        except Exception as error:  # noqa: BLE001  a root task: what it fails with must not end the others
            _log.error("task failed; it begins again", task=name, exception=error)
            await asyncio.sleep(RESTART_DELAY_SECONDS)


def _settings(places: Places) -> AgentConfig:
    try:
        return stored_settings(places)
    except (AgentError, Unacceptable) as error:
        _log.warn("stored settings not usable, starting with the defaults", reason=str(error))
        return AgentConfig()
