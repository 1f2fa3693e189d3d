"""A module that is put off is all there once something of it is asked for."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

from agent_client.daemon import SELDOM_USED
from agent_client.later import Later

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
IN_THREADS = """
import sys, threading
from agent_client import later
later.put_off(["textwrap"])
import textwrap
stopped, loaded, copies = threading.Event(), threading.Event(), []

def slowly(frame, event, _argument):
    if frame.f_code is later.Later.__getattr__.__code__ and not stopped.is_set():
        if event == "line" and frame.f_lineno == DELETES:
            stopped.set()
            loaded.wait(0.3)
        return slowly

def take(traced):
    sys.settrace(slowly if traced else None)
    copies.append(textwrap.dedent)

first = threading.Thread(target=take, args=[True])
second = threading.Thread(target=take, args=[False])
first.start()
assert stopped.wait(10)
second.start()
second.join(0.2)
loaded.set()
first.join()
second.join()
assert copies == [sys.modules["textwrap"].dedent] * 2
"""


def test_what_is_put_off_is_loaded_when_it_is_asked_for_and_then_is_the_module_itself() -> None:
    assert run(CODE) == (0, "")


def test_two_threads_that_ask_at_once_get_the_same() -> None:
    lines, start = inspect.getsourcelines(Later.__getattr__)
    (deletes,) = [start + number for number, line in enumerate(lines) if "del sys.modules" in line]
    assert run(IN_THREADS.replace("DELETES", str(deletes))) == (0, "")


def run(code: str) -> tuple[int, str]:
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )
    return ran.returncode, ran.stderr
