"""Whether a machine is as a check expects it: facts read from what the hub holds, and compared. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, assert_never

import msgspec
from msgspec import Struct

from hub_server.errors import InvalidRequest
from hub_server.policies.model import FOUND_MAX_CHARS, Asked, Plan, Reading, Result, ResultKey, Value, Verdict
from hub_server.policies.versions import version_key
from protocol.enumerations import AlertSeverity
from protocol.frames import MetricValue
from protocol.inventory import SECTIONS, Hardware, OperatingSystem, Packages, Section, Services
from protocol.policies import KINDS, NAMED, OPERATORS, Check, CheckOperator, CheckState, CheckValue, Fact, FactKind

DAY_MS: Final = 86_400_000
ABSENT: Final = "absent"
UNKNOWN: Final = Verdict(CheckState.UNKNOWN, None)


class SecurityFacts(Struct, frozen=True):
    """The newest sample of the type `security`."""

    at_ms: int
    values: Mapping[str, MetricValue]


def check_all(checks: Sequence[Check]) -> None:
    """Raises InvalidRequest with the path of the check at fault."""
    names = [check.name.strip().casefold() for check in checks]
    for number, check in enumerate(checks):
        path = f"$.terms.checks[{number}]"
        if not names[number]:
            raise InvalidRequest("give the check a name", path=f"{path}.name")
        if names[number] in names[:number]:
            raise InvalidRequest(f"there are two checks named {check.name}", path=f"{path}.name")
        _check_subject(check, path)
        _check_operator(check, path)
        _check_value(check, path)


def expected_words(check: Check) -> str:
    """Return what the check expects, for people."""
    subject = f" {check.subject}" if check.subject else ""
    fact = f"{check.fact.value}{subject}"
    match check.operator:
        case CheckOperator.PRESENT | CheckOperator.ABSENT:
            return f"{fact} is {check.operator.value}"
        case CheckOperator.ONE_OF if isinstance(check.value, list):
            return f"{fact} is one of {', '.join(check.value)}"
        case operator:
            return f"{fact} {_OPERATOR_WORDS[operator]} {_text_of(check.value)}"


def verdict_of(check: Check, reading: Reading) -> Verdict:
    """Return what a check says of a reading of its fact."""
    if reading is None:
        return UNKNOWN
    if not reading:
        passes = check.operator in (CheckOperator.ABSENT, CheckOperator.NOT_EQUALS)
        return _verdict(_state(passes=passes), ABSENT)
    failing = next((value for value in reading if not _holds(check, value)), None)
    return _verdict(_state(passes=failing is None), _text_of(reading[0] if failing is None else failing))


def section_of(fact: Fact) -> Section | None:
    """Return the part of the inventory that tells a fact, None for the others."""
    return _SECTIONS.get(fact)


def inventory_readings(asked: Iterable[Asked], bodies: Mapping[Section, bytes | str]) -> dict[Asked, Reading]:
    """Return a reading of every fact, from sections in JSON; of those that are not there nothing is known.

    One that cannot be read tells as little: it must not keep other machines from being judged.
    """
    wanted: dict[Section, list[Asked]] = {}
    for one in asked:
        wanted.setdefault(_SECTIONS[one.fact], []).append(one)
    readings: dict[Asked, Reading] = {}
    for section, of_section in wanted.items():
        body = _body_of(section, bodies.get(section))
        readings |= dict.fromkeys(of_section) if body is None else _section_readings(of_section, body)
    return readings


def security_reading(fact: Fact, facts: SecurityFacts | None, now_ms: int) -> Reading:
    """Return a reading of one of the facts `security.…`."""
    if facts is None:
        return None
    match fact:
        case Fact.FACTS_AGE_DAYS:
            return (max(0, now_ms - facts.at_ms) // DAY_MS,)
        case Fact.UPDATES_AGE_DAYS:
            as_of_ms = facts.values.get("updates_as_of_ms")
            return (max(0, now_ms - int(as_of_ms)) // DAY_MS,) if isinstance(as_of_ms, int | float) else None
        case _:
            value = facts.values.get(fact.value.partition(".")[2])
            is_right = isinstance(value, bool) is (KINDS[fact] is FactKind.FLAG)
            return (value,) if is_right and isinstance(value, bool | int | float) else None


def results_of(
    organisation_id: str,
    agent_id: str,
    plan: Plan,
    verdicts: Sequence[Verdict],
    held: Mapping[ResultKey, Result],
    *,
    is_here: bool,
    hub_id: str,
    now: datetime,
) -> list[Result]:
    """Return what is to be stored of a machine, beside the checks of its plan.

    `held`: what is stored of it. `is_here`: it is connected to this hub.

    Only a hub that knows the machine says what its checks find: the one that it is connected to, or was the last time.
    Any other leaves what they found before, and says what it knows where there is nothing yet.
    """
    judges = {result.judged_by for result in held.values()} - {""}
    knows = is_here or hub_id in judges
    results = []
    for one, verdict in zip(plan.checks, verdicts, strict=True):
        key = ResultKey(agent_id, one.policy_id, one.check.name)
        before = held.get(key)
        after = Result(
            organisation_id=organisation_id,
            key=key,
            severity=one.check.severity,
            verdict=verdict,
            since=now if before is None or before.verdict.state is not verdict.state else before.since,
            judged_by=hub_id if knows else "",
        )
        if before is not None and not knows and (judges or verdict.state is CheckState.UNKNOWN):
            after = msgspec.structs.replace(before, severity=one.check.severity)
        results.append(after)
    return results


def worst_of(plan: Plan, verdicts: Sequence[Verdict]) -> AlertSeverity | None:
    """Return the highest severity of the checks that failed."""
    failed = {
        one.check.severity
        for one, verdict in zip(plan.checks, verdicts, strict=True)
        if verdict.state is CheckState.FAILED
    }
    return next((severity for severity in reversed(AlertSeverity) if severity in failed), None)


def _check_subject(check: Check, path: str) -> None:
    is_named = check.fact in NAMED
    if is_named and not check.subject.strip():
        what = "package" if check.fact is Fact.PACKAGE else "service"
        raise InvalidRequest(f"say which {what}", path=f"{path}.subject")
    if check.subject and not is_named:
        raise InvalidRequest(f"{check.fact} has no subject", path=f"{path}.subject")


def _check_operator(check: Check, path: str) -> None:
    kind, operator = KINDS[check.fact], check.operator
    is_of_presence = operator in (CheckOperator.PRESENT, CheckOperator.ABSENT)
    fits = check.fact in NAMED if is_of_presence else operator in OPERATORS[kind]
    if not fits:
        raise InvalidRequest(f"{check.fact} cannot be compared by {operator}", path=f"{path}.operator")


def _check_value(check: Check, path: str) -> None:
    match check.operator:
        case CheckOperator.PRESENT | CheckOperator.ABSENT:
            fits, wanted = check.value is None, "nothing"
        case CheckOperator.ONE_OF:
            fits, wanted = isinstance(check.value, list) and bool(check.value), "a list of texts"
        case _:
            fits, wanted = _fits(check.value, KINDS[check.fact])
    if not fits:
        raise InvalidRequest(f"{check.fact} {check.operator} needs {wanted}", path=f"{path}.value")


def _fits(value: CheckValue, kind: FactKind) -> tuple[bool, str]:
    """Return whether a value is of a kind, and what would be."""
    match kind:
        case FactKind.FLAG:
            return isinstance(value, bool), "true or false"
        case FactKind.NUMBER:
            return isinstance(value, int | float) and not isinstance(value, bool), "a number"
        case FactKind.TEXT | FactKind.VERSION:
            return isinstance(value, str) and bool(value.strip()), "a text"
        case _:
            assert_never(kind)


def _holds(check: Check, found: Value) -> bool:
    wanted = check.value
    match check.operator:
        case CheckOperator.PRESENT:
            return True
        case CheckOperator.ABSENT:
            return False
        case CheckOperator.EQUALS:
            return _is_same(found, wanted)
        case CheckOperator.NOT_EQUALS:
            return not _is_same(found, wanted)
        case CheckOperator.AT_LEAST:
            return _number(found) >= _number(wanted)
        case CheckOperator.AT_MOST:
            return _number(found) <= _number(wanted)
        case CheckOperator.CONTAINS:
            return str(wanted).casefold() in str(found).casefold()
        case CheckOperator.ONE_OF:
            return isinstance(wanted, list) and any(_is_same(found, one) for one in wanted)
        case CheckOperator.VERSION_AT_LEAST:
            return version_key(str(found)) >= version_key(str(wanted))
        case _:
            assert_never(check.operator)


def _number(value: CheckValue) -> float:
    """Return what was checked to be a number."""
    assert isinstance(value, int | float)
    return value


def _is_same(found: Value, wanted: CheckValue) -> bool:
    if isinstance(found, str) and isinstance(wanted, str):
        return found.strip().casefold() == wanted.strip().casefold()
    return found == wanted


def _body_of(section: Section, body: bytes | str | None) -> Any:
    try:
        return None if body is None else msgspec.json.decode(body, type=SECTIONS[section])
    except msgspec.MsgspecError:
        return None


def _section_readings(asked: Sequence[Asked], section: Any) -> dict[Asked, Reading]:
    match section:
        case Packages(items=packages):
            return _of_named(asked, ((package.name, package.version) for package in packages))
        case Services(items=services):
            states, starts = ([one for one in asked if one.fact is fact] for fact in _OF_SERVICES)
            return _of_named(states, ((_stem(unit.name), unit.state) for unit in services)) | _of_named(
                starts, ((_stem(unit.name), unit.starts) for unit in services)
            )
        case _:
            values = {one: _FIELDS[one.fact](section) for one in asked}
            # Empty where the machine does not tell.
            return {one: None if value in ("", 0) else (value,) for one, value in values.items()}


def _of_named(asked: Sequence[Asked], things: Iterable[tuple[str, Value]]) -> dict[Asked, Reading]:
    """Return the values of the things of these names, in one walk over all of them."""
    found: dict[str, list[Value]] = {_stem(one.subject): [] for one in asked}
    for name, value in things:
        values = found.get(name)
        if values is not None:
            values.append(value)
    return {one: tuple(found[_stem(one.subject)]) for one in asked}


def _stem(name: str) -> str:
    """Return a name without what systemd puts behind the names of services."""
    return name.removesuffix(".service")


@lru_cache(maxsize=4096)
def _verdict(state: CheckState, found: str) -> Verdict:
    """Return the same object for the same verdict: a fleet has few different ones."""
    return Verdict(state, found)


def _state(*, passes: bool) -> CheckState:
    return CheckState.PASSED if passes else CheckState.FAILED


def _text_of(value: CheckValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)[:FOUND_MAX_CHARS]


_OPERATOR_WORDS: Final[Mapping[CheckOperator, str]] = {
    CheckOperator.EQUALS: "is",
    CheckOperator.NOT_EQUALS: "is not",
    CheckOperator.AT_LEAST: "is at least",
    CheckOperator.AT_MOST: "is at most",
    CheckOperator.CONTAINS: "contains",
    CheckOperator.ONE_OF: "is one of",
    CheckOperator.VERSION_AT_LEAST: "is version ≥",
}
_HARDWARE: Final[Mapping[Fact, Callable[[Hardware], Value]]] = {
    Fact.MANUFACTURER: lambda body: body.manufacturer,
    Fact.MODEL: lambda body: body.model,
    Fact.FIRMWARE: lambda body: body.firmware,
    Fact.VIRTUALIZATION: lambda body: body.virtualization,
    Fact.CPU_CORES: lambda body: body.cpu_cores,
    Fact.MEMORY_BYTES: lambda body: body.memory_total_bytes,
}
_SYSTEM: Final[Mapping[Fact, Callable[[OperatingSystem], Value]]] = {
    Fact.OS_NAME: lambda body: body.name,
    Fact.OS_VERSION: lambda body: body.version,
    Fact.OS_KERNEL: lambda body: body.kernel,
    Fact.OS_ARCH: lambda body: body.arch,
    Fact.OS_TIMEZONE: lambda body: body.timezone,
}
_OF_SERVICES: Final = (Fact.SERVICE_STATE, Fact.SERVICE_STARTS)
_FIELDS: Final[Mapping[Fact, Callable[[Any], Value]]] = {**_HARDWARE, **_SYSTEM}
_SECTIONS: Final[Mapping[Fact, Section]] = {
    **dict.fromkeys(_HARDWARE, Section.HARDWARE),
    **dict.fromkeys(_SYSTEM, Section.OS),
    Fact.PACKAGE: Section.PACKAGES,
    Fact.SERVICE_STATE: Section.SERVICES,
    Fact.SERVICE_STARTS: Section.SERVICES,
}
