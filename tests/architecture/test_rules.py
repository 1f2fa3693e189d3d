"""The rules on this very source."""

from __future__ import annotations

from collections.abc import Callable, Set
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.architecture.rules import EXCEPTIONS, RULES
from tests.architecture.source import PRODUCT, Finding, Tree, read_tree

ROOT: Final = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def source() -> Tree:
    return read_tree(ROOT)


@pytest.fixture(scope="module")
def findings(source: Tree) -> Callable[[str], Set[Finding]]:
    """What a rule finds in the source; it looks once."""
    return cache(lambda name: frozenset(RULES[name](source)))


@pytest.mark.parametrize("name", RULES)
def test_the_source_keeps_the_rule(name: str, findings: Callable[[str], Set[Finding]]) -> None:
    broken = {finding for finding in findings(name) if (name, finding.where) not in EXCEPTIONS}
    if broken:
        pytest.fail("\n".join(map(str, sorted(broken))), pytrace=False)


def test_every_exception_is_of_a_rule_still_needed_and_reasoned(findings: Callable[[str], Set[Finding]]) -> None:
    for (name, where), reason in EXCEPTIONS.items():
        assert where in {finding.where for finding in findings(name)}, f"{name} no longer finds {where}"
        assert len(reason.split()) >= 3


def test_the_source_is_read(source: Tree) -> None:
    assert {module.top for module in source.modules.values()} >= {*PRODUCT, "scripts", "tests", "hatch_build"}
    assert "protocol.frames" in source.modules
    assert {target for target, _ in source.modules["protocol.codec"].imports} >= {"msgspec", "protocol.frames"}
