"""What people show to prove who they are: a password, a code. Attempts are counted, wherever they are made."""

from __future__ import annotations

from typing import Final, Literal, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.access.limits import AttemptLimits
from hub_server.access.passwords import Passwords
from hub_server.access.second_factor import digest_of, is_code, step_of
from hub_server.access.store import AccessStore, Account
from hub_server.clock import Clock
from hub_server.errors import InvalidRequest

BAD_NAME_ATTEMPTS: Final = 100
"""Wrong passwords for a name from everywhere, in ten minutes: a stranger with a few addresses locks nobody out."""
BAD_NAME_ATTEMPTS_OF_A_NETWORK: Final = 10
SIGNED_IN: Final = "signed in"
"""What stands for a network where a signed-in person shows their password again: strangers spend nothing of it."""
CODE_ATTEMPTS: Final = 5
CODE_ATTEMPT_SECONDS: Final = 720.0
"""A wrong code costs one of five attempts, and one comes back in this time: guessing for a year succeeds once in 8."""
Factor = Literal["totp", "recovery-code"]


class Sealer(Protocol):
    """The vault for secrets in the database."""

    def seal(self, plaintext: bytes, *, table: str, column: str, row: str) -> bytes: ...

    def unseal(self, sealed: bytes, *, table: str, column: str, row: str) -> bytes: ...


class Credentials:
    """One for all who check what people show, so that attempts count together."""

    def __init__(self, *, clock: Clock, vault: Sealer, passwords: Passwords | None = None) -> None:
        self.passwords: Final = passwords or Passwords()
        self._by_name = AttemptLimits(clock, burst=BAD_NAME_ATTEMPTS, bad_allowed=BAD_NAME_ATTEMPTS)
        self._by_name_and_network = AttemptLimits(clock, bad_allowed=BAD_NAME_ATTEMPTS_OF_A_NETWORK)
        self._clock = clock
        self._vault = vault
        self._store = AccessStore()
        self._by_code = AttemptLimits(clock, burst=CODE_ATTEMPTS, per_second=1 / CODE_ATTEMPT_SECONDS)

    async def prove_password(self, account: Account, password: str, path: str) -> None:
        """Raises InvalidRequest when it is not the password of this person, RateLimited after too many of those."""
        self.spend_attempt(account.username, SIGNED_IN)
        if not await self.passwords.matches(account.password_hash, password):
            self.note_wrong(account.username, SIGNED_IN)
            raise InvalidRequest("the password is wrong", path=path)
        self.give_back_attempt(account.username, SIGNED_IN)

    def spend_attempt(self, username: str, network: str) -> None:
        """Take one attempt at a password. Raises RateLimited, and takes nothing then."""
        self._by_name.check(username)
        self._by_name_and_network.spend(_pair(username, network))
        self._by_name.spend(username)

    def give_back_attempt(self, username: str, network: str) -> None:
        """Undo one `spend_attempt`: the password was right."""
        self._by_name.give_back(username)
        self._by_name_and_network.give_back(_pair(username, network))

    def note_wrong(self, username: str, network: str) -> None:
        self._by_name.note_bad(username)
        self._by_name_and_network.note_bad(_pair(username, network))

    async def spend_code(self, connection: AsyncConnection, account: Account, code: str) -> Factor | None:
        """Burn a code of the authenticator, or a recovery code; return None when it is not good, or no more.

        Raises RateLimited after too many of those.
        """
        self._by_code.spend(account.user_id)
        factor = await self._spent(connection, account, code)
        if factor is not None:
            self._by_code.give_back(account.user_id)
        return factor

    def confirming_step(self, account: Account, code: str) -> int:
        """Return the time step of the first code of a secret that does not count yet.

        Raises InvalidRequest for a wrong code, RateLimited after too many of those.
        """
        self._by_code.spend(account.user_id)
        step = self._step_of(account, code)
        if step is None:
            raise InvalidRequest(
                "the code is wrong: take the one that your app shows now, and check the clock of its device",
                path="$.code",
            )
        self._by_code.give_back(account.user_id)
        return step

    def sealed(self, user_id: str, secret: str) -> bytes:
        return self._vault.seal(secret.encode(), table="users", column="totp_sealed", row=user_id)

    async def _spent(self, connection: AsyncConnection, account: Account, code: str) -> Factor | None:
        if not is_code(code):
            digest, now = digest_of(code), self._clock.now()
            is_good = await self._store.spend_recovery_code(connection, account.user_id, digest, now)
            return "recovery-code" if is_good else None
        step = self._step_of(account, code)
        if step is None or not await self._store.spend_step(connection, account.user_id, step):
            return None
        return "totp"

    def _step_of(self, account: Account, code: str) -> int | None:
        if account.totp_sealed is None or not is_code(code):
            return None
        secret = self._vault.unseal(account.totp_sealed, table="users", column="totp_sealed", row=account.user_id)
        return step_of(secret.decode(), code, self._clock.now(), account.totp_last_step)


def _pair(username: str, network: str) -> str:
    return f"{network} {username}"
