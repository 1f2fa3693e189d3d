"""The process of a plugin that is a Python function.

`python -m agent_client.plugins.entry_point MODULE:FUNCTION FOLDER` calls the function without arguments and writes the
dict it returns. What it prints goes to standard error.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from contextlib import redirect_stdout
from pathlib import Path

import msgspec

from agent_client.ownership import Untrusted, check_unchangeable


def main() -> int:
    module_name, _, function_name = sys.argv[1].partition(":")
    try:
        _look_first_in(Path(sys.argv[2]))
        _check(module_name)
        with redirect_stdout(sys.stderr):
            figures = getattr(importlib.import_module(module_name), function_name)()
        written = msgspec.json.encode(figures)
    except Untrusted as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except Exception as error:  # noqa: BLE001  the plugin's own fault, whatever it is: said in one line
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    sys.stdout.buffer.write(written)
    return 0


def _look_first_in(folder: Path) -> None:
    """Raise Untrusted when somebody else could put a module there: it would go before every other of its name."""
    if folder.is_dir():
        check_unchangeable(folder)
    sys.path.insert(0, str(folder))


def _check(module_name: str) -> None:
    """Raise Untrusted when somebody else could change the module or a package that it is in; before any of it runs."""
    parts = module_name.split(".")
    for depth in range(1, len(parts) + 1):
        found = importlib.util.find_spec(".".join(parts[:depth]))
        if found is not None and found.origin is not None and found.has_location:
            check_unchangeable(Path(found.origin))


if __name__ == "__main__":
    sys.exit(main())
