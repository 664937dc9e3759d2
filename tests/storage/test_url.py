"""Which database a URL names; and that no message gives a password away."""

from __future__ import annotations

from pathlib import Path

import pytest

from settler.storage.errors import InvalidDatabaseUrl
from settler.storage.url import PostgresUrl, SqliteUrl, parse_url


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_parse_url__no_path__is_in_memory(url: str) -> None:
    assert parse_url(url) == SqliteUrl(path=None)


def test_parse_url__three_slashes__is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_url("sqlite:///settler.db") == SqliteUrl(path=Path("settler.db"))


def test_parse_url__four_slashes__is_absolute(tmp_path: Path) -> None:
    assert parse_url(f"sqlite:///{tmp_path}/a b%.db") == SqliteUrl(path=tmp_path / "a b%.db")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u@h/db", {"user": "u", "host": "h", "dbname": "db"}),
        ("postgres://u:p%40w@h:5433/db", {"user": "u", "password": "p@w", "host": "h", "port": "5433", "dbname": "db"}),
        ("postgresql+psycopg://h/db", {"host": "h", "dbname": "db"}),
        (
            "postgresql://h1:1,h2:2/db?target_session_attrs=read-write",
            {"host": "h1,h2", "port": "1,2", "dbname": "db", "target_session_attrs": "read-write"},
        ),
        ("postgresql://u@/db?host=/run/postgresql", {"user": "u", "dbname": "db", "host": "/run/postgresql"}),
        ("postgresql://", {}),
    ],
)
def test_parse_url__postgresql__is_read_as_libpq_does(url: str, expected: dict[str, str]) -> None:
    assert parse_url(url) == PostgresUrl(connect_args=expected)


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("", "no scheme; write sqlite:///"),
        ("settler.db", "no scheme; write sqlite:///"),
        ("sqlite:settler.db", "no scheme; write sqlite:///"),
        ("mysql://u:hunter2@h/db", "begins with mysql://"),
        ("postgresql+asyncpg://u:hunter2@h/db", "begins with postgresql\\+asyncpg://"),
        ("sqlite://settler.db", "three slashes"),
        ("sqlite:///settler.db?mode=ro", "no parameters"),
        ("sqlite:////no/such/directory/settler.db", "make it first"),
        ("sqlite:////", "is a directory"),
        (f"sqlite:////{'x' * 300}", "File name too long"),
        ("postgresql://u:hunter2@h:port/db", "quote special characters"),
        ("postgresql://u:hun/ter2@h/db", "quote special characters"),
        ("postgresql://u:hunter2@h/db?nonsense=1", "quote special characters"),
        ("postgresql://u:hunter2@h/db%", "quote special characters"),
    ],
)
def test_parse_url__not_ours__is_refused_with_the_remedy(url: str, remedy: str) -> None:
    with pytest.raises(InvalidDatabaseUrl, match=remedy) as caught:
        parse_url(url)
    shown = f"{caught.value} {caught.value.__cause__}"
    assert "hunter2" not in shown
    assert "hun" not in shown
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_postgres_url__shown__hides_the_password() -> None:
    assert "hunter2" not in repr(parse_url("postgresql://u:hunter2@h/db"))
