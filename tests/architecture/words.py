"""Words that no file may hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tests.architecture.source import Finding, Tree

REGISTRY_HOSTS: Final = re.compile(
    r"\b(?:(?:[a-z-]+[.])?py[p]i[.]org|[a-z-]*[.]?python[h]osted[.]org|registry[.](?:npmjs[.]org|yarnpkg[.]com)|npmjs[.]com"
    r"|(?:static[.])?crates[.]io|(?:proxy|sum)[.]golang[.]org|rubygems[.]org|repo[.]maven[.]apache[.]org"
    r"|(?:hub|registry-1)[.]docker[.](?:com|io)|ghcr[.]io|quay[.]io|conda[.]anaconda[.]org|jsr[.]io)\b"
)
LEFTOVERS: Final = re.compile(r"\b(?:TO[D]O|FIX[M]E|XX[X]|HAC[K])\b")
DOCUMENT: Final = re.compile(r"\b[A-Z][A-Z_]+\.md\b")
CODE_FILES: Final = (".py", ".ts", ".svelte", ".css", ".html", ".toml", ".cfg", ".sh")


def no_registry_host(tree: Tree) -> Iterator[Finding]:
    """No file names the host of a package registry."""
    for path, text in tree.text_files():
        for number, line in enumerate(text.splitlines(), start=1):
            if found := REGISTRY_HOSTS.search(line):
                yield Finding(path, number, f"names {found.group()}")


def no_leftovers(tree: Tree) -> Iterator[Finding]:
    """Nothing in the code is marked as to be done later."""
    for path, text in tree.text_files():
        if not path.endswith(CODE_FILES):
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if found := LEFTOVERS.search(line):
                yield Finding(path, number, f"says {found.group()}")


def documents_exist(tree: Tree) -> Iterator[Finding]:
    """A document that the code or another document names is there."""
    texts = dict(tree.text_files())
    names = {path.rpartition("/")[2] for path in texts}
    for path, text in texts.items():
        if not path.endswith((*CODE_FILES, ".md")):
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            for found in DOCUMENT.findall(line):
                if found.rpartition("/")[2] not in names:
                    yield Finding(path, number, f"names {found}, which does not exist")
