"""The two roles of the database (deploy/postgres/roles.sql), made as on AWS (deploy/terraform/bootstrap.sh), on a
PostgreSQL whose administrator is, as RDS's, no superuser."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from settler.storage import migrate
from settler.storage.engine import Database
from tests.support.postgres import SUPERUSER, PostgresServer

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
ADMINISTRATOR = "administrator"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Its superuser is called `postgres`: the tests' usual one has the name of the daemon's role."""
    server = PostgresServer()
    server.start()
    try:
        with psycopg.connect(server.url("postgres"), autocommit=True) as conn:
            conn.execute("CREATE ROLE postgres SUPERUSER LOGIN")
        with psycopg.connect(_url(server, "postgres", "postgres"), autocommit=True) as conn:
            conn.execute(f"ALTER ROLE {SUPERUSER} RENAME TO initial")
            conn.execute(f"CREATE ROLE {ADMINISTRATOR} LOGIN CREATEROLE CREATEDB")
            conn.execute(f"CREATE DATABASE settler OWNER {ADMINISTRATOR}")
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def bootstrapped(server: PostgresServer) -> PostgresServer:
    _bootstrap(server)
    return server


def test_bootstrap__run_twice__makes_both_roles_with_hashed_passwords(bootstrapped: PostgresServer) -> None:
    _bootstrap(bootstrapped)
    with psycopg.connect(_url(bootstrapped, "postgres", "postgres")) as conn:
        made = conn.execute(
            "SELECT rolname, rolpassword LIKE 'SCRAM-SHA-256$%', rolsuper OR rolcreaterole OR rolcreatedb"
            " FROM pg_authid WHERE rolname LIKE 'settler%' ORDER BY 1"
        ).fetchall()
    assert made == [("settler", True, False), ("settler_migrator", True, False)]


async def test_daemons_role__after_a_migration_by_the_other__writes_rows_and_changes_no_table(
    bootstrapped: PostgresServer,
) -> None:
    await migrate.upgrade(_url(bootstrapped, "settler_migrator"))
    db = await Database.open(_url(bootstrapped, "settler"))
    try:
        assert isinstance(await migrate.state(db), migrate.Current)
    finally:
        await db.dispose()
    with psycopg.connect(_url(bootstrapped, "settler"), autocommit=True) as conn:
        tables = [name for (name,) in conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        assert "settlements" in tables
        for table in tables:
            rights = "has_table_privilege(%(t)s, 'SELECT') AND has_table_privilege(%(t)s, 'INSERT, UPDATE, DELETE')"
            assert conn.execute(f"SELECT {rights}", {"t": table}).fetchone() == (True,), table
        for statement in (
            "DROP TABLE settlements",
            "ALTER TABLE settlements DISABLE TRIGGER ALL",
            "TRUNCATE settlements",
            "CREATE TABLE mine (id int)",
            "SET ROLE settler_migrator",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(statement)
        conn.execute("DELETE FROM leases")


def test_others__without_a_right__do_not_get_into_the_database(bootstrapped: PostgresServer) -> None:
    with psycopg.connect(_url(bootstrapped, "postgres", "postgres"), autocommit=True) as conn:
        conn.execute("DROP ROLE IF EXISTS stranger")
        conn.execute("CREATE ROLE stranger LOGIN")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(_url(bootstrapped, "stranger"))


def _url(server: PostgresServer, user: str, database: str = "settler") -> str:
    return f"postgresql://{user}@/{database}?host={server.directory}&port={server.port}"


def _bootstrap(server: PostgresServer) -> None:
    """As the task does: the file as `sh -euc`'s text, everything else in variables, no terminal."""
    script = (DEPLOY / "terraform" / "bootstrap.sh").read_text()
    done = subprocess.run(
        ["/bin/sh", "-euc", script],
        env={
            "PATH": f"{server._bin}:/usr/bin:/bin",
            "PGHOST": str(server.directory),
            "PGPORT": str(server.port),
            "PGUSER": ADMINISTRATOR,
            "PGDATABASE": "settler",
            "ROLES_SQL": (DEPLOY / "postgres" / "roles.sql").read_text(),
            "SETTLER_PASSWORD": "first-of-them",
            "MIGRATOR_PASSWORD": "second-of-them",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stderr
    assert "-of-them" not in done.stdout + done.stderr
