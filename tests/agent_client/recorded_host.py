"""A machine made of recordings: files in a folder, and what its tools answered once."""

from __future__ import annotations

from pathlib import Path

from agent_client.host import Answer

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> str:
    return (RECORDED / name).read_text()


class RecordedHost:
    """`answers`: the beginning of a command line → its exit code and output. Every other tool is not installed."""

    def __init__(self, root: Path, answers: dict[str, tuple[int, str]] | None = None, *, is_root: bool = True) -> None:
        self.answers = answers or {}
        self.asked: list[str] = []
        self._root = root
        self._is_root = is_root

    def ask(self, *argv: str, timeout_seconds: float = 60.0) -> Answer | None:
        assert timeout_seconds > 0
        line = " ".join(argv)
        self.asked.append(line)
        for beginning, (exit_code, output) in self.answers.items():
            if line.startswith(beginning):
                return Answer(exit_code, output)
        return None

    def path(self, absolute: str) -> Path:
        return self._root / absolute.removeprefix("/")

    def is_root(self) -> bool:
        return self._is_root

    def file(self, absolute: str, content: str = "") -> Path:
        path = self.path(absolute)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path
