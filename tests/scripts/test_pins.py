"""What is pinned: everything, by hash, with no word about where it comes from."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from scripts.pins import PINNED_FROM

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"^([a-z0-9][a-z0-9.-]*)==\S+", re.MULTILINE)
NAME = re.compile(r"^[A-Za-z0-9._-]+")


def pinned_in(name: str) -> set[str]:
    return set(PIN.findall((ROOT / name).read_text()))


def normal(requirement: str) -> str:
    found = NAME.match(requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found.group()).lower()


@pytest.mark.parametrize("name", PINNED_FROM)
def test_every_pin_has_a_hash_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9.-]+==[^\n]+ \\\n    --hash=sha256:[0-9a-f]{64}", entry), entry


def test_what_the_project_needs_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    run = {
        normal(item)
        for item in [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["hub"]]
    }
    groups = project["dependency-groups"]
    dev = {normal(item) for group in ("build", "dev") for item in groups[group] if isinstance(item, str)}
    assert run <= pinned_in("requirements/run.txt")
    assert run | dev <= pinned_in("requirements/dev.txt")
    assert pinned_in("requirements/uv.txt") == {normal(item) for item in groups["installer"]}


def test_what_runs_is_what_was_tested() -> None:
    run = set(re.findall(r"^\S+==\S+", (ROOT / "requirements/run.txt").read_text(), re.MULTILINE))
    dev = set(re.findall(r"^\S+==\S+", (ROOT / "requirements/dev.txt").read_text(), re.MULTILINE))
    assert run <= dev


@pytest.mark.parametrize("folder", ["static", "tests/browser"])
def test_npm_packages_are_pinned_by_hash_without_addresses(folder: str) -> None:
    lock = json.loads((ROOT / folder / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages
    assert all("resolved" not in entry for entry in packages.values())
    bundled = {name for name, entry in packages.items() if entry.get("inBundle")}
    assert all("integrity" in entry for name, entry in packages.items() if name not in bundled)
    assert "omit-lockfile-registry-resolved=true" in (ROOT / folder / ".npmrc").read_text()
