"""`python -m agent_client.security`: reads a Memo as JSON from standard input, writes Findings."""

from __future__ import annotations

import sys

import msgspec

from agent_client.host import Host, LocalHost
from agent_client.security.facts import Findings, Memo, SecurityFacts, SecuritySource


def main() -> None:
    memo = msgspec.json.decode(sys.stdin.buffer.read() or b"{}", type=Memo)
    source = source_of(LocalHost(), sys.platform)
    findings = source.findings(memo) if source is not None else Findings(facts=SecurityFacts())
    sys.stdout.buffer.write(msgspec.json.encode(findings))


def source_of(host: Host, platform: str) -> SecuritySource | None:
    """Each system's own code is loaded on that system alone."""
    if platform.startswith("linux"):
        from agent_client.security.linux import LinuxSecurity  # noqa: PLC0415

        return LinuxSecurity(host)
    if platform == "darwin":
        from agent_client.security.macos import MacosSecurity  # noqa: PLC0415

        return MacosSecurity(host)
    if platform == "win32":
        from agent_client.security.windows import WindowsSecurity  # noqa: PLC0415

        return WindowsSecurity(host)
    return None


if __name__ == "__main__":
    main()
