"""What a job may do: the actions, what each of them takes, and how that becomes a signed order.

Every action but `script` ends in one program started by argv; no text of a person reaches a shell. Both sides use this:
the hub before it signs, the agent before it runs.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, Union

import msgspec
from msgspec import Meta, Struct, field

from protocol.codec import BadFrame, check_value, split_path
from protocol.elements import Body
from protocol.enumerations import Action
from protocol.envelope import Argument
from protocol.limits import ARGV_MAX_ITEMS, PACKAGES_AT_ONCE_MAX, REBOOT_DELAY_MAX_SECONDS, SCRIPT_MAX_BYTES

UserName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@\\-]*\$?$")]
Interpreter = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
UnitName = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9_][A-Za-z0-9:_.@\\-]*$")]
PackageName = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9][A-Za-z0-9+._:~@/-]*$")]
"""None of them can begin with a dash: no name is taken for an option."""


class BadOrder(ValueError):
    """What was asked cannot become an order. `path`: the field at fault, from `$`, the command data."""

    def __init__(self, message: str, path: str = "$") -> None:
        super().__init__(message)
        self.path = path


class Data(Body, frozen=True, forbid_unknown_fields=True):
    """Base of `commandData`, as people and scripts send it."""


class ProcessData(Data, frozen=True):
    """`run_as`: a user of the machine; None is whoever the agent's executor runs as."""

    environment: dict[str, Argument] = field(default_factory=dict)
    working_directory: str | None = None
    run_as: UserName | None = None


class ExecData(ProcessData, frozen=True, kw_only=True):
    argv: Annotated[list[Argument], Meta(min_length=1, max_length=ARGV_MAX_ITEMS)]


class ScriptData(ProcessData, frozen=True, kw_only=True):
    """`script`: its text, at most SCRIPT_MAX_BYTES as UTF-8. `interpreter`: a program found by the agent's own PATH."""

    script: Annotated[str, Meta(min_length=1, max_length=SCRIPT_MAX_BYTES)]
    interpreter: Interpreter = "sh"
    arguments: Annotated[list[Argument], Meta(max_length=ARGV_MAX_ITEMS)] = field(default_factory=list)


class ServiceData(Data, frozen=True):
    verb: Literal["start", "stop", "restart", "reload", "status", "enable", "disable"]
    name: UnitName


class KillData(Data, frozen=True):
    """Never process 1, nor a group."""

    pid: Annotated[int, Meta(ge=2, le=2**31 - 1)]
    signal: Literal["TERM", "KILL", "HUP", "INT", "USR1", "USR2"] = "TERM"


class PackagesData(Data, frozen=True):
    """`refresh` and `upgrade` without names concern all."""

    verb: Literal["install", "remove", "upgrade", "refresh"]
    names: Annotated[list[PackageName], Meta(max_length=PACKAGES_AT_ONCE_MAX)] = field(default_factory=list)


class RebootData(Data, frozen=True):
    delay_sec: Annotated[int, Meta(ge=0, le=REBOOT_DELAY_MAX_SECONDS)] = 5


class AgentRestartData(Data, frozen=True):
    """The agent ends in order and is started again by its service manager."""


AnyData = Union[ExecData, ScriptData, ServiceData, KillData, PackagesData, RebootData, AgentRestartData]  # noqa: UP007
DATA: Final[Mapping[Action, type[AnyData]]] = {
    Action.EXEC: ExecData,
    Action.SCRIPT: ScriptData,
    Action.SERVICE: ServiceData,
    Action.KILL: KillData,
    Action.PACKAGES: PackagesData,
    Action.REBOOT: RebootData,
    Action.AGENT_RESTART: AgentRestartData,
}


class Order(Struct, frozen=True, kw_only=True):
    """The part of an envelope that says what to do. `argv` of an action but exec and script: its own arguments."""

    action: Action
    argv: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    working_directory: str | None = None
    run_as: str | None = None
    interpreter: str | None = None
    script_sha256: str | None = None


def data_of(action: Action, command_data: Mapping[str, Any]) -> AnyData:
    """Return what `command_data` asks of an action. Raises BadOrder."""
    try:
        check_value(command_data)
        data = msgspec.convert(command_data, DATA[action])
    except BadFrame as error:
        raise BadOrder(str(error)) from error
    except msgspec.ValidationError as error:
        raise BadOrder(*split_path(str(error))) from error
    if isinstance(data, ProcessData):
        _check_process(data)
    if isinstance(data, ExecData) and not data.argv[0]:
        raise BadOrder("the program to run is missing", "$.argv[0]")
    if isinstance(data, ScriptData) and len(script_bytes(data)) > SCRIPT_MAX_BYTES:
        raise BadOrder(f"the script is larger than {SCRIPT_MAX_BYTES} bytes", "$.script")
    if isinstance(data, PackagesData) and data.verb in {"install", "remove"} and not data.names:
        raise BadOrder(f"say which packages to {data.verb}", "$.names")
    return data


def order_of(data: AnyData) -> Order:
    """Return the order for checked data."""
    match data:
        case ExecData():
            return Order(
                action=Action.EXEC,
                argv=data.argv,
                environment=data.environment,
                working_directory=data.working_directory,
                run_as=data.run_as,
            )
        case ScriptData():
            return Order(
                action=Action.SCRIPT,
                argv=data.arguments,
                environment=data.environment,
                working_directory=data.working_directory,
                run_as=data.run_as,
                interpreter=data.interpreter,
                script_sha256=script_hash(script_bytes(data)),
            )
        case ServiceData():
            return Order(action=Action.SERVICE, argv=[data.verb, data.name])
        case KillData():
            return Order(action=Action.KILL, argv=[str(data.pid), data.signal])
        case PackagesData():
            return Order(action=Action.PACKAGES, argv=[data.verb, *data.names])
        case RebootData():
            return Order(action=Action.REBOOT, argv=[str(data.delay_sec)])
        case AgentRestartData():
            return Order(action=Action.AGENT_RESTART, argv=[])


def data_of_order(action: Action, argv: list[str]) -> AnyData:
    """Return what a signed order without a process of its own asks, checked as if a person had sent it.

    For all but exec and script; the agent trusts no signer to have checked it. Raises BadOrder.
    """
    read = _READERS.get(action)
    if read is None:
        raise BadOrder(f"{action} is not of this kind")
    try:
        return data_of(action, read(argv))
    except (IndexError, ValueError) as error:
        raise BadOrder(f"the arguments of {action} cannot be read: {error}") from error


def script_bytes(data: ScriptData) -> bytes:
    """Return the script as it is hashed, sent and run. Raises BadOrder when it is no Unicode."""
    try:
        return data.script.encode()
    except UnicodeEncodeError as error:
        raise BadOrder("the script holds text that is no Unicode", "$.script") from error


def script_hash(script: bytes) -> str:
    """Return the SHA-256 in lower-case hex."""
    return hashlib.sha256(script).hexdigest()


def script_body(script: bytes) -> str:
    """Return a script as `command.script` carries it."""
    return base64.b64encode(script).decode()


_ENVIRONMENT_NAME: Final = re.compile(r"[^=\0]+")


def _check_process(data: ProcessData) -> None:
    for name in data.environment:
        if not _ENVIRONMENT_NAME.fullmatch(name):
            raise BadOrder(f"{name!r} cannot name a variable", "$.environment")


_READERS: Final[Mapping[Action, Callable[[list[str]], dict[str, Any]]]] = {
    Action.SERVICE: lambda argv: {"verb": argv[0], "name": argv[1]},
    Action.KILL: lambda argv: {"pid": int(argv[0]), "signal": argv[1]},
    Action.PACKAGES: lambda argv: {"verb": argv[0], "names": argv[1:]},
    Action.REBOOT: lambda argv: {"delaySec": int(argv[0])},
    Action.AGENT_RESTART: lambda _argv: {},
}
