import pytest

from agent_client.backoff import AttemptFailed, PersonNeeded, SessionLost, TimeGiven
from agent_client.transport.endings import (
    CertificateRefused,
    Closed,
    Drained,
    Ending,
    FilesUnusable,
    HttpRefused,
    HubNotTrusted,
    Outdated,
    RecoveryForbidden,
    Refused,
    Unanswered,
    Unreachable,
    summary_of,
    turns_down_certificate,
    verdict_on,
)
from protocol.codes import CloseCode
from protocol.enumerations import RefusalAction
from protocol.frames import Refuse


def refused(action: RefusalAction, retry_after_sec: int | None = None) -> Refused:
    return Refused(Refuse(code=4403, message="no", action=action, retry_after_sec=retry_after_sec))


@pytest.mark.parametrize(
    "ending",
    [
        HubNotTrusted("self-signed"),
        CertificateRefused("expired"),
        HttpRefused(403),
        HttpRefused(404),
        refused(RefusalAction.FIX_CONFIG),
        refused(RefusalAction.RE_ENROLL),
        refused(RefusalAction.NEVER),
        Closed(CloseCode.IDENTITY_UNKNOWN, ""),
        Closed(CloseCode.REVOKED, ""),
        Closed(CloseCode.VERSION, ""),
        RecoveryForbidden("no"),
    ],
)
def test_what_only_a_person_can_mend_goes_to_the_slow_lane_with_advice(ending: Ending) -> None:
    verdict = verdict_on(ending, had_welcome=True, was_stable=True)
    assert verdict.cause == PersonNeeded()
    assert verdict.advice


@pytest.mark.parametrize(
    "ending",
    [Unreachable("refused"), HttpRefused(500), HttpRefused(429), refused(RefusalAction.RETRY), Closed(4429, "busy")],
)
def test_what_may_pass_is_tried_again_with_backoff(ending: Ending) -> None:
    assert verdict_on(ending, had_welcome=False, was_stable=False).cause == AttemptFailed()


def test_a_session_that_ended_for_its_certificate_is_followed_by_a_try_soon_where_there_is_a_remedy() -> None:
    ending = Outdated(CloseCode.IDENTITY_UNKNOWN, "it has expired", "it asks for a new one")
    verdict = verdict_on(ending, had_welcome=True, was_stable=True)
    assert (verdict.cause, verdict.advice) == (SessionLost(was_stable=True), "it asks for a new one")
    assert summary_of(ending) == (4401, "it has expired")


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1011, CloseCode.HUB_FAULT, CloseCode.DRAINING])
def test_a_lost_session_is_told_from_one_that_never_was(code: int) -> None:
    assert verdict_on(Closed(code, ""), had_welcome=True, was_stable=True).cause == SessionLost(was_stable=True)
    assert verdict_on(Closed(code, ""), had_welcome=False, was_stable=False).cause == AttemptFailed()


@pytest.mark.parametrize("code", [CloseCode.BAD_FRAME, CloseCode.SUPERSEDED, CloseCode.SLOW_CONSUMER, 4999])
def test_a_session_the_hub_closed_for_cause_is_no_reason_to_hurry_back(code: int) -> None:
    assert verdict_on(Closed(code, ""), had_welcome=True, was_stable=True).cause == AttemptFailed()


def test_the_hub_may_name_the_time() -> None:
    assert verdict_on(Drained(12), had_welcome=True, was_stable=True).cause == TimeGiven(12)
    assert verdict_on(HttpRefused(503, 7.0), had_welcome=False, was_stable=False).cause == TimeGiven(7.0)
    ending = refused(RefusalAction.RETRY_AFTER, 40)
    assert verdict_on(ending, had_welcome=False, was_stable=False).cause == TimeGiven(40)


def test_an_ending_is_told_with_the_hubs_own_code_and_words() -> None:
    assert summary_of(Closed(4409, "superseded")) == (4409, "superseded")
    assert summary_of(refused(RefusalAction.NEVER)) == (4403, "refused (never): no")


def test_quarantine_and_revocation_are_told_apart_and_from_other_refusals() -> None:
    in_quarantine = verdict_on(refused(RefusalAction.RETRY_AFTER, 900), had_welcome=False, was_stable=False)
    assert in_quarantine.cause == TimeGiven(900)
    assert "the hub refused this agent: no. Once released it works again by itself" in in_quarantine.advice
    revoked = verdict_on(refused(RefusalAction.NEVER), had_welcome=False, was_stable=False)
    assert revoked.cause == PersonNeeded()
    assert "the hub refused this agent: no. If the machine is to come back" in revoked.advice_with("")
    assert "enroll --force" in revoked.advice_with("")
    busy = Refused(Refuse(code=4429, message="busy", action=RefusalAction.RETRY_AFTER, retry_after_sec=5))
    assert verdict_on(busy, had_welcome=False, was_stable=False).advice == ""


@pytest.mark.parametrize(
    ("ending", "is_worth_another"),
    [
        (CertificateRefused("expired"), True),
        (Unanswered(), True),
        (FilesUnusable("no fit"), True),
        (refused(RefusalAction.RE_ENROLL), True),
        (Closed(CloseCode.IDENTITY_UNKNOWN, ""), True),
        (HttpRefused(401), True),
        (HttpRefused(404), False),
        (refused(RefusalAction.NEVER), False),
        (Unreachable("refused"), False),
        (HubNotTrusted("self-signed"), False),
        (Closed(CloseCode.REVOKED, ""), False),
    ],
)
def test_the_older_certificate_is_tried_only_where_the_hub_may_take_it(ending: Ending, is_worth_another: bool) -> None:
    assert turns_down_certificate(ending) is is_worth_another


def test_an_agent_that_is_to_enroll_anew_is_told_the_command_for_its_own_folder() -> None:
    unknown = verdict_on(Closed(CloseCode.IDENTITY_UNKNOWN, ""), had_welcome=False, was_stable=False)
    assert unknown.advice_with(" --data-dir /a").endswith("jtnt-agent enroll --force JOIN-STRING --data-dir /a")
    revoked = verdict_on(Closed(CloseCode.REVOKED, ""), had_welcome=False, was_stable=False)
    assert "enroll --force" not in revoked.advice_with(" --data-dir /a")
