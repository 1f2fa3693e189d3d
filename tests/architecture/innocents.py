"""Made-up trees that come near to breaking a rule and keep it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from protocol.frames import AGENT_FRAMES, HUB_FRAMES
from protocol.operations import OPERATIONS
from tests.architecture.offences import (
    AGENT,
    ENGINE,
    FLEET,
    FRAMES,
    GATEWAY,
    MODEL,
    NOTES,
    SERVER,
    SERVICE,
    SOCKETS,
    STORE,
    TABLES,
    WORKER,
    Files,
    cases,
)

GROUPS: Final = """
async with asyncio.TaskGroup() as tasks:
    tasks.create_task(f(), name="f")
def g(group: asyncio.TaskGroup):
    self._group = group
    self._group.create_task(f(), name="f")
"""
BROAD: Final = """
try: ...
except Exception as error:  # noqa: BLE001  one request is isolated
    ...
try: ...
except BaseException:
    undo()
    raise
try: ...
except Exception as error:
    raise CommandFailed from error
try: ...
except (OSError, ValueError): ...
with suppress(OSError): ...
"""
CANCELLED: Final = """
try: ...
except asyncio.CancelledError:
    undo()
    raise
try: ...
except TimeoutError: ...
"""
QUEUES: Final = """
asyncio.Queue(8)
asyncio.Queue[int](maxsize=limit)
deque(x, 8)
deque(maxlen=limit)
"""
INNOCENTS: Final[Mapping[str, Files]] = {
    "packages": {
        FRAMES: "import json\nimport msgspec",
        AGENT: "import asyncio\nimport psutil\nfrom protocol import frames",
        FLEET: "import aiohttp\nfrom protocol import frames",
        "scripts/demo.py": "import hub_server.app\nimport agent_client.daemon",
        "pyproject.toml": '[project]\ndependencies = ["msgspec>=0.20", "psutil>=7"]',
    },
    "subjects_apart": {
        FLEET: "from hub_server.access.model import Principal\nfrom hub_server.audit.record import record",
        SERVICE: "from hub_server.alerts.store import AlertStore\nfrom hub_server.storage.engine import Database",
        STORE: "",
        "hub_server/access/model.py": "",
        "hub_server/audit/record.py": "",
        GATEWAY: "from hub_server.alerts.service import AlertService",
    },
    "roles": {
        MODEL: "from protocol.frames import Sample\nfrom hub_server.errors import Conflict",
        ENGINE: "from hub_server.alerts.model import Alert",
        TABLES: "from hub_server.storage.columns import UtcDateTime",
        STORE: "from hub_server.alerts.tables import AlertRow\nfrom hub_server.storage.engine import Database",
        SERVICE: "from hub_server.alerts.store import AlertStore\nfrom hub_server.bus.port import Bus",
        WORKER: "from hub_server.alerts.service import AlertService\nfrom hub_server.clock import Clock",
    },
    "plain_models": {MODEL: "import msgspec\nimport enum", ENGINE: "import math", SERVICE: "import structlog"},
    "gateway_asks_services": {
        GATEWAY: "from hub_server.alerts.service import AlertService\nfrom hub_server.alerts.model import Alert",
        "hub_server/gateway/faults.py": "from sqlalchemy.exc import SQLAlchemyError",
        SERVICE: "",
        MODEL: "",
    },
    "below_the_gateway": {
        "hub_server/app.py": "import hub_server.gateway.agents.session\nimport hub_server.lifecycle",
        "hub_server/cli/main.py": "import hub_server.app",
        "hub_server/gateway/rest/health.py": "import hub_server.gateway.faults",
    },
    "one_file_for_socketio": {SOCKETS: "import socketio", "tests/browser/test_seed.py": "import socketio"},
    "no_cycles": {
        "protocol/__init__.py": "",
        "protocol/a.py": "import protocol.b\nimport protocol.c",
        "protocol/b.py": "from protocol import c",
        "protocol/c.py": "import json",
    },
    "file_names": {
        "hub_server/alerts/__init__.py": "",
        **dict.fromkeys((MODEL, ENGINE, TABLES, STORE, SERVICE, WORKER), ""),
        "hub_server/gateway/agents/outbox.py": "",
        "hub_server/clock.py": "",
    },
    "telling_names": {"agent_client/cadence.py": "", "hub_server/storage/engine.py": "", "hub_server/database.py": ""},
    "file_length": {FLEET: "x = 1\n" * 400},
    "function_length": {
        FLEET: "def f():\n" + "    x = 1\n" * 39,
        "hub_server/storage/migrations/versions/0001_first.py": "def upgrade():\n" + "    x = 1\n" * 200,
    },
    "pure_files": {
        ENGINE: "import math\nfrom datetime import datetime\ndef f(now: datetime): return now.timestamp()",
        SERVICE: "import os\nimport time\nasync def f(): ...",
        "hub_server/storage/engine.py": "import os\nasync def f(): ...",
    },
    "tasks_in_groups": {AGENT: GROUPS},
    "broad_except": {FLEET: BROAD},
    "cancellation_goes_on": {FLEET: CANCELLED},
    "bounded_queues": {FLEET: QUEUES},
    "no_blocking_sleep": {FLEET: "await asyncio.sleep(1)", "scripts/demo.py": "time.sleep(1)"},
    "engines_in_storage": {
        "hub_server/storage/engine.py": "create_async_engine(url)",
        STORE: "database.write()",
        AGENT: "sqlite3.connect(path)",
    },
    "one_handler_a_frame_on_the_hub": {
        "hub_server/gateway/agents/handler.py": cases([frame.__name__ for frame in AGENT_FRAMES]),
        "hub_server/gateway/agents/endpoint.py": cases(["Hello"]),
    },
    "one_handler_a_frame_on_the_agent": {
        "agent_client/transport/dispatch.py": cases([frame.__name__ for frame in HUB_FRAMES]),
    },
    "one_entry_an_operation": {SERVER: "".join(f"entry({name!r})\n" for name in OPERATIONS)},
    "no_registry_host": {
        NOTES: "pip install jtnt; see https://hub.example/pypi and pypi_org",
        "node_modules/x/readme.txt": f"https://{'.'.join(('crates', 'io'))}",
    },
    "no_leftovers": {FLEET: "toDo = hacks  # what is to do comes from the bus"},
    "documents_exist": {FLEET: "# see README.md", "docs/README.md": "see README.md and docs/README.md"},
}
