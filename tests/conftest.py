"""What all tests share: a real PostgreSQL and a real Chromium."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import hatch_build
from tests.loopback import stay_on_loopback
from tests.servers import chromium

stay_on_loopback()

TESTS = Path(__file__).resolve().parent

# A property fails for what it says, never for the seconds of a busy machine.
settings.register_profile("jtnt", deadline=None)
settings.load_profile("jtnt")

pytest_plugins = ["tests.servers.postgres"]

LONGEST_FIRST = ("scripts", "simulation", "system", "browser", "integration", "static", "servers", "protocol")
"""Folders of tests: what takes long begins early, so that no worker is alone with it in the end."""

# Playwright's own Node needs a system library that a bare machine lacks; this one is in the environment anyway.
os.environ.setdefault("PLAYWRIGHT_NODEJS_PATH", hatch_build.npm_here().argv[0])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    folder = item.path.relative_to(TESTS).parts[0]
    return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)


@pytest.fixture(scope="session")
def base_url() -> None:
    """No address for all; the plug-in's own fixture of this name is a method, which pytest deprecates."""


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """How the browser tests start their Chromium; they fail where there is none."""
    found = chromium.chromium_here()
    return {
        **browser_type_launch_args,
        "executable_path": str(found.executable),
        "args": list(chromium.ARGUMENTS),
        "env": {**os.environ, **found.environment},
    }


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args: dict[str, Any]) -> dict[str, Any]:
    """The same language, clock and window for all; LANG=C alone would give a locale that the browser's Intl refuses."""
    return {
        **browser_context_args,
        "locale": "en-US",
        "timezone_id": "UTC",
        "viewport": {"width": 1280, "height": 800},
    }
