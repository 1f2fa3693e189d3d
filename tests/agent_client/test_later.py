"""A module that is put off is all there once something of it is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from agent_client.daemon import SELDOM_USED

ROOT = Path(__file__).parents[2]
CODE = f"""
import sys
from agent_client.later import put_off
put_off({SELDOM_USED!r})
import asyncio, inspect, logging, tokenize, traceback
assert "ast" not in sys.modules
try:
    asyncio.run(None)
except ValueError:
    assert "raise ValueError(" in traceback.format_exc(), traceback.format_exc()
assert type(sys.modules["tokenize"]) is type(sys)
assert tokenize.open is sys.modules["tokenize"].open
assert str(inspect.signature(logging.info)) == "(msg, *args, **kwargs)"
from inspect import getsource
assert getsource(logging.info).startswith("def info(")
put_off(["logging"])
assert logging is sys.modules["logging"]
"""


def test_what_is_put_off_is_loaded_when_it_is_asked_for_and_then_is_the_module_itself() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
