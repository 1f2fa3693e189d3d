"""The rules on this very source."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.architecture.rules import EXCEPTIONS, RULES
from tests.architecture.source import PRODUCT, Tree, read_tree

ROOT: Final = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def source() -> Tree:
    return read_tree(ROOT)


@pytest.mark.parametrize("name", RULES)
def test_the_source_keeps_the_rule(name: str, source: Tree) -> None:
    findings = {finding for finding in RULES[name](source) if (name, finding.where) not in EXCEPTIONS}
    if findings:
        pytest.fail("\n".join(map(str, sorted(findings))), pytrace=False)


def test_every_exception_is_of_a_rule_still_needed_and_reasoned(source: Tree) -> None:
    for (name, where), reason in EXCEPTIONS.items():
        assert where in {finding.where for finding in RULES[name](source)}, f"{name} no longer finds {where}"
        assert len(reason.split()) >= 3


def test_the_source_is_read(source: Tree) -> None:
    assert {module.top for module in source.modules.values()} >= {*PRODUCT, "scripts", "tests", "hatch_build"}
    assert "protocol.frames" in source.modules
    assert {target for target, _ in source.modules["protocol.codec"].imports} >= {"msgspec", "protocol.frames"}
