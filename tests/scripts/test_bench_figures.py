"""What the bench makes of its measurements."""

import ipaddress
from datetime import UTC, datetime

import pytest

from hub_server.bench import intake
from hub_server.bench.agent import address_of
from hub_server.bench.exposition import change, pauses, series_in
from hub_server.bench.figures import Figure, Target, Verdict, of_runs, single, spread, void
from hub_server.bench.intake import BATCHED, Balance, balance_figures, figures_of
from hub_server.bench.kept import Kept
from hub_server.bench.machine import Machine
from hub_server.bench.muster import shares_of
from hub_server.bench.orders import Counted
from hub_server.bench.processes import BenchFailed
from hub_server.bench.report import Row, Run, text_of
from hub_server.bench.run import Size
from hub_server.bench.steady import at_least
from hub_server.bench.workers import bottleneck_of
from hub_server.telemetry.bounds import SAMPLES_PER_HOUR_MAX
from scripts.bench import COUNT_MAX, or_failed

LAG = "jtnt_loop_lag_seconds_bucket"
BEFORE = f"""# HELP jtnt_loop_lag_seconds How late the event loop ran
{LAG}{{le="0.001"}} 10.0
{LAG}{{le="0.01"}} 20.0
{LAG}{{le="0.05"}} 20.0
{LAG}{{le="+Inf"}} 20.0
jtnt_gc_collections_total{{generation="2"}} 3.0
process_x 1e+06
"""
AFTER = f"""{LAG}{{le="0.001"}} 100.0
{LAG}{{le="0.01"}} 119.0
{LAG}{{le="0.05"}} 120.0
{LAG}{{le="+Inf"}} 120.0
jtnt_gc_collections_total{{generation="2"}} 4.0
"""


def counted(cpu_share: float = 0.1, slip_ms: float = 1.0) -> Counted:
    return Counted(connected=1, sent=1, answered=1, delays_ms=[], slips_ms=[slip_ms], cpu_share=cpu_share)


@pytest.mark.parametrize(
    ("values", "p50", "p99", "highest"),
    [([7.0], 7.0, 7.0, 7.0), ([3.0, 1.0, 2.0], 2.0, 3.0, 3.0), (range(1, 1001), 500.0, 990.0, 1000.0)],
)
def test_a_spread_is_by_nearest_rank(values: list[float], p50: float, p99: float, highest: float) -> None:
    figure = spread("x", "ms", values)
    assert (figure.p50, figure.p99, figure.max) == (p50, p99, highest)


def test_a_spread_of_nothing_is_void_and_not_met() -> None:
    assert spread("x", "ms", [], Target(p50=1.0)).verdict is Verdict.VOID


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (single("x", "s", 1.5, 1.5), Verdict.MET),
        (single("x", "s", 1.51, 1.5), Verdict.MISSED),
        (single("x", "s", 1.51), Verdict.NONE),
        (Figure(name="x", unit="ms", n=9, p50=1, p99=9, max=51, target=Target(p99=10, max=50)), Verdict.MISSED),
        (Figure(name="x", unit="ms", n=9, p50=1, p99=9, max=50, target=Target(p99=10, max=50)), Verdict.MET),
        (void("x", "ms", Target(p99=10), "why"), Verdict.VOID),
    ],
)
def test_every_part_of_a_target_must_hold(figure: Figure, verdict: Verdict) -> None:
    assert figure.verdict is verdict


@pytest.mark.parametrize(("rates", "verdict"), [([9.0, 11.0, 10.0], Verdict.MET), ([9.0, 9.9, 11.0], Verdict.MISSED)])
def test_of_several_runs_the_median_counts_and_the_extremes_are_told(rates: list[float], verdict: Verdict) -> None:
    figure = of_runs("x", "a second", rates, Target(at_least=10.0), "quiet")
    assert figure.verdict is verdict
    assert figure.note.startswith("3 runs: 9 to 11; quiet")


def balance(sent: int, acknowledged: int, found: int, samples: int | None = None) -> Balance:
    """Samples of a fleet whose agents are all counted one by one; there were 50 before."""
    counted = found if samples is None else samples
    return Balance(sent, acknowledged, before=Kept(50, 50, 50), after=Kept(50 + found, 50 + found, 50 + counted))


@pytest.mark.parametrize(
    ("seen", "lost", "twice"),
    [
        (balance(sent=100, acknowledged=90, found=95), 0, 0),
        (balance(sent=100, acknowledged=90, found=87), 3, 0),
        (balance(sent=100, acknowledged=100, found=100, samples=98), 2, 0),
        (balance(sent=100, acknowledged=100, found=100, samples=101), 0, 1),
        (balance(sent=100, acknowledged=100, found=104), 0, 4),
    ],
)
def test_what_was_acknowledged_must_be_found_once(seen: Balance, lost: int, twice: int) -> None:
    fine = balance(sent=10, acknowledged=10, found=10)
    of_lost, of_twice = balance_figures([seen, fine])
    assert (of_lost.p50, of_twice.p50) == (lost, twice)
    assert of_lost.verdict is (Verdict.MISSED if lost else Verdict.MET)
    assert of_twice.verdict is (Verdict.MISSED if twice else Verdict.MET)


@pytest.mark.parametrize(
    ("rate", "hub_share", "load", "verdict"),
    [
        (20_000.0, 0.5, counted(cpu_share=0.99), Verdict.MET),
        (19_000.0, 0.5, counted(cpu_share=0.99), Verdict.VOID),
        (19_000.0, 0.5, counted(slip_ms=500.0), Verdict.VOID),
        (19_000.0, 0.99, counted(cpu_share=0.99), Verdict.MISSED),
        (19_000.0, 0.5, counted(cpu_share=0.5), Verdict.MISSED),
    ],
)
def test_a_rate_below_the_promise_is_void_when_the_hub_was_not_asked_for_more(
    rate: float, hub_share: float, load: Counted, verdict: Verdict
) -> None:
    run = intake.Run(samples_per_second=rate, cpu_share=hub_share, delays_ms=[1.0], load=[load])
    figure, *_ = figures_of(BATCHED, [run], BATCHED.agents)
    assert figure.verdict is verdict


def test_the_loops_pauses_are_those_of_the_window_alone() -> None:
    figure = pauses(series_in(BEFORE), series_in(AFTER), "pauses", Target(p99=10, max=50))
    assert (figure.n, figure.p50, figure.p99, figure.max) == (100, 1.0, 10.0, 50.0)
    assert figure.verdict is Verdict.MET


def test_a_window_in_which_the_loop_was_not_watched_is_void() -> None:
    assert pauses(series_in(BEFORE), series_in(BEFORE), "pauses", Target(p99=10)).verdict is Verdict.VOID


def test_a_collection_longer_than_the_lateness_seen_is_the_longest_pause() -> None:
    seen = pauses(series_in(BEFORE), series_in(AFTER), "pauses", Target(p99=10, max=50))
    assert at_least(seen, 20.0).max == 50.0
    assert at_least(seen, 109.0).max == 109.0
    assert at_least(seen, 109.0).verdict is Verdict.MISSED


def test_a_change_is_counted_by_label() -> None:
    assert change(series_in(BEFORE), series_in(AFTER), "jtnt_gc_collections_total", "2") == 1
    assert change(series_in(BEFORE), series_in(AFTER), "jtnt_gc_collections_total", "1") == 0


def test_a_generator_that_is_the_bottleneck_says_so() -> None:
    assert not bottleneck_of([counted(), counted()])
    assert "90%" in bottleneck_of([counted(), counted(cpu_share=0.9)])
    assert "500 ms" in bottleneck_of([counted(slip_ms=500.0), counted()])


@pytest.mark.parametrize("agents", [1, 8, 2500, 2501, 10_000, 15_000, 20_000])
def test_load_processes_share_all_agents_and_none_twice(agents: int) -> None:
    numbers = [first + index for first, count in shares_of(agents) for index in range(count)]
    assert numbers == list(range(agents))


def test_each_agent_of_the_largest_fleet_has_an_address_of_its_own() -> None:
    addresses = {ipaddress.ip_address(address_of(number)) for number in range(COUNT_MAX)}
    assert len(addresses) == COUNT_MAX
    assert all(address.is_loopback for address in addresses)


def test_a_run_beside_busy_programs_says_so() -> None:
    machine = Machine(cpu="C", cores=2, memory_bytes=1, kernel="K", python="3", openssl="O", versions={})
    rows = [Row(single("x", "s", 1.0, 2.0), "met")]

    def said(others_share: float) -> str:
        at = datetime(2026, 1, 1, tzinfo=UTC)
        run = Run(
            at=at, command=[], machine=machine, others_share=others_share, pace_ms=(1.0, 1.0), seconds=1, rows=rows
        )
        return text_of(run)

    assert "not a quiet machine" in said(0.2)
    assert "not a quiet machine" not in said(0.01)


async def test_a_measure_that_fails_leaves_a_row_and_the_others_go_on() -> None:
    async def failing() -> list[Figure]:
        raise BenchFailed("the hub is gone\nits last words")

    (row,) = await or_failed("storm", failing())
    assert (row.name, row.note, row.verdict) == ("failed: storm", "the hub is gone", Verdict.VOID)


def test_a_user_cannot_press_a_machine_beyond_what_its_hour_may_have() -> None:
    pressure = BATCHED.pressure
    a_second = pressure.samples_per_frame * pressure.frames_per_second
    seconds = Size(agents=1, seconds=600.0).pressed_seconds
    assert (1 + intake.WARM_UP_SHARE) * seconds * a_second < 0.9 * SAMPLES_PER_HOUR_MAX
