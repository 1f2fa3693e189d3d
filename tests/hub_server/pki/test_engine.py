"""What the engine decides about the hub's keys over years, with nothing but times."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hub_server.pki.engine import (
    ROTATED,
    Forget,
    Held,
    Lifetimes,
    Retire,
    Rotate,
    Step,
    active_of,
    advice,
    newest_of,
    rotates_at,
    signs_until,
    state_of,
    steps_due,
    term_of,
)
from protocol.enumerations import AuthorityState, AuthorityUse

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
ROOT_ENDS: Final = START + timedelta(days=3650)
DAY: Final = timedelta(days=1)
ISSUING: Final = (AuthorityUse.AGENTS, AuthorityUse.SERVERS)


class Years:
    """A hub that does what the engine says, with nothing but times."""

    def __init__(self, lifetimes: Lifetimes) -> None:
        self.lifetimes = lifetimes
        self.made = 0
        self.held: list[Held] = [
            Held(id="root", use=AuthorityUse.ROOT, made_at=START, not_after=ROOT_ENDS, active_from=START)
        ]
        self.trusted_since: dict[str, datetime] = {}

    def tend(self, now: datetime, leaf_ends: dict[str, datetime], *, can_sign: bool = True) -> list[Step]:
        """Do all that is due, as the authority does; return the steps."""
        done: list[Step] = []
        self.held = [replace(key, needed_until=leaf_ends.get(key.id)) for key in self.held]
        for _ in range(3):
            for step in steps_due(self.held, now, self.lifetimes):
                if can_sign or isinstance(step, Retire):
                    self._do(step, now)
                    done.append(step)
        if can_sign:
            assert steps_due(self.held, now, self.lifetimes) == []
        return done

    def _do(self, step: Step, now: datetime) -> None:
        match step:
            case Rotate(use):
                term = term_of(use, self.held, now, self.lifetimes, ROOT_ENDS)
                if use is AuthorityUse.JOBS and (newest := newest_of(self.held, use)):
                    self._replace(newest.id, not_after=signs_until(newest, term, self.lifetimes))
                self.made += 1
                key = Held(
                    id=f"{use}-{self.made}",
                    use=use,
                    made_at=now,
                    not_after=term.not_after,
                    active_from=term.active_from,
                )
                self.held.append(key)
                self.trusted_since[key.id] = now
            case Retire(key_id):
                self._replace(key_id, retired_at=now)
            case Forget(key_id):
                self.held = [key for key in self.held if key.id != key_id]

    def _replace(self, key_id: str, **changes: datetime) -> None:
        self.held = [replace(key, **changes) if key.id == key_id else key for key in self.held]

    def active(self, use: AuthorityUse, now: datetime) -> Held:
        key = active_of(self.held, use, now)
        assert key is not None
        return key


@st.composite
def lifetimes_of_any_hub(draw: st.DrawFn) -> Lifetimes:
    """As the settings allow them: an issuing CA lives at least twice as long as what it issues and the overlap, a
    signer four times as long as an order may wait.
    """
    agent, server = draw(st.integers(2, 20)), draw(st.integers(2, 20))
    overlap = draw(st.integers(1, 10))
    issuing = draw(st.integers(2 * max(agent, server + overlap), 120))
    return Lifetimes(
        agent_certificate=agent * DAY,
        server_certificate=server * DAY,
        issuing=issuing * DAY,
        signer=draw(st.integers(28, 120)) * DAY,
        overlap=overlap * DAY,
    )


@settings(max_examples=40)
@given(lifetimes_of_any_hub(), st.lists(st.floats(0.1, 0.95), min_size=1, max_size=8))
def test_over_the_years_nothing_that_counts_is_ever_out_of_trust(
    lifetimes: Lifetimes, strides: Sequence[float]
) -> None:
    """Ticks come as they may, but oftener than the overlap ends. Each tick issues a certificate and signs a job."""
    years, now = Years(lifetimes), START
    leaves: list[tuple[str, datetime]] = []
    jobs: list[tuple[str, datetime]] = []
    for stride in islice(cycle(strides), 100):
        leaves = [leaf for leaf in leaves if leaf[1] > now]
        jobs = [job for job in jobs if job[1] > now]
        years.tend(now, dict(leaves))
        assert_all_counts(years, now, leaves, jobs)
        agents, servers = years.active(AuthorityUse.AGENTS, now), years.active(AuthorityUse.SERVERS, now)
        leaves.append((agents.id, min(now + lifetimes.agent_certificate, agents.not_after)))
        jobs.append((years.active(AuthorityUse.JOBS, now).id, now + lifetimes.job))
        assert agents.not_after >= now + lifetimes.agent_certificate
        assert servers.not_after >= now + lifetimes.server_certificate - lifetimes.overlap  # a round may come late
        now += lifetimes.overlap * stride


def assert_all_counts(
    years: Years, now: datetime, leaves: Sequence[tuple[str, datetime]], jobs: Sequence[tuple[str, datetime]]
) -> None:
    trusted = {key.id: key for key in years.held}
    for use in ROTATED:
        key = years.active(use, now)
        assert key.not_after > now
        states = [state_of(other, years.held, now) for other in years.held if other.use is use]
        assert states.count(AuthorityState.ACTIVE) == 1
        assert sum(other.use is use for other in years.held) <= 4 or use is AuthorityUse.AUDIT
        earlier = [other for other in years.held if other.use is use and other.active_from < key.active_from]
        if use is AuthorityUse.SERVERS and earlier:
            assert now - years.trusted_since[key.id] >= years.lifetimes.overlap
    assert all(issuer in trusted for issuer, end in leaves if end > now)
    assert all(signer in trusted and trusted[signer].not_after >= end for signer, end in jobs if end > now)


@given(lifetimes_of_any_hub(), st.integers(100, 4000))
def test_a_hub_that_was_off_for_long_helps_itself_at_once(lifetimes: Lifetimes, days: int) -> None:
    years = Years(lifetimes)
    years.tend(START, {})
    now = min(START + days * DAY, ROOT_ENDS - DAY)
    years.tend(now, {})
    for use in ROTATED:
        assert years.active(use, now).not_after > now


def test_near_the_roots_end_no_rotation_follows_another() -> None:
    lifetimes = Lifetimes()
    years, now = Years(lifetimes), ROOT_ENDS - timedelta(days=300)
    years.tend(now, {})
    rotations = 0
    while now < ROOT_ENDS:
        rotations += sum(isinstance(step, Rotate) and step.use in ISSUING for step in years.tend(now, {}))
        now += DAY
    assert rotations == 0
    assert "the root ends on" in advice(years.held, now, is_root_at_hand=True)[0]


def test_a_clock_that_went_back_finds_keys_to_use() -> None:
    years = Years(Lifetimes())
    years.tend(START, {})
    for use in ROTATED:
        assert years.active(use, START - timedelta(days=400)).use is use


@given(st.integers(0, 365))
def test_without_the_root_a_person_is_told_sixty_days_ahead(day: int) -> None:
    years = Years(Lifetimes())
    years.tend(START, {})
    now = START + day * DAY
    years.tend(now, {}, can_sign=False)
    told = advice(years.held, now, is_root_at_hand=False)
    assert len(told) == (len(ROTATED) if day > 305 else 0)
    assert advice(years.held, now, is_root_at_hand=True) == []
    assert all("--root-key" in sentence for sentence in told)


def test_each_key_is_exchanged_before_a_third_of_its_life_is_left() -> None:
    years = Years(Lifetimes())
    years.tend(START, {})
    for use in ROTATED:
        assert START + 243 * DAY <= rotates_at(years.active(use, START), years.lifetimes) <= START + 244 * DAY
