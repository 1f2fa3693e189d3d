"""The PostgreSQL that the tests get is a real one, and every test has a database of its own."""

from pathlib import Path

import asyncpg
import pytest

from tests.servers.postgres import NoPostgres, PostgresServer, programs_here, running_server


def dsn_of(url: str) -> str:
    return url.replace("+asyncpg", "")


@pytest.mark.parametrize("time", ["first", "second"])
async def test_a_test_gets_an_empty_database_of_its_own(postgres_url: str, time: str) -> None:
    connection = await asyncpg.connect(dsn_of(postgres_url))
    try:
        assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
        await connection.execute("CREATE TABLE mark (value integer)")
    finally:
        await connection.close()


async def test_a_database_is_dropped_while_somebody_is_connected(postgres_server: PostgresServer) -> None:
    postgres_server.create("busy")
    connection = await asyncpg.connect(dsn_of(postgres_server.url_of("busy")))
    try:
        postgres_server.drop("busy")
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute("SELECT 1")
    finally:
        connection.terminate()
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(dsn_of(postgres_server.url_of("busy")))


async def test_a_wrong_password_is_refused(postgres_server: PostgresServer) -> None:
    url = dsn_of(postgres_server.url_of("postgres")).replace(postgres_server.password, "wrong")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(url)


async def test_the_server_stops_when_what_used_it_fails() -> None:
    urls: list[str] = []

    def use_and_fail() -> None:
        with running_server() as server:
            server.create("used")
            urls.append(dsn_of(server.url_of("used")))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use_and_fail()
    with pytest.raises(ConnectionError):
        await asyncpg.connect(urls[0])


def test_a_named_folder_without_the_programs_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JTNT_POSTGRES_BIN", str(tmp_path))
    with pytest.raises(NoPostgres, match="JTNT_POSTGRES_BIN names"):
        programs_here()
