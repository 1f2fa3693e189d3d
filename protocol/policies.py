"""Operations on policies: what jobs may do on which machines, and what these machines are expected to be like."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, field

from protocol.actions import Interpreter, UserName
from protocol.elements import Word
from protocol.enumerations import Action, AlertSeverity
from protocol.events import Instant, Shape
from protocol.requests import Label, Limit, Name, Offset, Reply, Request, Tags

CHECKS_MAX: Final = 64
POLICIES_MAX: Final = 200
"""Of one organisation."""

Program = Annotated[str, Meta(min_length=1, max_length=256)]
ScriptHash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
VariableName = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^=\x00]+$")]
CheckText = Annotated[str, Meta(max_length=256)]
CheckValue = bool | int | float | CheckText | Annotated[list[CheckText], Meta(max_length=64)] | None


class Capability(StrEnum):
    """What a machine may be asked to do at all. `jobs` is every action, each other one of them in particular."""

    JOBS = "jobs"
    SCRIPTS = "scripts"
    SERVICES = "services"
    PROCESSES = "processes"
    PACKAGES = "packages"
    REBOOT = "reboot"


NEEDS: Final[Mapping[Action, tuple[Capability, ...]]] = {
    Action.EXEC: (Capability.JOBS,),
    Action.SCRIPT: (Capability.JOBS, Capability.SCRIPTS),
    Action.SERVICE: (Capability.JOBS, Capability.SERVICES),
    Action.KILL: (Capability.JOBS, Capability.PROCESSES),
    Action.PACKAGES: (Capability.JOBS, Capability.PACKAGES),
    Action.REBOOT: (Capability.JOBS, Capability.REBOOT),
    Action.AGENT_RESTART: (Capability.JOBS,),
}


class ListedScript(Request, frozen=True):
    """A script that may run, and with what. `note` tells people which one it is."""

    sha256: ScriptHash
    interpreter: Interpreter = "sh"
    note: Label = ""


class CommandRules(Request, frozen=True):
    """What jobs may do. None is no list; an empty list allows nothing.

    A policy that lists programs or scripts allows nothing else of either, and no environment variable but those of
    `allowed_environment`: a variable can make a listed program run another one. Listed programs are compared with
    argv[0] as it is, denied ones by file name and in any case. `allowed_run_as`: the users as whom programs and
    scripts may run; a job has to name one then.
    """

    allowed_actions: list[Action] | None = None
    denied_actions: list[Action] = field(default_factory=list)
    allowed_programs: Annotated[list[Program], Meta(max_length=256)] | None = None
    denied_programs: Annotated[list[Program], Meta(max_length=256)] = field(default_factory=list)
    allowed_scripts: Annotated[list[ListedScript], Meta(max_length=256)] | None = None
    denied_scripts: Annotated[list[ScriptHash], Meta(max_length=256)] = field(default_factory=list)
    allowed_environment: Annotated[list[VariableName], Meta(max_length=64)] = field(default_factory=list)
    allowed_run_as: Annotated[list[UserName], Meta(max_length=64)] | None = None
    reason_required: bool = False
    second_signature_required: bool = False


class Fact(StrEnum):
    """What the hub knows of a machine. `package` and `service.…` are of one by name, `…_days` are whole days."""

    AGENT_VERSION = "agent.version"
    OS_NAME = "os.name"
    OS_VERSION = "os.version"
    OS_KERNEL = "os.kernel"
    OS_ARCH = "os.arch"
    OS_TIMEZONE = "os.timezone"
    MANUFACTURER = "hardware.manufacturer"
    MODEL = "hardware.model"
    FIRMWARE = "hardware.firmware"
    VIRTUALIZATION = "hardware.virtualization"
    CPU_CORES = "hardware.cpu_cores"
    MEMORY_BYTES = "hardware.memory_total_bytes"
    PACKAGE = "package"
    SERVICE_STATE = "service.state"
    SERVICE_STARTS = "service.starts"
    FIREWALL_ENABLED = "security.firewall_enabled"
    ANTIVIRUS_ENABLED = "security.antivirus_enabled"
    AUTOMATIC_UPDATES_ENABLED = "security.automatic_updates_enabled"
    REBOOT_REQUIRED = "security.reboot_required"
    UPDATES_AVAILABLE = "security.updates_available"
    SECURITY_UPDATES = "security.security_updates"
    UPDATES_AGE_DAYS = "security.updates_age_days"
    """How long ago the machine last heard which updates there are."""
    FACTS_AGE_DAYS = "security.facts_age_days"
    """How long ago the machine last told these facts."""


class FactKind(StrEnum):
    TEXT = "text"
    VERSION = "version"
    NUMBER = "number"
    FLAG = "flag"


class CheckOperator(StrEnum):
    """How a found value is compared. Texts are compared in any case; `version_at_least` knows epochs and `~`."""

    EQUALS = "equals"
    NOT_EQUALS = "not_equals"
    AT_LEAST = "at_least"
    AT_MOST = "at_most"
    CONTAINS = "contains"
    ONE_OF = "one_of"
    VERSION_AT_LEAST = "version_at_least"
    PRESENT = "present"
    ABSENT = "absent"


_TEXT: Final = (CheckOperator.EQUALS, CheckOperator.NOT_EQUALS, CheckOperator.CONTAINS, CheckOperator.ONE_OF)
OPERATORS: Final[Mapping[FactKind, tuple[CheckOperator, ...]]] = {
    FactKind.TEXT: _TEXT,
    FactKind.VERSION: (*_TEXT, CheckOperator.VERSION_AT_LEAST),
    FactKind.NUMBER: (
        CheckOperator.EQUALS,
        CheckOperator.NOT_EQUALS,
        CheckOperator.AT_LEAST,
        CheckOperator.AT_MOST,
    ),
    FactKind.FLAG: (CheckOperator.EQUALS,),
}
NAMED: Final = frozenset({Fact.PACKAGE, Fact.SERVICE_STATE, Fact.SERVICE_STARTS})
"""Facts of one thing among many, which may also be `present` or `absent`."""
KINDS: Final[Mapping[Fact, FactKind]] = {
    Fact.AGENT_VERSION: FactKind.VERSION,
    Fact.OS_NAME: FactKind.TEXT,
    Fact.OS_VERSION: FactKind.VERSION,
    Fact.OS_KERNEL: FactKind.VERSION,
    Fact.OS_ARCH: FactKind.TEXT,
    Fact.OS_TIMEZONE: FactKind.TEXT,
    Fact.MANUFACTURER: FactKind.TEXT,
    Fact.MODEL: FactKind.TEXT,
    Fact.FIRMWARE: FactKind.TEXT,
    Fact.VIRTUALIZATION: FactKind.TEXT,
    Fact.CPU_CORES: FactKind.NUMBER,
    Fact.MEMORY_BYTES: FactKind.NUMBER,
    Fact.PACKAGE: FactKind.VERSION,
    Fact.SERVICE_STATE: FactKind.TEXT,
    Fact.SERVICE_STARTS: FactKind.TEXT,
    Fact.FIREWALL_ENABLED: FactKind.FLAG,
    Fact.ANTIVIRUS_ENABLED: FactKind.FLAG,
    Fact.AUTOMATIC_UPDATES_ENABLED: FactKind.FLAG,
    Fact.REBOOT_REQUIRED: FactKind.FLAG,
    Fact.UPDATES_AVAILABLE: FactKind.NUMBER,
    Fact.SECURITY_UPDATES: FactKind.NUMBER,
    Fact.UPDATES_AGE_DAYS: FactKind.NUMBER,
    Fact.FACTS_AGE_DAYS: FactKind.NUMBER,
}


class CheckState(StrEnum):
    """`unknown`: the machine has not told the fact."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Check(Request, frozen=True):
    """What a machine is expected to be. `name` is unique in its policy; `subject` names the package or service.

    `value` is a list for `one_of`, nothing for `present` and `absent`, and of the fact's kind for the others. Where
    there are several of one name, as of a package in two versions, each must fit.
    """

    name: Name
    fact: Fact
    operator: CheckOperator
    value: CheckValue = None
    subject: Label = ""
    severity: AlertSeverity = AlertSeverity.WARNING


class PolicyTerms(Request, frozen=True):
    """`tags`: of machines with any of them; without tags of the whole organisation.

    Where several policies apply, every one must allow a job. `turned_off`: what these machines may not do at all.
    """

    name: Name
    enabled: bool = True
    tags: Tags = field(default_factory=list)
    commands: CommandRules = CommandRules()
    turned_off: list[Capability] = field(default_factory=list)
    checks: Annotated[list[Check], Meta(max_length=CHECKS_MAX)] = field(default_factory=list)


class PoliciesList(Request, frozen=True):
    pass


class PoliciesGet(Request, frozen=True):
    policy_id: Word


class PoliciesCreate(Request, frozen=True):
    terms: PolicyTerms


class PoliciesUpdate(Request, frozen=True):
    """Replace the whole terms. `version`: the one that was read, so that nobody's change is lost; None for any."""

    policy_id: Word
    terms: PolicyTerms
    version: Annotated[int, Meta(ge=1)] | None = None


class PoliciesDelete(Request, frozen=True):
    policy_id: Word


class PolicyView(Shape, frozen=True):
    """`machines`: how many it is for now."""

    id: str
    version: int
    terms: PolicyTerms
    machines: int
    created_at: Instant
    created_by: str
    changed_at: Instant
    changed_by: str


class PolicyReply(Reply, frozen=True):
    policy: PolicyView


class PoliciesListReply(Reply, frozen=True):
    """All of the organisation, by name."""

    policies: list[PolicyView]


class ComplianceList(Request, frozen=True):
    """What was found, what failed first."""

    policy_id: Word | None = None
    agent_id: Word | None = None
    state: CheckState | None = None
    limit: Limit = 100
    offset: Offset = 0


class ComplianceResult(Shape, frozen=True):
    """`found`: the value that decided, as text; null where the fact is not known. `since`: in this state."""

    agent_id: str
    hostname: str
    policy_id: str
    policy: str
    check: str
    expected: str
    severity: AlertSeverity
    state: CheckState
    found: str | None
    since: Instant


class ComplianceTotals(Shape, frozen=True):
    passed: int = 0
    failed: int = 0
    unknown: int = 0


class ComplianceListReply(Reply, frozen=True):
    """`totals` count what `policyId` and `agentId` leave, in every state."""

    results: list[ComplianceResult]
    totals: ComplianceTotals
    total: int
    limit: int
    offset: int


class ComplianceSummary(Request, frozen=True):
    pass


class PolicyCompliance(Shape, frozen=True):
    """`machines`: by their worst result of this policy."""

    policy_id: str
    policy: str
    machines: ComplianceTotals
    results: ComplianceTotals


class ComplianceSummaryReply(Reply, frozen=True):
    """`machines`: by their worst result; those without a check are in none."""

    machines: ComplianceTotals
    policies: list[PolicyCompliance]
