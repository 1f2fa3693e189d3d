"""Who may import whom."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from typing import Final

from tests.architecture.source import CODE, Finding, Module, Tree, is_within

ROOMS: Final = frozenset({"gateway", "bus", "storage", "cli", "composition", "operator", "terminal", "web", "bench"})
"""Packages of the hub that are no subjects."""
SHARED: Final = ("hub_server.access", "hub_server.audit")
"""The two subjects that all others know."""
ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "model": ("{own}.model", "hub_server.errors"),
    "engine": ("{own}.model", "hub_server.errors"),
    "tables": ("{own}.model", "hub_server.storage"),
    "store": ("{own}.model", "{own}.tables", "hub_server.errors", "hub_server.storage"),
    "service": (
        "{own}",
        "hub_server.bus",
        "hub_server.clock",
        "hub_server.errors",
        "hub_server.events",
        "hub_server.instruments",
        "hub_server.pauses",
        "hub_server.rests",
        "hub_server.storage",
        *SHARED,
    ),
    "worker": (
        "{own}",
        "hub_server.bus",
        "hub_server.clock",
        "hub_server.errors",
        "hub_server.events",
        "hub_server.instruments",
        "hub_server.pauses",
    ),
}
"""File name in a subject → what it may import of the hub. Any other file may what a service may."""
NOTHING_ELSE: Final = frozenset({"model", "engine"})
"""Files that use msgspec and the standard library and no other package."""


def packages(tree: Tree) -> Iterator[Finding]:
    """The protocol uses msgspec, the agent what it installs, the hub nothing of the agent, and none the scripts."""
    declared = _agents_packages(tree)
    first_party = {
        "protocol": {"protocol"},
        "agent_client": {"agent_client", "protocol"},
        "hub_server": {"hub_server", "protocol"},
        "scripts": set(CODE),
        "hatch_build": {"hatch_build"},
        "tests": set(CODE),
    }
    third_party = {"protocol": {"msgspec"}, "agent_client": declared}
    for module in tree.modules.values():
        for target, line in module.imports:
            top = target.partition(".")[0]
            if top in CODE:
                if top not in first_party[module.top]:
                    yield module.finding(line, f"{module.top} may not import {top}")
            elif module.top in third_party and top not in sys.stdlib_module_names | third_party[module.top]:
                yield module.finding(line, f"{module.top} may not import the package {top}")


def _agents_packages(tree: Tree) -> set[str]:
    settings = tree.root / "pyproject.toml"
    if not settings.is_file():
        return {"msgspec"}
    dependencies = tomllib.loads(settings.read_text("utf-8"))["project"]["dependencies"]
    return {dependency.partition(">")[0].strip() for dependency in dependencies}


def subject_of(name: str) -> str | None:
    """Return the package of the subject that a module of the hub belongs to, None when to none."""
    parts = name.split(".")
    if parts[0] != "hub_server" or len(parts) < 2 or parts[1] in ROOMS:
        return None
    return ".".join(parts[:2])


def subjects(tree: Tree) -> Mapping[str, list[Module]]:
    """Return the modules of each subject: a package of the hub that is no room."""
    found: dict[str, list[Module]] = {}
    for module in tree.under("hub_server"):
        subject = subject_of(module.name)
        if subject is not None and f"{subject.replace('.', '/')}/" in module.path:
            found.setdefault(subject, []).append(module)
    return found


def subjects_apart(tree: Tree) -> Iterator[Finding]:
    """Subjects meet on the bus, in the gateway's table or by a port: none imports another but access and audit."""
    known = subjects(tree)
    for own, modules in known.items():
        for module in modules:
            for target, line in module.imports:
                other = subject_of(target)
                is_inner = target.rpartition(".")[2] in {"store", "tables", "worker"}
                if other in known and other != own and (other not in SHARED or is_inner):
                    yield module.finding(line, f"{own} may not import {target}")


def roles(tree: Tree) -> Iterator[Finding]:
    """Each file of a subject imports of the hub only what its role may."""
    for own, modules in subjects(tree).items():
        for module in modules:
            role = module.stem if module.stem in ROLES else "service"
            allowed = [pattern.format(own=own) for pattern in ROLES[role]]
            for target, line in module.imports:
                if target == "hub_server" or (is_within(target, ["hub_server"]) and not is_within(target, allowed)):
                    yield module.finding(line, f"a {role} may not import {target}")


def plain_models(tree: Tree) -> Iterator[Finding]:
    """Models and engines use no package but msgspec."""
    allowed = sys.stdlib_module_names | {"msgspec", *CODE}
    for modules in subjects(tree).values():
        for module in modules:
            for target, line in module.imports:
                if module.stem in NOTHING_ELSE and target.partition(".")[0] not in allowed:
                    yield module.finding(line, f"{module.stem}.py may not import the package {target}")


def gateway_asks_services(tree: Tree) -> Iterator[Finding]:
    """The gateway imports services and models, never stores, tables, engines or the database but for its errors."""
    known = subjects(tree)
    for module in tree.under("hub_server.gateway"):
        for target, line in module.imports:
            subject = subject_of(target)
            hidden = subject in known and is_within(
                target, [f"{subject}.{part}" for part in ("store", "tables", "engine")]
            )
            is_database = is_within(target, ["hub_server.storage", "sqlalchemy", "sqlmodel"])
            if hidden or (is_database and target != "sqlalchemy.exc"):
                yield module.finding(line, f"the gateway may not import {target}")


def below_the_gateway(tree: Tree) -> Iterator[Finding]:
    """Nothing that the gateway is made of knows the gateway; only the root of the hub and the command line do."""
    for module in tree.under("hub_server"):
        folder = module.path.split("/")[1]
        if folder.endswith(".py") or folder in {"gateway", "cli", "composition"}:
            continue
        for target, line in module.imports:
            if is_within(target, ["hub_server.gateway", "hub_server.app", "hub_server.lifecycle", "hub_server.cli"]):
                yield module.finding(line, f"{folder} may not import {target}")


def one_file_for_socketio(tree: Tree) -> Iterator[Finding]:
    """Only gateway/dashboards/sockets.py imports socketio."""
    for module in tree.product():
        if module.path != "hub_server/gateway/dashboards/sockets.py":
            for target, line in module.imports:
                if is_within(target, ["socketio", "engineio"]):
                    yield module.finding(line, f"only gateway/dashboards/sockets.py may import {target}")


def no_cycles(tree: Tree) -> Iterator[Finding]:
    """No module reaches itself by imports, those under TYPE_CHECKING and in functions counted."""
    edges = {
        name: {target for target, _ in module.imports if target in tree.modules}
        for name, module in tree.modules.items()
    }
    for cycle in _cycles(edges):
        module = tree.modules[cycle[0]]
        line = next(line for target, line in module.imports if target == cycle[1 % len(cycle)])
        yield module.finding(line, f"import cycle: {' → '.join([*cycle, cycle[0]])}")


def _cycles(edges: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """Yield one cycle for each back edge of a depth-first search."""
    done: set[str] = set()
    for start in sorted(edges):
        if start in done:
            continue
        path: list[str] = [start]
        ahead = [iter(sorted(edges[start]))]
        while path:
            target = next(ahead[-1], None)
            if target is None:
                done.add(path.pop())
                ahead.pop()
            elif target in path:
                yield path[path.index(target) :]
            elif target not in done:
                path.append(target)
                ahead.append(iter(sorted(edges[target])))
