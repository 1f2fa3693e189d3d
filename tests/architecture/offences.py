"""Made-up trees: for each rule some that break it, with the place that it must name, and one that keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from protocol.frames import AGENT_FRAMES, HUB_FRAMES
from protocol.operations import OPERATIONS

Files = Mapping[str, str]


class Offence(NamedTuple):
    files: Files
    where: str


ENGINE: Final = "hub_server/alerts/engine.py"
MODEL: Final = "hub_server/alerts/model.py"
TABLES: Final = "hub_server/alerts/tables.py"
STORE: Final = "hub_server/alerts/store.py"
SERVICE: Final = "hub_server/alerts/service.py"
WORKER: Final = "hub_server/alerts/worker.py"
FLEET: Final = "hub_server/fleet/service.py"
FRAMES: Final = "protocol/frames.py"
AGENT: Final = "agent_client/daemon.py"
GATEWAY: Final = "hub_server/gateway/agents/session.py"
SERVER: Final = "hub_server/gateway/dashboards/server.py"
SOCKETS: Final = "hub_server/gateway/dashboards/sockets.py"
NOTES: Final = "docs/notes.txt"


def cases(names: list[str]) -> str:
    return "\n".join(["match frame:", *(f"    case {name}(): ..." for name in names)])


_AGENT_SENDS: Final = [frame.__name__ for frame in AGENT_FRAMES]
_HUB_SENDS: Final = [frame.__name__ for frame in HUB_FRAMES]
_ENTRIES: Final = "".join(f"entry({name!r})\n" for name in OPERATIONS)

OFFENCES: Final[Mapping[str, list[Offence]]] = {
    "packages": [
        Offence({FRAMES: "import orjson"}, FRAMES),
        Offence({FRAMES: "from hub_server import clock"}, FRAMES),
        Offence({AGENT: "import aiohttp"}, AGENT),
        Offence({FLEET: "from agent_client.spool import Spool"}, FLEET),
        Offence({FLEET: "def f():\n    import agent_client"}, FLEET),
        Offence({FLEET: "if TYPE_CHECKING:\n    from agent_client import spool"}, FLEET),
        Offence({FLEET: "import importlib\nimportlib.import_module('agent_client.spool')"}, FLEET),
        Offence({AGENT: "from scripts import generate"}, AGENT),
        Offence({FRAMES: "from tests import clocks"}, FRAMES),
    ],
    "subjects_apart": [
        Offence({FLEET: "from hub_server.alerts.model import Alert", MODEL: ""}, FLEET),
        Offence({FLEET: "def f():\n    from hub_server.alerts import model", MODEL: ""}, FLEET),
        Offence({FLEET: "from ..alerts.model import Alert", MODEL: ""}, FLEET),
        Offence({FLEET: "import hub_server.access.store", "hub_server/access/store.py": ""}, FLEET),
        Offence({FLEET: "from hub_server.audit.tables import AuditRow", "hub_server/audit/tables.py": ""}, FLEET),
    ],
    "roles": [
        Offence({MODEL: "from hub_server.clock import Clock"}, MODEL),
        Offence({MODEL: "from hub_server.alerts.engine import evaluate", ENGINE: ""}, MODEL),
        Offence({ENGINE: "from hub_server.bus.port import Bus"}, ENGINE),
        Offence({ENGINE: "from hub_server.alerts.store import AlertStore", STORE: ""}, ENGINE),
        Offence({TABLES: "from hub_server.alerts.store import AlertStore", STORE: ""}, TABLES),
        Offence({STORE: "from hub_server.bus.port import Bus"}, STORE),
        Offence({STORE: "from hub_server.gateway.agents.session import AgentSession"}, STORE),
        Offence({STORE: "from hub_server.alerts.service import AlertService", SERVICE: ""}, STORE),
        Offence({SERVICE: "from hub_server.gateway.agents.registry import SessionRegistry"}, SERVICE),
        Offence({SERVICE: "from hub_server.config import Settings"}, SERVICE),
        Offence({WORKER: "from hub_server.storage.engine import Database"}, WORKER),
        Offence({SERVICE: "import hub_server"}, SERVICE),
    ],
    "plain_models": [
        Offence({MODEL: "from sqlalchemy import Row"}, MODEL),
        Offence({ENGINE: "import orjson"}, ENGINE),
    ],
    "gateway_asks_services": [
        Offence({GATEWAY: "from hub_server.alerts.store import AlertStore", STORE: ""}, GATEWAY),
        Offence({GATEWAY: "from hub_server.alerts import tables", TABLES: ""}, GATEWAY),
        Offence({GATEWAY: "from hub_server.alerts.engine import evaluate", ENGINE: ""}, GATEWAY),
        Offence({GATEWAY: "from hub_server.storage.engine import Database"}, GATEWAY),
        Offence({GATEWAY: "from sqlalchemy import select"}, GATEWAY),
    ],
    "below_the_gateway": [
        Offence({SERVICE: "from hub_server.gateway.agents.session import AgentSession"}, SERVICE),
        Offence({"hub_server/bus/port.py": "import hub_server.app"}, "hub_server/bus/port.py"),
        Offence({"hub_server/storage/engine.py": "import hub_server.lifecycle"}, "hub_server/storage/engine.py"),
    ],
    "one_file_for_socketio": [
        Offence(
            {"hub_server/gateway/dashboards/rooms.py": "import socketio"}, "hub_server/gateway/dashboards/rooms.py"
        ),
        Offence({FLEET: "def f():\n    from engineio import AsyncServer"}, FLEET),
    ],
    "no_cycles": [
        Offence({"protocol/a.py": "import protocol.b", "protocol/b.py": "import protocol.a"}, "protocol/a.py"),
        Offence(
            {
                "protocol/a.py": "import protocol.b",
                "protocol/b.py": "def f():\n    from protocol import c",
                "protocol/c.py": "if TYPE_CHECKING:\n    from .a import A",
            },
            "protocol/a.py",
        ),
        Offence({"protocol/a.py": "import protocol.a"}, "protocol/a.py"),
    ],
    "file_names": [
        Offence({"hub_server/alerts/logic.py": ""}, "hub_server/alerts/logic.py"),
        Offence({"hub_server/alerts/rules/engine.py": ""}, "hub_server/alerts/rules/engine.py"),
    ],
    "telling_names": [
        Offence({"agent_client/utils.py": ""}, "agent_client/utils.py"),
        Offence({"hub_server/gateway/session_manager.py": ""}, "hub_server/gateway/session_manager.py"),
        Offence({"hub_server/common/__init__.py": ""}, "hub_server/common/__init__.py"),
    ],
    "file_length": [Offence({FLEET: "x = 1\n" * 401}, FLEET)],
    "function_length": [
        Offence({FLEET: "def f():\n" + "    x = 1\n" * 40}, f"{FLEET}::f"),
        Offence({FLEET: "class A:\n    async def f(self):\n" + "        x = 1\n" * 40}, f"{FLEET}::A.f"),
        Offence({FLEET: "if x:\n    def f():\n" + "        x = 1\n" * 40}, f"{FLEET}::f"),
    ],
    "pure_files": [
        Offence({MODEL: f"import {name}"}, MODEL) for name in ("time", "random", "os", "socket", "logging", "asyncio")
    ]
    + [
        Offence({ENGINE: "def f():\n    from os import path"}, ENGINE),
        Offence({ENGINE: "async def f(): ..."}, ENGINE),
        Offence({ENGINE: "from datetime import datetime\ndatetime.now()"}, ENGINE),
        Offence({ENGINE: "import datetime\ndatetime.datetime.now()"}, ENGINE),
        Offence({ENGINE: "import uuid\nuuid.uuid4()"}, ENGINE),
        Offence({ENGINE: "open('x')"}, ENGINE),
    ],
    "tasks_in_groups": [
        Offence({FLEET: "asyncio.create_task(f(), name='f')"}, FLEET),
        Offence({FLEET: "asyncio.ensure_future(f())"}, FLEET),
        Offence({FLEET: "asyncio.get_running_loop().create_task(f(), name='f')"}, FLEET),
        Offence({FLEET: "from asyncio import create_task\ncreate_task(f(), name='f')"}, FLEET),
        Offence({AGENT: "async with asyncio.TaskGroup() as tasks:\n    tasks.create_task(f())"}, AGENT),
    ],
    "broad_except": [
        Offence({FLEET: "try: ...\nexcept: ..."}, FLEET),
        Offence({FLEET: "try: ...\nexcept Exception: ..."}, FLEET),
        Offence({FLEET: "try: ...\nexcept Exception as error:  # noqa: BLE001\n    ..."}, FLEET),
        Offence({FLEET: "try: ...\nexcept (ValueError, BaseException): ..."}, FLEET),
        Offence({FLEET: "try: ...\nexcept Exception as error:\n    raise Failed from None"}, FLEET),
        Offence({FLEET: "with suppress(Exception): ..."}, FLEET),
    ],
    "cancellation_goes_on": [
        Offence({FLEET: "try: ...\nexcept asyncio.CancelledError: ..."}, FLEET),
        Offence({FLEET: "try: ...\nexcept (OSError, CancelledError): ..."}, FLEET),
    ],
    "bounded_queues": [
        Offence({FLEET: f"x = {call}"}, FLEET)
        for call in (
            "asyncio.Queue()",
            "asyncio.Queue(0)",
            "asyncio.Queue(maxsize=0)",
            "asyncio.Queue[int]()",
            "queue.SimpleQueue()",
            "deque()",
            "deque(y)",
            "deque(y, None)",
            "collections.deque(maxlen=None)",
        )
    ],
    "no_blocking_sleep": [
        Offence({FLEET: "time.sleep(1)"}, FLEET),
        Offence({AGENT: "from time import sleep"}, AGENT),
    ],
    "engines_in_storage": [
        Offence({STORE: "create_async_engine(url)"}, STORE),
        Offence({STORE: "sqlalchemy.create_engine(url)"}, STORE),
        Offence({STORE: "aiosqlite.connect(path)"}, STORE),
    ],
    "one_handler_a_frame_on_the_hub": [
        Offence(
            {"hub_server/gateway/agents/handler.py": cases(_AGENT_SENDS[1:])},
            f"hub_server/gateway/agents/handler.py::{_AGENT_SENDS[0]}",
        ),
        Offence(
            {"hub_server/gateway/agents/handler.py": cases([*_AGENT_SENDS, "Metrics"])},
            "hub_server/gateway/agents/handler.py::Metrics",
        ),
    ],
    "one_handler_a_frame_on_the_agent": [
        Offence(
            {"agent_client/transport/dispatch.py": cases(_HUB_SENDS[1:])},
            f"agent_client/transport/dispatch.py::{_HUB_SENDS[0]}",
        ),
    ],
    "one_entry_an_operation": [
        Offence({SERVER: _ENTRIES.replace("agents:get", "agents:fetch")}, "hub_server/gateway/dashboards::agents:get"),
        Offence({SERVER: _ENTRIES + "entry('agents:get')"}, "hub_server/gateway/dashboards::agents:get"),
    ],
    "no_registry_host": [
        Offence({NOTES: f"see https://{'.'.join(parts)}/x"}, NOTES)
        for parts in (
            ("py" + "pi", "org"),
            ("files", "python" + "hosted", "org"),
            ("registry", "npmjs", "org"),
            ("crates", "io"),
            ("proxy", "golang", "org"),
            ("registry-1", "docker", "io"),
        )
    ],
    "no_leftovers": [
        Offence({FLEET: f"x = 1  # {word}: later"}, FLEET)
        for word in ("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")
    ],
    "documents_exist": [Offence({FLEET: f"# see {'PLAN'}.md"}, FLEET)],
}
