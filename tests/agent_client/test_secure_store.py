import os
import stat
from pathlib import Path

import pytest

from agent_client.store.secure import InsecureFile, SecureStore, StoreError, Unwritable


@pytest.fixture
def store(tmp_path: Path) -> SecureStore:
    return SecureStore(tmp_path / "deep" / "certs")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_was_saved_is_loaded_until_it_is_deleted(store: SecureStore) -> None:
    assert not store.exists("client.key")
    store.save("client.key", b"one")
    store.save("client.key", b"two")
    assert store.exists("client.key")
    assert store.load("client.key") == b"two"
    store.delete("client.key")
    store.delete("client.key")
    assert not store.exists("client.key")
    with pytest.raises(StoreError, match=r"client\.key"):
        store.load("client.key")


def test_files_and_their_folder_are_for_the_owner_alone_whatever_the_umask(store: SecureStore) -> None:
    before = os.umask(0)
    try:
        store.save("client.key", b"secret")
    finally:
        os.umask(before)
    assert mode(store.directory / "client.key") == 0o600
    assert mode(store.directory) == 0o700
    assert [path.name for path in store.directory.iterdir()] == ["client.key"]


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o660, 0o601])
def test_a_file_that_others_may_touch_is_refused(store: SecureStore, bits: int) -> None:
    store.save("client.key", b"secret")
    (store.directory / "client.key").chmod(bits)
    with pytest.raises(InsecureFile, match="chmod 600"):
        store.load("client.key")
    store.set_permissions(store.directory / "client.key")
    assert store.load("client.key") == b"secret"


def test_a_file_of_another_owner_is_refused(store: SecureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save("client.key", b"secret")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(InsecureFile, match="belongs to user"):
        store.load("client.key")


@pytest.mark.parametrize("what", ["link", "pipe", "open to others"])
def test_a_file_that_is_exchanged_before_it_is_opened_is_not_read(
    store: SecureStore, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """As by the user of a daemon whose folder an executor of root's reads."""
    store.save("client.key", b"secret")
    path = store.directory / "client.key"
    seen = path.lstat()
    path.unlink()
    match what:
        case "link":
            path.symlink_to("/dev/zero")
        case "pipe":
            os.mkfifo(path, 0o600)
        case _:
            path.write_bytes(b"x")
            path.chmod(0o644)
    monkeypatch.setattr(Path, "lstat", lambda _path: seen)
    with pytest.raises(StoreError, match=r"client\.key"):
        store.load("client.key")


def test_a_link_is_no_file_of_ours(store: SecureStore, tmp_path: Path) -> None:
    store.save("other", b"x")
    (store.directory / "client.key").symlink_to(store.directory / "other")
    with pytest.raises(InsecureFile, match="regular file"):
        store.load("client.key")
    store.save("client.key", b"mine")
    assert store.load("other") == b"x"


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(InsecureFile, match="written by others"):
        SecureStore(folder).save("client.key", b"secret")
    assert not list(folder.iterdir())


@pytest.mark.parametrize("step", ["fsync", "write", "replace"])
def test_a_crash_while_saving_leaves_the_old_content_whole(
    store: SecureStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store.save("config.json", b"old and whole")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    match step:
        case "fsync":
            monkeypatch.setattr(os, "fsync", fail)
        case "write":
            monkeypatch.setattr(os, "fdopen", fail)
        case _:
            monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(Unwritable, match="No space left"):
        store.save("config.json", b"new")
    monkeypatch.undo()
    assert store.load("config.json") == b"old and whole"


def test_the_content_is_on_disk_before_its_name_is_and_then_the_folder(
    store: SecureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.prepare()
    order: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        order.append("fsync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync file")
        real_fsync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        order.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    store.save("client.key", b"secret")
    assert order == ["fsync file", "rename", "fsync folder"]


def test_what_a_crash_left_of_a_save_does_not_hinder_the_next(store: SecureStore) -> None:
    store.prepare()
    (store.directory / ".client.key.new").write_bytes(b"half")
    store.save("client.key", b"whole")
    assert store.load("client.key") == b"whole"


@pytest.mark.parametrize("key", ["", ".", "..", "a/b", "/etc/passwd"])
def test_a_key_is_a_name_and_no_path(store: SecureStore, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        store.save(key, b"")
