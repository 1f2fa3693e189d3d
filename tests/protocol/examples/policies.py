from collections.abc import Mapping
from typing import Final

from protocol.enumerations import Action, AlertSeverity
from protocol.policies import (
    Capability,
    Check,
    CheckOperator,
    CheckState,
    CommandRules,
    ComplianceList,
    ComplianceListReply,
    ComplianceResult,
    ComplianceSummary,
    ComplianceSummaryReply,
    ComplianceTotals,
    Fact,
    ListedScript,
    PoliciesCreate,
    PoliciesDelete,
    PoliciesGet,
    PoliciesList,
    PoliciesListReply,
    PoliciesUpdate,
    PolicyCompliance,
    PolicyReply,
    PolicyTerms,
    PolicyView,
)
from protocol.requests import Reply, Request
from tests.protocol.examples.events import AGENT_ID, AT

POLICY_ID: Final = "0f5b1f3e-6a57-4d0b-9d5c-2b6f0a4b8c11"
_DIGEST: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_TOTALS: Final = ComplianceTotals(passed=38, failed=2, unknown=1)
TERMS: Final = PolicyTerms(
    name="Web servers",
    enabled=False,
    tags=["web"],
    commands=CommandRules(
        allowed_actions=[Action.EXEC, Action.SCRIPT],
        denied_actions=[Action.KILL],
        allowed_programs=["uptime", "/usr/bin/df"],
        denied_programs=["rm"],
        allowed_scripts=[ListedScript(sha256=_DIGEST, interpreter="bash", note="rotate logs")],
        denied_scripts=[_DIGEST],
        allowed_environment=["LANG"],
        allowed_run_as=["deploy"],
        reason_required=True,
        second_signature_required=True,
    ),
    turned_off=[Capability.REBOOT],
    checks=[
        Check(
            name="OpenSSL is patched",
            fact=Fact.PACKAGE,
            operator=CheckOperator.VERSION_AT_LEAST,
            value="3.0.13-1~deb12u1",
            subject="openssl",
            severity=AlertSeverity.ERROR,
        ),
        Check(name="Firewall", fact=Fact.FIREWALL_ENABLED, operator=CheckOperator.EQUALS, value=True),
        Check(name="System", fact=Fact.OS_NAME, operator=CheckOperator.ONE_OF, value=["Debian GNU/Linux", "Ubuntu"]),
        Check(name="Updates", fact=Fact.UPDATES_AGE_DAYS, operator=CheckOperator.AT_MOST, value=30),
    ],
)
VIEW: Final = PolicyView(
    id=POLICY_ID,
    version=4,
    terms=TERMS,
    machines=41,
    created_at=AT,
    created_by="user:ada",
    changed_at=AT,
    changed_by="user:grace",
)
_REPLY: Final = PolicyReply(policy=VIEW)
REQUESTS: Final[Mapping[str, Request]] = {
    "policies:list": PoliciesList(),
    "policies:get": PoliciesGet(policy_id=POLICY_ID),
    "policies:create": PoliciesCreate(terms=TERMS),
    "policies:update": PoliciesUpdate(policy_id=POLICY_ID, terms=TERMS, version=3),
    "policies:delete": PoliciesDelete(policy_id=POLICY_ID),
    "compliance:list": ComplianceList(
        policy_id=POLICY_ID, agent_id=AGENT_ID, state=CheckState.FAILED, limit=20, offset=40
    ),
    "compliance:summary": ComplianceSummary(),
}
REPLIES: Final[Mapping[str, Reply]] = {
    "policies:list": PoliciesListReply(policies=[VIEW]),
    "policies:get": _REPLY,
    "policies:create": _REPLY,
    "policies:update": _REPLY,
    "policies:delete": Reply(),
    "compliance:list": ComplianceListReply(
        results=[
            ComplianceResult(
                agent_id=AGENT_ID,
                hostname="web-01",
                policy_id=POLICY_ID,
                policy="Web servers",
                check="OpenSSL is patched",
                expected="package openssl is version ≥ 3.0.13-1~deb12u1",
                severity=AlertSeverity.ERROR,
                state=CheckState.FAILED,
                found="3.0.11-1~deb12u2",
                since=AT,
            )
        ],
        totals=_TOTALS,
        total=2,
        limit=20,
        offset=40,
    ),
    "compliance:summary": ComplianceSummaryReply(
        machines=_TOTALS,
        policies=[
            PolicyCompliance(policy_id=POLICY_ID, policy="Web servers", machines=_TOTALS, results=_TOTALS),
        ],
    ),
}
