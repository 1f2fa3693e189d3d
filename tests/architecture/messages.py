"""Every message of the protocol has exactly one handler."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from protocol.elements import Frame
from protocol.frames import AGENT_FRAMES, HUB_FRAMES
from protocol.operations import OPERATIONS
from tests.architecture.source import Finding, Module, Tree

AGENT_DISPATCH: Final = "agent_client/transport/dispatch.py"
HUB_DISPATCH: Final = "hub_server/gateway/agents/handler.py"
DASHBOARDS: Final = "hub_server.gateway.dashboards"


def one_handler_a_frame_on_the_hub(tree: Tree) -> Iterator[Finding]:
    yield from _handlers(tree, HUB_DISPATCH, AGENT_FRAMES)


def one_handler_a_frame_on_the_agent(tree: Tree) -> Iterator[Finding]:
    yield from _handlers(tree, AGENT_DISPATCH, HUB_FRAMES)


def _handlers(tree: Tree, path: str, frames: Iterable[type[Frame]]) -> Iterator[Finding]:
    """A handler is a `case` of the frame's class in the file where frames meet what they lead to."""
    dispatch = [module for module in tree.product() if module.path == path]
    cases = Counter(name for module in dispatch for name in _matched_classes(module))
    for frame in frames:
        if cases[frame.__name__] != 1:
            yield Finding(f"{path}::{frame.__name__}", 1, f"{cases[frame.__name__]} handlers, exactly 1")


def _matched_classes(module: Module) -> Iterator[str]:
    for node in module.nodes:
        match node:
            case ast.MatchClass(cls=ast.Name(id=name) | ast.Attribute(attr=name)):
                yield name
            case _:
                pass


def one_entry_an_operation(tree: Tree) -> Iterator[Finding]:
    """An entry is the operation's name, written once in the dashboards' gateway."""
    written = Counter(
        node.value
        for module in tree.under(DASHBOARDS)
        for node in module.nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    for name in OPERATIONS:
        if written[name] != 1:
            yield Finding(f"{DASHBOARDS.replace('.', '/')}::{name}", 1, f"{written[name]} entries, exactly 1")
