"""The source as the rules see it: modules, their syntax trees, and every import in them, wherever it stands."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

PRODUCT: Final = ("agent_client", "hub_server", "protocol")
CODE: Final = (*PRODUCT, "scripts", "tests", "hatch_build")
SKIPPED_FOLDERS: Final = frozenset(
    {".git", ".venv", ".cache", "node_modules", "var", "dist", "test-results", "web", "__pycache__", ".hypothesis"}
    | {".mypy_cache", ".ruff_cache", ".pytest_cache", "htmlcov"}
)


class Finding(NamedTuple):
    """A rule broken at a place. `where`: a path from the root, or `path::name` of a function in it."""

    where: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.where} (line {self.line}): {self.what}"


class Import(NamedTuple):
    target: str
    line: int


@dataclass(frozen=True)
class Module:
    """One Python file; `name` is its dotted name, without `__init__`, and `known` those of all files."""

    path: str
    name: str
    text: str
    known: Set[str] = field(default=frozenset(), repr=False)

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def imports(self) -> Sequence[Import]:
        return tuple(_imports_of(self))

    @cached_property
    def nodes(self) -> Sequence[ast.AST]:
        """Every node, from the top: many rules look through all of them."""
        return tuple(ast.walk(self.tree))

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]

    @property
    def stem(self) -> str:
        return self.path.rpartition("/")[2].removesuffix(".py")

    @property
    def is_product(self) -> bool:
        return self.top in PRODUCT

    def line_text(self, line: int) -> str:
        return self.text.splitlines()[line - 1]

    def finding(self, node: ast.expr | ast.stmt | ast.excepthandler | int, what: str) -> Finding:
        return Finding(self.path, node if isinstance(node, int) else node.lineno, what)


@dataclass(frozen=True)
class Tree:
    root: Path
    modules: Mapping[str, Module]

    def product(self) -> Iterator[Module]:
        return (module for module in self.modules.values() if module.is_product)

    def under(self, *packages: str) -> Iterator[Module]:
        return (module for module in self.modules.values() if is_within(module.name, packages))

    def text_files(self) -> Iterator[tuple[str, str]]:
        """Yield path and text of every file that is kept, as far as it is text."""
        for path in files_in(self.root):
            try:
                yield path.relative_to(self.root).as_posix(), path.read_text("utf-8")
            except UnicodeDecodeError:
                continue


Rule = Callable[[Tree], Iterable[Finding]]


def is_within(name: str, packages: Iterable[str]) -> bool:
    """Tell whether the dotted `name` is one of `packages` or inside one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def files_in(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS)
        yield from (Path(folder, name) for name in sorted(names))


def read_tree(root: Path) -> Tree:
    paths = [path for path in files_in(root) if path.suffix == ".py"]
    texts = {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in paths}
    names = {path: _name_of(path) for path in texts}
    names = {path: name for path, name in names.items() if name.partition(".")[0] in CODE}
    known = frozenset(names.values())
    return Tree(root, {name: Module(path, name, texts[path], known) for path, name in names.items()})


def _name_of(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imports_of(module: Module) -> Iterator[Import]:
    """Yield every import: at the top, in functions, under TYPE_CHECKING, and by `import_module` with a literal name."""
    for node in module.nodes:
        match node:
            case ast.Import(names=aliases):
                yield from (Import(alias.name, node.lineno) for alias in aliases)
            case ast.ImportFrom(module=target, names=aliases, level=level):
                source = _absolute(target, level, module)
                for alias in aliases:
                    inner = f"{source}.{alias.name}"
                    yield Import(inner if inner in module.known else source, node.lineno)
            case ast.Call(func=function, args=[ast.Constant(value=str(target)), *_]) if _imports(function):
                yield Import(target, node.lineno)
            case _:
                pass


def _imports(function: ast.expr) -> bool:
    match function:
        case ast.Name(id="import_module" | "__import__"):
            return True
        case ast.Attribute(value=ast.Name(id="importlib"), attr="import_module"):
            return True
        case _:
            return False


def _absolute(target: str | None, level: int, module: Module) -> str:
    if level == 0:
        return target or ""
    above = module.name.split(".")
    package = above if module.path.endswith("/__init__.py") else above[:-1]
    base = package[: len(package) - level + 1]
    return ".".join([*base, target] if target else base)


def functions_in(module: Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield every function with its qualified name."""
    pending: list[tuple[str, ast.AST]] = [("", module.tree)]
    while pending:
        prefix, parent = pending.pop()
        for node in ast.iter_child_nodes(parent):
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    name = f"{prefix}.{node.name}".lstrip(".")
                    yield name, node
                case ast.ClassDef():
                    name = f"{prefix}.{node.name}".lstrip(".")
                case _:
                    name = prefix
            pending.append((name, node))
