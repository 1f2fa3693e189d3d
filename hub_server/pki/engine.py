"""When the hub's keys are made, used, retired and forgotten: decisions only.

Issuing CA of the agents: a new one issues at once. The old one stays trusted until the last certificate that it issued
has ended.
Issuing CA of the servers: a new one is trusted at once and used an overlap later, so that agents know it before the hub
shows it. The old one stays trusted for another overlap, while every hub changes its certificate.
Signer of jobs and key of the audit: a new one is trusted at once and used a lead later, when every agent has the trust
document that names it. An old signer counts until the last job that it signed has expired; an old key of the audit
counts for ever, for what it signed is evidence.
Of a key that was stolen nothing is kept: it is out of the trust document at once, or named there as revoked, and its
successor is used without a wait.
A key from the future was made while the clock was ahead, and its certificate counts for nobody yet: another takes its
place. It stays trusted, for the clock may as well be behind now; one that is behind the root itself certainly is.
The root is never rotated, and the key of people's access tokens is in no trust document.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

from msgspec import Struct

from protocol.enumerations import AuthorityState, AuthorityUse

LEAD_MAX: Final = timedelta(minutes=2)
"""How long the slowest hub and its agents take to learn of a new key while they are connected."""
ADVISE_AHEAD: Final = timedelta(days=60)
ROOT_ADVISE_AHEAD: Final = timedelta(days=365)
CLOCKS_APART: Final = timedelta(minutes=5)
"""How far hubs' clocks may differ; certificates are back-dated by as much."""
GAIN_MIN: Final = 0.1
"""The part of a life that a new certificate must win: near the root's own end another one would change nothing."""

Rotated = Literal[AuthorityUse.AGENTS, AuthorityUse.SERVERS, AuthorityUse.JOBS, AuthorityUse.AUDIT]
ROTATED: Final[tuple[Rotated, ...]] = (
    AuthorityUse.AGENTS,
    AuthorityUse.SERVERS,
    AuthorityUse.JOBS,
    AuthorityUse.AUDIT,
)


class Lifetimes(Struct, frozen=True, kw_only=True):
    """How long each kind lives. `job`: the longest that a signed job is good."""

    agent_certificate: timedelta = timedelta(days=30)
    server_certificate: timedelta = timedelta(days=90)
    issuing: timedelta = timedelta(days=365)
    signer: timedelta = timedelta(days=365)
    overlap: timedelta = timedelta(days=7)
    job: timedelta = timedelta(days=7)

    @property
    def lead(self) -> timedelta:
        """Return how long a new signer is known before it signs."""
        return min(self.overlap, LEAD_MAX)


class Held(Struct, frozen=True, kw_only=True):
    """A key as it stands. `needed_until`: the end of the last certificate that it issued, where it issues any."""

    id: str
    use: AuthorityUse
    made_at: datetime
    not_after: datetime
    active_from: datetime
    retired_at: datetime | None = None
    needed_until: datetime | None = None


class Rotate(Struct, frozen=True):
    """Make a new key. Needs the root."""

    use: Rotated


class Revoke(Struct, frozen=True):
    """Make a new key that is used at once, and trust none of the others any more. Needs the root, and a person."""

    use: Rotated


class Retire(Struct, frozen=True):
    """The key is used no more: its private half can go."""

    id: str


class Forget(Struct, frozen=True):
    """Nothing that counts comes from it any more: take it out of the trust document. Needs the root."""

    id: str


Step = Rotate | Revoke | Retire | Forget


class Term(Struct, frozen=True):
    """When a new key is used, and until when it is good."""

    active_from: datetime
    not_after: datetime


def steps_due(held: Sequence[Held], now: datetime, lifetimes: Lifetimes) -> list[Step]:
    """Return what is to be done now. A new key that is used at once makes that its predecessor is to be retired."""
    steps: list[Step] = [Retire(key.id) for use in ROTATED for key in _replaced(held, use, now)]
    for use in ROTATED:
        newest = newest_of(held, use)
        if newest is None or _is_due(held, newest, use, now, lifetimes):
            steps.append(Rotate(use))
    steps += [Forget(key.id) for key in held if _is_over(key, now, lifetimes)]
    return steps


def active_of(held: Iterable[Held], use: AuthorityUse, now: datetime) -> Held | None:
    """Return the key in use: the one begun last; where the clock went back before all of them, the one begun first."""
    usable = [key for key in held if key.use is use and key.retired_at is None]
    begun = [key for key in usable if key.active_from <= now]
    if begun:
        return max(begun, key=lambda key: key.active_from)
    return min(usable, key=lambda key: key.active_from, default=None)


def newest_of(held: Iterable[Held], use: AuthorityUse) -> Held | None:
    """Return the key that is in use or will be next."""
    usable = (key for key in held if key.use is use and key.retired_at is None)
    return max(usable, key=lambda key: key.active_from, default=None)


def made_ahead(held: Iterable[Held], use: AuthorityUse, now: datetime) -> list[Held]:
    """Return the keys for `use` that were made while the clock was ahead of what it says now."""
    known = list(held)
    if any(key.use is AuthorityUse.ROOT and key.made_at > now + CLOCKS_APART for key in known):
        return []
    return [key for key in known if key.use is use and key.retired_at is None and key.made_at > now + CLOCKS_APART]


def state_of(key: Held, held: Iterable[Held], now: datetime) -> AuthorityState:
    active = active_of(held, key.use, now)
    if active is not None and active.id == key.id:
        return AuthorityState.ACTIVE
    return AuthorityState.NEXT if key.retired_at is None and key.active_from > now else AuthorityState.RETIRING


def rotates_at(key: Held, lifetimes: Lifetimes) -> datetime:
    """Return when a successor is made: before a third of its life is left, and before what it issues is cut short."""
    life = key.not_after - key.made_at
    needs: dict[AuthorityUse, timedelta] = {
        AuthorityUse.AGENTS: lifetimes.agent_certificate,
        AuthorityUse.SERVERS: lifetimes.server_certificate + lifetimes.overlap,
        AuthorityUse.JOBS: lifetimes.lead + lifetimes.job,
        AuthorityUse.AUDIT: lifetimes.lead,
    }
    left = max(life / 3, needs.get(key.use, timedelta()))
    return key.not_after - min(left, life / 2)


def term_of(use: Rotated, held: Sequence[Held], now: datetime, lifetimes: Lifetimes, root_ends_at: datetime) -> Term:
    """Return the times of a key that is made now: used at once where none could be used until then."""
    life = lifetimes.issuing if use in {AuthorityUse.AGENTS, AuthorityUse.SERVERS} else lifetimes.signer
    end = min(now + life, root_ends_at) if use in {AuthorityUse.AGENTS, AuthorityUse.SERVERS} else now + life
    wait = {
        AuthorityUse.AGENTS: timedelta(),
        AuthorityUse.SERVERS: lifetimes.overlap,
        AuthorityUse.JOBS: lifetimes.lead,
        AuthorityUse.AUDIT: lifetimes.lead,
    }[use]
    before = active_of(held, use, now)
    if before is None:
        return Term(now, end)
    return Term(max(now, min(now + wait, before.not_after)), end)


def signs_until(before: Held, term: Term, lifetimes: Lifetimes) -> datetime:
    """Return until when a signer counts whose successor has `term`: until its last job has expired, which may be later
    than its own end. One that had ended before is not called back.
    """
    return before.not_after if before.not_after < term.active_from else term.active_from + lifetimes.job


def advice(held: Sequence[Held], now: datetime, *, is_root_at_hand: bool) -> list[str]:
    """Return what a person should do, as sentences; nothing while the hub helps itself."""
    found: list[str] = []
    root = newest_of(held, AuthorityUse.ROOT)
    if root is not None and root.not_after - now < ROOT_ADVISE_AHEAD:
        found.append(f"the root ends on {root.not_after:%Y-%m-%d}: set up a new hub and enroll the machines there")
    if is_root_at_hand:
        return found
    for use in ROTATED:
        newest = newest_of(held, use)
        if made_ahead(held, use, now):
            found.append(
                f"the {_WORDS[use]} was made while the clock was ahead, and the root key is not at hand: run "
                f"`jtnt-hub ca rotate {use} --root-key FILE`"
            )
            continue
        if newest is None or newest.not_after - now >= min(ADVISE_AHEAD, (newest.not_after - newest.made_at) / 3):
            continue
        found.append(
            f"the {_WORDS[use]} ends on {newest.not_after:%Y-%m-%d} and the root key is not at hand: run "
            f"`jtnt-hub ca rotate {use} --root-key FILE`"
        )
    return found


_WORDS: Final[dict[AuthorityUse, str]] = {
    AuthorityUse.AGENTS: "issuing CA of the agents",
    AuthorityUse.SERVERS: "issuing CA of the hub's own certificate",
    AuthorityUse.JOBS: "key that signs commands",
    AuthorityUse.AUDIT: "key that signs the audit",
}


def _is_due(held: Sequence[Held], newest: Held, use: Rotated, now: datetime, lifetimes: Lifetimes) -> bool:
    if made_ahead(held, use, now):
        return True
    if now < rotates_at(newest, lifetimes):
        return False
    root = newest_of(held, AuthorityUse.ROOT)
    root_ends_at = newest.not_after + lifetimes.issuing if root is None else root.not_after
    if root_ends_at <= now:
        return False
    won = term_of(use, held, now, lifetimes, root_ends_at).not_after - newest.not_after
    return won >= GAIN_MIN * (newest.not_after - newest.made_at)


def _replaced(held: Sequence[Held], use: Rotated, now: datetime) -> list[Held]:
    active = active_of(held, use, now)
    if active is None:
        return []
    return [key for key in held if key.use is use and key.retired_at is None and key.active_from < active.active_from]


def _is_over(key: Held, now: datetime, lifetimes: Lifetimes) -> bool:
    if key.retired_at is None or key.use not in {AuthorityUse.AGENTS, AuthorityUse.SERVERS, AuthorityUse.JOBS}:
        return False
    if key.use is AuthorityUse.JOBS:
        return now >= key.not_after
    if now < key.retired_at + lifetimes.overlap:  # also of one that ended: the clock may be ahead for a while
        return False
    return now >= key.not_after or key.needed_until is None or now >= key.needed_until
