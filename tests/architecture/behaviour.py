"""What code may do: purity, tasks, exceptions, queues, waiting."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from tests.architecture.dependencies import subjects
from tests.architecture.source import Finding, Module, Tree, is_within

IMPURE_MODULES: Final = (
    "asyncio",
    "logging",
    "os",
    "random",
    "secrets",
    "shutil",
    "socket",
    "ssl",
    "structlog",
    "subprocess",
    "tempfile",
    "threading",
    "time",
)
IMPURE_CALLS: Final = frozenset(
    {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "open", "print", "input"}
    | {"uuid.uuid1", "uuid.uuid4", "uuid1", "uuid4"}
)
QUEUES: Final = frozenset({"Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"})
ENGINE_MAKERS: Final = frozenset(
    {"create_engine", "create_async_engine", "engine_from_config", "async_engine_from_config", "create_pool"}
)
CONNECTS: Final = frozenset({"aiosqlite.connect", "asyncpg.connect", "sqlite3.connect"})
REASON_WORDS_MIN: Final = 3
BROAD: Final = frozenset({"Exception", "BaseException"})


def pure_files(tree: Tree) -> Iterator[Finding]:
    """Models and engines have no clock, randomness or I/O, and nothing asynchronous."""
    for modules in subjects(tree).values():
        for module in modules:
            if module.stem in {"model", "engine"}:
                yield from _impurities(module)


def _impurities(module: Module) -> Iterator[Finding]:
    for target, line in module.imports:
        if is_within(target, IMPURE_MODULES):
            yield module.finding(line, f"{module.stem}.py may not import {target}")
    for node in module.nodes:
        match node:
            case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                yield module.finding(node, f"{module.stem}.py may not be asynchronous")
            case ast.Call(func=function) if _ends_with(ast.unparse(function), IMPURE_CALLS):
                yield module.finding(node, f"{module.stem}.py may not call {ast.unparse(function)}")
            case _:
                pass


def _ends_with(name: str, endings: frozenset[str]) -> bool:
    """Tell whether a dotted name is one of `endings` or ends with one that has a dot itself."""
    return name in endings or any("." in ending and name.endswith(f".{ending}") for ending in endings)


def tasks_in_groups(tree: Tree) -> Iterator[Finding]:
    """A task is made by a TaskGroup, and has a name."""
    for module in tree.product():
        groups = _task_groups(module)
        for node in module.nodes:
            match node:
                case ast.Call(func=ast.Attribute(value=owner, attr="create_task")) if _last_name(owner) in groups:
                    if "name" not in {keyword.arg for keyword in node.keywords}:
                        yield module.finding(node, "a task without a name")
                case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in {
                    "create_task",
                    "ensure_future",
                }:
                    yield module.finding(node, f"{name} outside a TaskGroup")
                case _:
                    pass


def _task_groups(module: Module) -> set[str]:
    """Return the names that stand for a TaskGroup: bound by `async with`, annotated, or assigned from one of these."""
    names: set[str] = set()
    for node in module.nodes:
        match node:
            case ast.withitem(context_expr=ast.Call(func=function), optional_vars=ast.expr() as bound):
                if ast.unparse(function).endswith("TaskGroup"):
                    names.add(_last_name(bound))
            case ast.arg(arg=name, annotation=ast.expr() as annotation) if "TaskGroup" in ast.unparse(annotation):
                names.add(name)
            case ast.AnnAssign(target=target, annotation=annotation) if "TaskGroup" in ast.unparse(annotation):
                names.add(_last_name(target))
            case _:
                pass
    for node in module.nodes:
        if isinstance(node, ast.Assign) and _last_name(node.value) in names:
            names.update(_last_name(target) for target in node.targets)
    return names


def _last_name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def broad_except(tree: Tree) -> Iterator[Finding]:
    """Catching everything is for one isolated message, plug-in or task: said on its line, or passed on by `raise`."""
    for module in tree.product():
        for node in module.nodes:
            match node:
                case ast.ExceptHandler() if _is_broad(node.type) and not _raises_again(node):
                    if not _has_reason(module.line_text(node.lineno)):
                        yield module.finding(node, "a broad except without its reason on the line")
                case ast.Call(func=function, args=arguments) if ast.unparse(function).endswith("suppress"):
                    if any(_is_broad(argument) for argument in arguments):
                        yield module.finding(node, "everything is suppressed")
                case _:
                    pass


def _is_broad(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    parts = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(_last_name(part) in BROAD for part in parts)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    """Tell whether the handler ends with `raise`, or with another error `from` the one it caught."""
    match handler.body[-1]:
        case ast.Raise(exc=None):
            return True
        case ast.Raise(cause=ast.Name(id=name)):
            return name == handler.name
        case _:
            return False


def _has_reason(line: str) -> bool:
    comment = re.sub(r"#\s*noqa(: *[A-Z0-9, ]+)?", "", line.partition("#")[1] + line.partition("#")[2])
    return len(re.findall(r"\w{2,}", comment)) >= REASON_WORDS_MIN


def cancellation_goes_on(tree: Tree) -> Iterator[Finding]:
    """CancelledError is never swallowed."""
    for module in tree.product():
        for node in module.nodes:
            if not isinstance(node, ast.ExceptHandler) or node.type is None:
                continue
            parts = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            if "CancelledError" in {_last_name(part) for part in parts} and not raises:
                yield module.finding(node, "a cancellation ends here")


def bounded_queues(tree: Tree) -> Iterator[Finding]:
    """Every queue and deque has a bound."""
    for module in tree.product():
        for node in module.nodes:
            if isinstance(node, ast.Call) and _is_unbounded(node):
                yield module.finding(node, f"{ast.unparse(node)} has no bound")


def _is_unbounded(call: ast.Call) -> bool:
    name = _last_name(call.func.value if isinstance(call.func, ast.Subscript) else call.func)
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if name == "deque":
        bound = call.args[1] if len(call.args) > 1 else given.get("maxlen")
        return bound is None or (isinstance(bound, ast.Constant) and bound.value is None)
    if name not in QUEUES:
        return False
    bound = call.args[0] if call.args else given.get("maxsize")
    return name == "SimpleQueue" or bound is None or (isinstance(bound, ast.Constant) and bound.value == 0)


def no_blocking_sleep(tree: Tree) -> Iterator[Finding]:
    """The product never sleeps in a thread."""
    for module in tree.product():
        for node in module.nodes:
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="time"), attr="sleep")):
                    yield module.finding(node, "time.sleep blocks")
                case ast.ImportFrom(module="time", names=aliases) if "sleep" in {alias.name for alias in aliases}:
                    yield module.finding(node, "time.sleep blocks")
                case _:
                    pass


def engines_in_storage(tree: Tree) -> Iterator[Finding]:
    """Only hub_server/storage opens a database."""
    for module in tree.under("hub_server"):
        if is_within(module.name, ["hub_server.storage"]):
            continue
        for node in module.nodes:
            if isinstance(node, ast.Call) and _opens_database(node.func):
                yield module.finding(node, f"{ast.unparse(node.func)} is for hub_server/storage")


def _opens_database(function: ast.expr) -> bool:
    return _last_name(function) in ENGINE_MAKERS or ast.unparse(function) in CONNECTS
