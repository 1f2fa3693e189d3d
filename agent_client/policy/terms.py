"""What a policy file may say, and its reading."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct, field

from agent_client.policy.windows import BadWindow, Window, window_of
from protocol.actions import Interpreter, UserName
from protocol.codec import split_path
from protocol.enumerations import Action

ENTRIES_MAX: Final = 1024
DEFAULT_INTERPRETER: Final = "sh"

AbsolutePath = Annotated[str, Meta(pattern=r"^(/|[A-Za-z]:\\)", max_length=4096)]
ScriptEntry = Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{64}( +[A-Za-z0-9][A-Za-z0-9+._-]{0,63})?$")]
KeyId = Annotated[str, Meta(pattern=r"^[a-z2-7]{16}$")]
VariableName = Annotated[str, Meta(pattern=r"^[^=\x00]+$", max_length=256)]


class BadPolicy(ValueError):
    """Text that is no policy. The message names the key at fault."""


class Jobs(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[jobs]`. A list that is not there restricts nothing; an empty one allows nothing.

    `programs`: what `exec` may run, by the path that argv[0] names or is found at. `script_sha256`: the scripts that
    may run, each with `sh` or with the interpreter behind its hash. Where one of the two is given and `actions` is not,
    nothing else than they name may be done. `environment`: the variables that orders may set, none by default where
    `programs` or `script_sha256` is given. `run_as`: the users whom jobs may run as; the executor's own user too must
    be named. `signatures`: whose are needed. `operator_keys`: the people whose signature counts here, by key id.
    """

    actions: Annotated[list[Action], Meta(max_length=ENTRIES_MAX)] | None = None
    programs: Annotated[list[AbsolutePath], Meta(max_length=ENTRIES_MAX)] | None = None
    script_sha256: Annotated[list[ScriptEntry], Meta(max_length=ENTRIES_MAX)] | None = None
    environment: Annotated[list[VariableName], Meta(max_length=ENTRIES_MAX)] | None = None
    run_as: Annotated[list[UserName], Meta(max_length=ENTRIES_MAX)] | None = None
    windows: Annotated[list[str], Meta(max_length=ENTRIES_MAX)] | None = None
    per_hour: Annotated[int, Meta(ge=0)] | None = None
    signatures: Literal["hub", "hub+operator"] = "hub"
    operator_keys: Annotated[list[KeyId], Meta(max_length=ENTRIES_MAX)] | None = None


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    jobs: Jobs


class Policy(Struct, frozen=True, kw_only=True):
    """A policy in force, as its decisions need it. `scripts`: hash and interpreter. None: not restricted."""

    said: Jobs
    path: str = ""
    actions: frozenset[Action] | None = None
    scripts: frozenset[tuple[str, str]] | None = None
    environment: frozenset[str] | None = None
    windows: list[Window] = field(default_factory=list)

    @property
    def needs_operator(self) -> bool:
        return self.said.signatures == "hub+operator"

    def counts_operator(self, key_id: str) -> bool:
        """Tell whether a signature by this person's key counts here."""
        return self.said.operator_keys is None or key_id in self.said.operator_keys


def policy_of(content: dict[str, Any], path: str = "") -> Policy:
    """Return the policy that a file's parsed content says. Raises BadPolicy."""
    try:
        jobs = msgspec.convert(content, _File).jobs
        windows = [window_of(text) for text in jobs.windows or ()]
    except msgspec.ValidationError as error:
        message, key = split_path(str(error))
        raise BadPolicy(f"`{key.removeprefix('$').removeprefix('.') or 'jobs'}`: {message}") from error
    except BadWindow as error:
        raise BadPolicy(f"`jobs.windows`: {error}") from error
    if jobs.operator_keys is not None and jobs.signatures == "hub":
        raise BadPolicy('`jobs.operator_keys`: they count only with signatures = "hub+operator"')
    return Policy(
        said=jobs,
        path=path,
        actions=_actions(jobs),
        scripts=None if jobs.script_sha256 is None else frozenset(_script(entry) for entry in jobs.script_sha256),
        environment=_environment(jobs),
        windows=windows,
    )


def _actions(jobs: Jobs) -> frozenset[Action] | None:
    if jobs.actions is not None:
        return frozenset(jobs.actions)
    listed = {Action.EXEC: jobs.programs, Action.SCRIPT: jobs.script_sha256}
    allowed = frozenset(action for action, entries in listed.items() if entries is not None)
    return allowed or None


def _environment(jobs: Jobs) -> frozenset[str] | None:
    """A variable such as PATH or LD_PRELOAD makes another program of the one that is allowed."""
    if jobs.environment is not None:
        return frozenset(jobs.environment)
    return None if jobs.programs is None and jobs.script_sha256 is None else frozenset()


def _script(entry: str) -> tuple[str, Interpreter]:
    script_hash, _, interpreter = entry.partition(" ")
    return script_hash.lower(), interpreter.strip() or DEFAULT_INTERPRETER
