"""The pins of this project: `requirements/*.txt`, made of pyproject.toml, with hashes and for every platform."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from scripts.environment import Environment, run, say, uv_of

PINNED_FROM: Final[Mapping[str, Sequence[str]]] = {
    "requirements/run.txt": ("pyproject.toml", "--extra", "hub"),
    "requirements/dev.txt": (
        "pyproject.toml",
        "--extra",
        "hub",
        "--group",
        "dev",
        "--constraint",
        "requirements/run.txt",
    ),
    "requirements/uv.txt": ("--group", "installer"),
}
OPTIONS: Final = ("--universal", "--generate-hashes", "--no-annotate", "--python-version", "3.11", "--quiet")
HEADER: Final = "python3 scripts/dev.py lock"


def lock(root: Path, arguments: Sequence[str]) -> None:
    """Write the pins anew; what is pinned stays unless `arguments` has uv's `--upgrade`. Raises SetupFailed."""
    uv = uv_of(Environment(root))
    for name, sources in PINNED_FROM.items():
        say(f"pinning {name}")
        command = [uv, "pip", "compile", *sources, *OPTIONS, "--custom-compile-command", HEADER]
        run([*command, *arguments, "--output-file", name], root, f"{name} could not be written")
