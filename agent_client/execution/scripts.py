"""Scripts of jobs, on disk from the moment they are accepted until they have run."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from agent_client.execution.account import Account
from agent_client.store.secure import DIRECTORY_MODE, SecureStore, StoreError
from protocol.actions import BadOrder, script_hash
from protocol.envelope import JobEnvelope

_PREFIX: Final = "jtnt-job-"


class Scripts:
    """Each under its job's id, in a folder for the executor alone."""

    def __init__(self, folder: Path) -> None:
        self._store = SecureStore(folder)

    def keep(self, job_id: str, body: bytes) -> None:
        """On disk when the call returns. Raises StoreError."""
        self._store.save(job_id, body)

    def discard(self, job_id: str) -> None:
        with suppress(StoreError):
            self._store.delete(job_id)

    def remove_strays(self, job_ids: Collection[str]) -> None:
        """Remove those of all other jobs: a crash came before they were."""
        for path in self._store.directory.glob("*"):
            if path.name not in job_ids:
                path.unlink(missing_ok=True)

    @contextmanager
    def laid_out(self, envelope: JobEnvelope, account: Account | None) -> Iterator[Path]:
        """Yield where the script of the order can be run (0700) by `account`; it is removed at the end of the block.

        Raises BadOrder when it is not the one that was signed any more, OSError when it cannot be written.
        """
        try:
            body = self._store.load(envelope.job_id)
        except StoreError as error:
            raise BadOrder(f"the script is not at hand any more: {error}") from error
        if script_hash(body) != envelope.script_sha256:
            raise BadOrder("the script is not the signed one any more")
        try:
            if account is None or account.is_ours:
                path = self._store.verified(envelope.job_id)
                path.chmod(DIRECTORY_MODE)
                yield path
            else:
                with _lent(body, account) as path:
                    yield path
        finally:
            self.discard(envelope.job_id)


@contextmanager
def _lent(body: bytes, account: Account) -> Iterator[Path]:
    """Yield a copy that another user can read and run: ours is in a folder that nobody else may enter."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        path = folder / "script"
        path.write_bytes(body)
        if sys.platform != "win32":
            for mine in (path, folder):
                mine.chmod(DIRECTORY_MODE)
                os.chown(mine, account.user_id, account.group_id)
        yield path
    finally:
        shutil.rmtree(folder, ignore_errors=True)
