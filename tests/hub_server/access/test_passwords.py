import asyncio

from hub_server.access.passwords import Passwords
from hub_server.errors import Unavailable


async def test_the_default_is_argon2id_with_64_mib_and_three_passes() -> None:
    stored = await Passwords().hash("marzipan-bicycle-42")
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=1$")


async def test_only_the_right_password_matches() -> None:
    passwords = Passwords(time_cost=1, memory_kib=8)
    stored = await passwords.hash("right")
    assert await passwords.matches(stored, "right")
    assert not await passwords.matches(stored, "wrong")
    assert not await passwords.matches(None, "right")
    assert not await passwords.matches(None, "nobody has this password")
    assert not await passwords.matches("no hash at all", "right")


async def test_the_line_is_bounded_and_empties_again() -> None:
    passwords = Passwords(time_cost=1, memory_kib=8, at_once=1, in_line=2)
    outcomes = await asyncio.gather(*(passwords.hash("x") for _ in range(5)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [str, str, str, Unavailable, Unavailable]
    assert await passwords.hash("x")
