"""The sessions this hub holds: one an agent that is spoken to, and older ones until they have ended."""

from __future__ import annotations

from collections.abc import Iterable

from hub_server.gateway.agents.session import AgentSession


class SessionRegistry:
    def __init__(self) -> None:
        self._sessions: dict[str, AgentSession] = {}
        self._retiring: dict[str, list[AgentSession]] = {}
        self.entered = 0
        """Sessions that began since the start."""

    def __len__(self) -> int:
        return len(self._sessions)

    def enter(self, session: AgentSession) -> AgentSession | None:
        """Make `session` the one of its agent and return the one it supersedes."""
        self.entered += 1
        agent_id = session.identity.agent_id
        older = self._sessions.get(agent_id)
        self._sessions[agent_id] = session
        if older is not None:
            self._retiring.setdefault(agent_id, []).append(older)
        return older

    def leave(self, session: AgentSession) -> bool:
        """Take `session` out; True when its agent has none any more.

        When the newest goes first, an older one that still lives is the agent's session again.
        """
        agent_id = session.identity.agent_id
        older = [kept for kept in self._retiring.pop(agent_id, ()) if kept is not session]
        if self._sessions.get(agent_id) is session:
            alive = [kept for kept in older if not kept.is_ending]
            if alive:
                self._sessions[agent_id] = alive[-1]
                older.remove(alive[-1])
            else:
                del self._sessions[agent_id]
        if older:
            self._retiring[agent_id] = older
        return agent_id not in self._sessions

    def get(self, agent_id: str) -> AgentSession | None:
        return self._sessions.get(agent_id)

    def is_connected(self, agent_id: str) -> bool:
        return agent_id in self._sessions

    def of_agent(self, agent_id: str) -> list[AgentSession]:
        """Return every session of an agent, the newest first."""
        newest = self._sessions.get(agent_id)
        return [*([] if newest is None else [newest]), *self._retiring.get(agent_id, ())]

    def sessions(self) -> Iterable[AgentSession]:
        """Return the newest session of every agent."""
        return list(self._sessions.values())

    def retiring(self) -> Iterable[AgentSession]:
        """Return sessions whose agent has a newer one."""
        return [session for sessions in self._retiring.values() for session in sessions]
