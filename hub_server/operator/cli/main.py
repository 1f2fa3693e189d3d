"""`jtnt`: what a person does with a fleet, from a terminal."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Final

from hub_server.operator.cli.arguments import parsed
from hub_server.operator.cli.outcome import Exit, Failed, exit_of
from hub_server.operator.errors import OperatorError
from hub_server.terminal.columns import visible

DISTRIBUTION: Final = "jtnt"
VERSION: Final = "--version"


def run(arguments: Sequence[str]) -> int:
    """Do what `arguments` ask; return the exit code. Wrong usage raises SystemExit with 2."""
    if list(arguments) == [VERSION]:
        print(f"jtnt {metadata.version(DISTRIBUTION)}")
        return Exit.DONE
    code: int = Exit.DONE
    try:
        code = asyncio.run(obeyed(parsed(arguments)))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to flush goes nowhere
        return code or _said("nobody reads the output any more", Exit.SOME_FAILED)  # else it has been said
    except KeyboardInterrupt:
        return Exit.CANCELLED
    return code


async def obeyed(options: argparse.Namespace) -> int:
    """Do what checked arguments ask; say what went wrong. Return the exit code."""
    module = importlib.import_module(f"hub_server.operator.cli.{options.module}")
    try:
        code: int = await getattr(module, options.function)(options)
    except Failed as failed:
        return _said(failed.message, failed.code)
    except OperatorError as error:
        return _said(error.message, exit_of(error))
    return code


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def _said(message: str, code: Exit) -> int:
    print(visible(f"jtnt: {message}"), file=sys.stderr)
    return code
