"""A database of one table that a model may do anything to: in SQLite in memory, or on a MySQL or MariaDB server."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from agentflan_ray.evaluate.benchmark import EnvironmentDied

STATEMENT_SECONDS = 5.0
MAX_ROWS = 1000
"""Rows that are fetched of an answer."""
_MAX_LENGTH = 1_000_000
_MAX_PAGES = 4096
_STEPS_BETWEEN_LOOKS = 10_000
_GROUP_CONCAT_MAX_LEN = 1024

_FORBIDDEN = {
    sqlite3.SQLITE_ATTACH,
    sqlite3.SQLITE_DETACH,
    sqlite3.SQLITE_PRAGMA,
    sqlite3.SQLITE_CREATE_VTABLE,
    sqlite3.SQLITE_DROP_VTABLE,
}


@dataclass(frozen=True, slots=True)
class TableData:
    """A table: every column is text."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Database(Protocol):
    """A database with one table."""

    def run(self, sql: str) -> str:
        """Runs one statement and gives its rows as Python writes them, or the error's text. Bounded in time, rows and
        memory."""

    def table_hash(self, table: TableData) -> str | None:
        """The hash of the table's rows as it is now; None where the table or a column is gone."""

    def close(self) -> None:
        """Throws it away."""


def rows_hash(rows: Sequence[Sequence[Any]]) -> str:
    """AgentBench's hash of a table, without a server.

    Upstream's is ``md5(group_concat(substring(md5(concat_ws(',', columns)), 1, 5) order by 1))`` on MySQL, whose
    ``concat_ws`` leaves out NULL and whose ``group_concat`` stops at 1,024 characters.
    """
    hashes = sorted(
        hashlib.md5(",".join(str(value) for value in row if value is not None).encode()).hexdigest()[:5] for row in rows
    )
    return hashlib.md5(",".join(hashes)[:_GROUP_CONCAT_MAX_LEN].encode()).hexdigest()


class SqliteDatabase:
    """In memory, in this process. Other files, settings and extensions are out of reach of its statements."""

    def __init__(self, table: TableData) -> None:
        self._connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._connection.execute(f"PRAGMA max_page_count = {_MAX_PAGES}")
        columns = ", ".join(f"{_quoted(name)} TEXT" for name in table.columns)
        self._connection.execute(f"CREATE TABLE {_quoted(table.name)} ({columns})")
        self._connection.executemany(
            f"INSERT INTO {_quoted(table.name)} VALUES ({', '.join('?' * len(table.columns))})", table.rows
        )
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_LENGTH)
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, 100_000)
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 200)
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1_000)
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        self._connection.set_authorizer(_authorise)

    def run(self, sql: str) -> str:
        end = time.monotonic() + STATEMENT_SECONDS
        self._connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS_BETWEEN_LOOKS)
        try:
            cursor = self._connection.execute(sql)
            rows = cursor.fetchmany(MAX_ROWS)
            return str(rows) if cursor.description else ""
        except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError) as error:
            return str(error) or type(error).__name__

    def table_hash(self, table: TableData) -> str | None:
        self._connection.set_authorizer(None)
        try:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK") if self._connection.in_transaction else None
            return rows_hash(self._connection.execute(_select(table)).fetchall())
        except sqlite3.Error:
            return None
        finally:
            self._connection.set_authorizer(_authorise)

    def close(self) -> None:
        self._connection.close()


class MysqlDatabase:
    """A fresh database on a server, with a user of its own who may do nothing elsewhere; both are dropped at the end.

    ``url`` is ``mysql://user:password@host:port/`` or ``mysql://user@/?unix_socket=PATH``; this user makes databases
    and users. Tried on MariaDB 10.11.
    """

    def __init__(self, url: str, table: TableData) -> None:
        import pymysql

        self._errors = (pymysql.MySQLError, ValueError, OSError)
        self._name = f"agentflan_{secrets.token_hex(8)}"
        password = secrets.token_hex(16)
        try:
            self._admin = pymysql.connect(**_address(url), charset="utf8mb4", autocommit=True, connect_timeout=10)
        except pymysql.MySQLError as error:
            raise EnvironmentDied(f"The MySQL server does not answer: {error}") from error
        try:
            with self._admin.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {self._name} CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci")
                cursor.execute(f"CREATE USER {self._name}@'%%' IDENTIFIED BY %s", (password,))
                cursor.execute(f"GRANT ALL PRIVILEGES ON {self._name}.* TO {self._name}@'%'")
                where = f"{self._name}.{_quoted(table.name)}"
                columns = ", ".join(f"{_quoted(name)} TEXT" for name in table.columns)
                cursor.execute(f"CREATE TABLE {where} ({columns})")
                marks = ", ".join(["%s"] * len(table.columns))
                cursor.executemany(f"INSERT INTO {where.replace('%', '%%')} VALUES ({marks})", table.rows)
            self._address = {**_address(url), "user": self._name, "password": password, "database": self._name}
            self._user = self._connect()
        except pymysql.MySQLError as error:
            self._drop()
            raise EnvironmentDied(f"The MySQL server could not make a database for an item: {error}") from error

    def run(self, sql: str) -> str:
        from pymysql.cursors import SSCursor

        try:
            if not self._user.open:
                self._user = self._connect()
            with self._user.cursor(SSCursor) as cursor:
                cursor.execute(sql)
                rows = cursor.fetchmany(MAX_ROWS) if cursor.description else []
                if len(rows) == MAX_ROWS:
                    self._user.close()  # rather than read what is left of an endless answer
                return str(list(rows)) if cursor.description else ""
        except self._errors as error:
            return str(error)

    def _connect(self) -> Any:
        import pymysql

        user = pymysql.connect(
            **self._address, charset="utf8mb4", autocommit=True, connect_timeout=10, read_timeout=4 * STATEMENT_SECONDS
        )
        with user.cursor() as cursor:
            if "MariaDB" in user.get_server_info():
                cursor.execute(f"SET SESSION max_statement_time = {STATEMENT_SECONDS}")
            else:
                cursor.execute(f"SET SESSION max_execution_time = {int(1000 * STATEMENT_SECONDS)}")
        return user

    def table_hash(self, table: TableData) -> str | None:
        try:
            with self._admin.cursor() as cursor:
                cursor.execute(_select(table, f"{self._name}."))
                return rows_hash(cursor.fetchall())
        except self._errors:
            return None

    def close(self) -> None:
        with suppress(Exception):
            self._user.close()
        self._drop()

    def _drop(self) -> None:
        with suppress(*self._errors), self._admin.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {self._name}")
            cursor.execute(f"DROP USER IF EXISTS {self._name}@'%'")
        with suppress(*self._errors):
            self._admin.close()


def _authorise(action: int, _first: str | None, second: str | None, _database: str | None, _inner: str | None) -> int:
    denied = action in _FORBIDDEN or (action == sqlite3.SQLITE_FUNCTION and second == "load_extension")
    return sqlite3.SQLITE_DENY if denied else sqlite3.SQLITE_OK


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _select(table: TableData, prefix: str = "") -> str:
    return f"SELECT {', '.join(map(_quoted, table.columns))} FROM {prefix}{_quoted(table.name)}"


def _address(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme not in ("mysql", "mariadb"):
        raise ValueError(f"mysql_url is {url!r}; give one like mysql://user:password@host:3306/.")
    address: dict[str, Any] = {"user": unquote(parts.username or "root"), "password": unquote(parts.password or "")}
    if socket := parse_qs(parts.query).get("unix_socket"):
        return {**address, "unix_socket": socket[0]}
    return {**address, "host": parts.hostname or "127.0.0.1", "port": parts.port or 3306}
