"""Each rule fails on a tree that breaks it, and lets one pass that does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.innocents import INNOCENTS
from tests.architecture.offences import OFFENCES, Files, Offence
from tests.architecture.rules import RULES
from tests.architecture.source import Finding, functions_in, read_tree


def findings_of(rule: str, root: Path, files: Files) -> list[Finding]:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return list(RULES[rule](read_tree(root)))


@pytest.mark.parametrize(
    ("rule", "offence"), [(rule, offence) for rule, offences in OFFENCES.items() for offence in offences]
)
def test_a_rule_finds_the_offence_and_its_place(rule: str, offence: Offence, tmp_path: Path) -> None:
    assert {finding.where for finding in findings_of(rule, tmp_path, offence.files)} == {offence.where}


@pytest.mark.parametrize("rule", INNOCENTS)
def test_a_rule_lets_pass_what_keeps_it(rule: str, tmp_path: Path) -> None:
    assert findings_of(rule, tmp_path, INNOCENTS[rule]) == []


def test_every_rule_has_an_offence_and_an_innocent() -> None:
    assert set(OFFENCES) == set(INNOCENTS) == set(RULES)


def test_imports_are_found_wherever_they_stand(tmp_path: Path) -> None:
    (tmp_path / "protocol").mkdir()
    (tmp_path / "protocol/__init__.py").write_text("from .b import B")
    (tmp_path / "protocol/b.py").write_text("")
    (tmp_path / "protocol/a.py").write_text(
        "import json, os.path\n"
        "from protocol import b\n"
        "if TYPE_CHECKING:\n    from protocol.b import B\n"
        "class A:\n    def f(self):\n        from . import b as c\n"
        "try:\n    import importlib\n    importlib.import_module('protocol.b')\nexcept ImportError: ...\n"
    )

    tree = read_tree(tmp_path)

    assert [target for target, _ in tree.modules["protocol"].imports] == ["protocol.b"]
    assert sorted(target for target, _ in tree.modules["protocol.a"].imports) == [
        "importlib",
        "json",
        "os.path",
        *["protocol.b"] * 4,
    ]


def test_functions_are_found_wherever_they_stand(tmp_path: Path) -> None:
    (tmp_path / "protocol").mkdir()
    (tmp_path / "protocol/a.py").write_text(
        "def f():\n    def inner(): ...\nclass A:\n    def f(self): ...\nwith x:\n    async def g(): ...\n"
    )

    names = {name for name, _ in functions_in(read_tree(tmp_path).modules["protocol.a"])}

    assert names == {"f", "f.inner", "A.f", "g"}
