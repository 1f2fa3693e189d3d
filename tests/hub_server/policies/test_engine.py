"""Which jobs policies allow, and what they say of those they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from hub_server.policies.engine import RULES, decide
from hub_server.policies.model import Allowed, Refused
from protocol.actions import Order, script_hash
from protocol.enumerations import Action
from protocol.policies import NEEDS, Capability, CommandRules, ListedScript
from tests.hub_server.policies.builders import order, policy, program, proposal

SCRIPT = "echo hello\n"
SHA = script_hash(SCRIPT.encode())
LISTED = ListedScript(sha256=SHA, interpreter="bash")


def script(interpreter: str = "bash", **data: Any) -> Order:
    return order(Action.SCRIPT, script=SCRIPT, interpreter=interpreter, **data)


def rule_of(asked: Order, rules: dict[str, Any], **terms: Any) -> str | None:
    decision = decide(proposal(asked), [], [policy(rules=rules, **terms)])
    return decision.rule if isinstance(decision, Refused) else None


def test_without_policies_everything_is_allowed() -> None:
    assert decide(proposal(program("rm", "-rf", "/")), ["web"], []) == Allowed()


@pytest.mark.parametrize(
    ("asked", "rules", "rule"),
    [
        (program("uptime"), {"allowed_actions": [Action.EXEC]}, None),
        (order(Action.REBOOT), {"allowed_actions": [Action.EXEC]}, "allowedActions"),
        (order(Action.REBOOT), {"allowed_actions": []}, "allowedActions"),
        (order(Action.KILL, pid=7), {"denied_actions": [Action.KILL]}, "deniedActions"),
        (program("uptime"), {"allowed_programs": ["uptime"]}, None),
        (program("/tmp/uptime"), {"allowed_programs": ["uptime"]}, "allowedPrograms"),
        (program("uptime"), {"allowed_programs": []}, "allowedPrograms"),
        (program("uptime"), {"allowed_scripts": [LISTED]}, "allowedPrograms"),
        (program("UPTIME"), {"allowed_programs": ["uptime"]}, "allowedPrograms"),
        (order(Action.REBOOT), {"allowed_programs": []}, None),
        (program("rm"), {"denied_programs": ["rm"]}, "deniedPrograms"),
        (program("/bin/rm"), {"denied_programs": ["rm"]}, "deniedPrograms"),
        (program("rm"), {"denied_programs": ["/bin/rm"]}, "deniedPrograms"),
        (program("/bin//../bin/rm"), {"denied_programs": ["/bin/rm"]}, "deniedPrograms"),
        (program("/opt/own/rm"), {"denied_programs": ["/bin/rm"]}, None),
        (program("C:\\Windows\\System32\\FORMAT.EXE"), {"denied_programs": ["format"]}, "deniedPrograms"),
        (program("format.com"), {"denied_programs": ["format"]}, None),
        (script("python3"), {"denied_programs": ["python3"]}, "deniedPrograms"),
        (script(), {"denied_scripts": [SHA]}, "deniedScripts"),
        (script(), {"denied_scripts": [SHA[::-1]]}, None),
        (script(), {"allowed_scripts": [LISTED]}, None),
        (script("rm"), {"allowed_scripts": [LISTED]}, "allowedScripts"),
        (script(), {"allowed_programs": ["bash"]}, "allowedScripts"),
        (script(), {"allowed_scripts": [], "allowed_programs": ["bash"]}, "allowedScripts"),
        (program("uptime", environment={"PATH": "/tmp"}), {"allowed_programs": ["uptime"]}, "allowedEnvironment"),
        (script(environment={"BASH_ENV": "/tmp/x"}), {"allowed_scripts": [LISTED]}, "allowedEnvironment"),
        (
            program("uptime", environment={"LANG": "C"}),
            {"allowed_programs": ["uptime"], "allowed_environment": ["LANG"]},
            None,
        ),
        (program("uptime", environment={"LANG": "C"}), {"denied_programs": ["rm"]}, None),
        (program("id", runAs="deploy"), {"allowed_run_as": ["deploy"]}, None),
        (program("id", runAs="root"), {"allowed_run_as": ["deploy"]}, "allowedRunAs"),
        (program("id"), {"allowed_run_as": ["deploy"]}, "allowedRunAs"),
        (order(Action.REBOOT), {"allowed_run_as": ["deploy"]}, None),
    ],
)
def test_rules_of_commands(asked: Order, rules: dict[str, Any], rule: str | None) -> None:
    assert rule_of(asked, rules) == rule


@pytest.mark.parametrize(
    ("asked", "off"),
    [
        (program("id"), Capability.JOBS),
        (order(Action.AGENT_RESTART), Capability.JOBS),
        (script(), Capability.SCRIPTS),
        (order(Action.SERVICE, verb="stop", name="ssh"), Capability.SERVICES),
        (order(Action.KILL, pid=7), Capability.PROCESSES),
        (order(Action.PACKAGES, verb="refresh"), Capability.PACKAGES),
        (order(Action.REBOOT), Capability.REBOOT),
    ],
)
def test_a_capability_that_is_off_refuses_its_action_and_no_other(asked: Order, off: Capability) -> None:
    assert rule_of(asked, {}, turned_off=[off]) == "turnedOff"
    others = [capability for capability in Capability if capability not in NEEDS[asked.action]]
    assert rule_of(asked, {}, turned_off=others) is None


def test_every_action_needs_a_capability() -> None:
    assert set(NEEDS) == set(Action)


def test_a_policy_holds_for_machines_with_any_of_its_tags_while_it_is_enabled() -> None:
    locked: dict[str, Any] = {"allowed_actions": []}
    for tags, policies, is_refused in (
        (["web", "prod"], [policy(tags=["db", "web"], rules=locked)], True),
        (["mail"], [policy(tags=["db", "web"], rules=locked)], False),
        ([], [policy(tags=["web"], rules=locked)], False),
        ([], [policy(rules=locked)], True),
        ([], [policy(rules=locked, enabled=False)], False),
    ):
        assert isinstance(decide(proposal(program("id")), tags, policies), Refused) is is_refused


def test_lists_of_several_policies_intersect_and_denials_win() -> None:
    wide = policy("wide", rules={"allowed_programs": ["uptime", "df", "rm"]})
    narrow = policy("narrow", rules={"allowed_programs": ["df", "rm", "ls"]})
    denying = policy("none of that", rules={"denied_programs": ["rm"]})

    def decided(name: str) -> str:
        decision = decide(proposal(program(name)), [], [wide, narrow, denying])
        return f"{decision.policy}: {decision.rule}" if isinstance(decision, Refused) else "allowed"

    assert [decided(name) for name in ("df", "uptime", "ls", "rm")] == [
        "allowed",
        "narrow: allowedPrograms",
        "wide: allowedPrograms",
        "none of that: deniedPrograms",
    ]


def test_a_reason_and_a_second_signature_are_demanded() -> None:
    careful = [policy("careful", rules={"reason_required": True, "second_signature_required": True})]

    def rule(**fields: Any) -> str | None:
        decision = decide(proposal(program("id"), **fields), [], careful)
        return decision.rule if isinstance(decision, Refused) else None

    assert rule(reason=" ", is_countersigned=True) == "reasonRequired"
    assert rule(reason="audit 7") == "secondSignatureRequired"
    assert rule(reason="audit 7", is_countersigned=True) is None


def test_a_refusal_names_the_policy_and_the_rule() -> None:
    decision = decide(proposal(program("/bin/rm")), [], [policy("Web servers", rules={"denied_programs": ["rm"]})])
    assert isinstance(decision, Refused)
    assert decision.message == "the policy “Web servers” refuses this (deniedPrograms): rm may not run on this machine"


@pytest.mark.parametrize(
    ("asked", "rules", "path"),
    [
        (program("rm"), {"denied_programs": ["rm"]}, "$.commandData.argv[0]"),
        (script("python3"), {"denied_programs": ["python3"]}, "$.commandData.interpreter"),
        (script(), {"denied_scripts": [SHA]}, "$.commandData.script"),
        (program("id", runAs="root"), {"allowed_run_as": ["deploy"]}, "$.commandData.runAs"),
        (order(Action.REBOOT), {"denied_actions": [Action.REBOOT]}, "$.commandType"),
        (order(Action.REBOOT), {"reason_required": True}, "$.reason"),
        (order(Action.REBOOT), {"second_signature_required": True}, "$.signature"),
    ],
)
def test_a_refusal_names_the_field_to_change(asked: Order, rules: dict[str, Any], path: str) -> None:
    decision = decide(proposal(asked), [], [policy(rules=rules)])
    assert isinstance(decision, Refused)
    assert decision.path == path


def test_every_rule_of_the_protocol_is_applied() -> None:
    assert {name for name, _ in RULES} == {"turnedOff", *CommandRules.__struct_encode_fields__}
