"""`jtnt-hub` in this process, on a data folder of its own."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import structlog

from hub_server.cli.main import run


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


JtntHub = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Commands route logging to their own streams."""
    root, configuration = logging.getLogger(), structlog.get_config()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.configure(**configuration)
    root.handlers, root.level = handlers, level


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "hub"


@pytest.fixture
def jtnt_hub(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> JtntHub:
    """Runs a command on the data folder."""

    def called(*arguments: str) -> Outcome:
        code = run([*arguments, "--data-dir", str(data_dir)])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return called
