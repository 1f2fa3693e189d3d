"""What files are called and how long they and their functions are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.architecture.dependencies import ROLES, subjects
from tests.architecture.source import Finding, Tree, functions_in

FILE_MAX_LINES: Final = 400
FUNCTION_MAX_LINES: Final = 40
MIGRATIONS: Final = "hub_server/storage/migrations/versions/"
EMPTY_WORDS: Final = frozenset({"utils", "util", "helpers", "helper", "common", "base", "manager", "misc", "core"})


def file_names(tree: Tree) -> Iterator[Finding]:
    """Inside a subject the same file names as in every other."""
    for subject, modules in subjects(tree).items():
        for module in modules:
            if module.stem not in {*ROLES, "__init__"} or module.path.count("/") != 2:
                yield module.finding(1, f"{subject} may have {', '.join(sorted(ROLES))} only")


def telling_names(tree: Tree) -> Iterator[Finding]:
    """A module is a noun of the product."""
    for module in tree.modules.values():
        if set(module.name.rpartition(".")[2].split("_")) & EMPTY_WORDS:
            yield module.finding(1, "a name that says nothing of what is inside")


def file_length(tree: Tree) -> Iterator[Finding]:
    for module in tree.modules.values():
        lines = len(module.text.splitlines())
        if lines > FILE_MAX_LINES:
            yield module.finding(1, f"{lines} lines, at most {FILE_MAX_LINES}")


def function_length(tree: Tree) -> Iterator[Finding]:
    """Migrations are lists of what changes in the tables: their length says nothing."""
    for module in tree.modules.values():
        if module.path.startswith(MIGRATIONS):
            continue
        for name, function in functions_in(module):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > FUNCTION_MAX_LINES:
                what = f"{lines} lines, at most {FUNCTION_MAX_LINES}"
                yield Finding(f"{module.path}::{name}", function.lineno, what)
