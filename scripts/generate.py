"""Write what is derived from the protocol's structs, or say what is stale.

python -m scripts.generate            write docs/asyncapi.json, docs/openapi.json, static/src/generated/protocol.ts
python -m scripts.generate --check    write nothing; name each stale file and exit 1
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hatch_build import BundleFailed, install_packages, npm_here, run_npm
from protocol.catalogue import OPERATION_SUMMARIES, REST_ANSWERS, REST_REQUESTS
from protocol.events import DASHBOARD_EVENTS
from protocol.operations import OPERATIONS
from protocol.requests import Refusal
from scripts.documents import asyncapi, openapi
from scripts.schemas import Components, Schema, components

ROOT: Final = Path(__file__).resolve().parent.parent
STATIC: Final = ROOT / "static"
DEFINITIONS: Final = "#/definitions/"
BANNER: Final = "/* Written by `python -m scripts.generate` from the structs in protocol/. Do not edit. */"
PROVENANCE: Final = re.compile(
    r"/\*\*\n \* This interface was referenced by .*\n \* via the .*\n \*/\n"
    r"| \* ?\n \* This interface was referenced by .*\n \* via the .*\n"
)
COMPILE_OPTIONS: Final = (
    "--additionalProperties=false",
    "--unreachableDefinitions",
    "--ignoreMinAndMaxItems",
)


def files() -> dict[Path, str]:
    """Return every generated file with its text. Raises BundleFailed when the npm packages cannot be had."""
    return {
        ROOT / "docs/asyncapi.json": json_text(asyncapi()),
        ROOT / "docs/openapi.json": json_text(openapi()),
        STATIC / "src/generated/protocol.ts": typescript(),
    }


def json_text(document: Schema) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def typescript() -> str:
    known = components(
        [*DASHBOARD_EVENTS.values(), *(operation.reply for operation in OPERATIONS.values()), Refusal, *REST_ANSWERS],
        [*(operation.request for operation in OPERATIONS.values()), *REST_REQUESTS],
        DEFINITIONS,
    )
    return f"{BANNER}\n\n{compiled(operations_schema(known)).strip()}\n\n{event_map()}\n{REQUEST_MAP}"


def operations_schema(known: Components) -> Schema:
    """Return the schema whose TypeScript is `interface Operations` and all that it and the events consist of."""
    properties = {
        name: {
            "type": "object",
            "description": OPERATION_SUMMARIES[name],
            "properties": {"request": known.taken(request), "reply": known.sent(reply)},
            "required": ["request", "reply"],
        }
        for name, (request, reply) in OPERATIONS.items()
    }
    return {
        "title": "Operations",
        "description": "Operations of the dashboards' socket: what is asked, and what `ok: true` brings.",
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "definitions": known.schemas,
    }


def compiled(schema: Schema) -> str:
    npm = npm_here()
    install_packages(npm, STATIC)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "protocol.json"), Path(folder, "protocol.ts")
        source.write_text(json.dumps(schema), encoding="utf-8")
        arguments = ["-i", str(source), "-o", str(target), "--bannerComment=", *COMPILE_OPTIONS]
        run_npm(npm, STATIC, "exec", "--offline", "--", "json2ts", *arguments)
        return PROVENANCE.sub("", target.read_text(encoding="utf-8"))


def event_map() -> str:
    lines = [f'  "{name}": (event: {event.__name__}) => void;' for name, event in DASHBOARD_EVENTS.items()]
    head = "/** What the hub sends; the first type argument of a socket.io client. */"
    return "\n".join([head, "export interface ServerToClientEvents {", *lines, "}", ""])


REQUEST_MAP: Final = """\
/** What a client may ask; the second type argument of a socket.io client. */
export type ClientToServerEvents = {
  [Name in keyof Operations]: (
    request: Operations[Name]["request"],
    acknowledge: (answer: Operations[Name]["reply"] | Refusal) => void,
  ) => void;
};
"""


def main(arguments: Sequence[str]) -> int:
    """Do what the command line asks and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.generate", description="Write what the protocol derives.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is stale")
    check = parser.parse_args(arguments).check
    try:
        stale = {path: text for path, text in files().items() if not path.is_file() or path.read_text("utf-8") != text}
    except BundleFailed as failure:
        print(f"{failure.output}\n{failure}", file=sys.stderr)
        return 1
    for path, text in stale.items():
        if check:
            print(f"stale: {path.relative_to(ROOT)}; run `python -m scripts.generate`")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
