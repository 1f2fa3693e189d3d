"""The sessions this hub holds, one an agent."""

from __future__ import annotations

from collections.abc import Iterable

from hub_server.gateway.agents.session import AgentSession


class SessionRegistry:
    def __init__(self) -> None:
        self._sessions: dict[str, AgentSession] = {}
        self._retiring: dict[str, AgentSession] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def enter(self, session: AgentSession) -> AgentSession | None:
        """Make `session` the one of its agent and return the one it supersedes."""
        older = self._sessions.get(session.identity.agent_id)
        self._sessions[session.identity.agent_id] = session
        if older is not None:
            self._retiring[older.id] = older
        return older

    def leave(self, session: AgentSession) -> bool:
        """Take `session` out; True when it was the agent's newest, so that the agent is now gone."""
        self._retiring.pop(session.id, None)
        if self._sessions.get(session.identity.agent_id) is not session:
            return False
        del self._sessions[session.identity.agent_id]
        return True

    def get(self, agent_id: str) -> AgentSession | None:
        return self._sessions.get(agent_id)

    def is_connected(self, agent_id: str) -> bool:
        return agent_id in self._sessions

    def sessions(self) -> Iterable[AgentSession]:
        """Return the newest session of every agent."""
        return list(self._sessions.values())

    def retiring(self) -> Iterable[AgentSession]:
        """Return sessions whose agent has a newer one."""
        return list(self._retiring.values())
