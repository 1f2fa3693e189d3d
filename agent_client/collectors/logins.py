"""Who is logged in. Taken only where the organisation turned it on."""

from __future__ import annotations

from typing import Final

import psutil

from agent_client.collectors.readings import Readings, wire_text

SESSIONS_MAX: Final = 100


class LoginCollector:
    """`logins`: sessions with user, host they come from (empty: the machine itself), and the time they began."""

    name: Final = "logins"

    def collect(self) -> Readings:
        """Raises OSError when the machine does not tell."""
        sessions = sorted(psutil.users(), key=lambda session: session.started)
        return {
            self.name: {
                "sessions": [
                    {
                        "user": wire_text(session.name),
                        "host": wire_text(session.host or ""),
                        "since_ms": int(session.started * 1000),
                    }
                    for session in sessions[-SESSIONS_MAX:]
                ],
                "session_count": len(sessions),
            }
        }
