"""The tables of a feedback database, and its connection."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tfmodel.config import ConfigError
from tfmodel.serve.feedback.settings import DEFAULT_DATABASE

_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)\}")
_EXAMPLES = "sqlite:///feedback.db or postgresql://USER@HOST/DATABASE"


def require_extra() -> None:
    """Meet a missing package before anything else.

    Raises:
        ConfigError: the extra `feedback` is not installed.
    """
    try:
        import sqlalchemy  # noqa: F401
    except ImportError:
        raise ConfigError(
            "Expected the packages of the extra feedback. Received: an environment without "
            "sqlalchemy. Install them: pip install 'tfmodel[feedback]'"
        ) from None


class Tables:
    """Requests, their rows, corrections, and copies.

    A row belongs to a request; a correction to a row, by its key, or to a text that was sent by
    itself; a copy to a row that a version on trial was asked, too. Labels, answers and places are
    JSON. Times are seconds since 1970.

    Attributes:
        metadata: of SQLAlchemy.
        requests: what was asked of which version.
        rows: the texts of a request, and what was answered.
        corrections: what is right, the latest last.
        copies: what a version on trial answers in place of the one in service.
    """

    def __init__(self):
        import sqlalchemy as sa

        number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
        self.metadata = sa.MetaData()
        self.requests = sa.Table(
            "tfmodel_requests",
            self.metadata,
            sa.Column("id", sa.String(32), primary_key=True),
            sa.Column("time", sa.Double, nullable=False, index=True),
            sa.Column("model", sa.String(255), nullable=False),
            sa.Column("version", sa.BigInteger),
            sa.Column("version_label", sa.String(255)),
            sa.Column("signature", sa.String(255)),
            sa.Column("task", sa.String(32)),
            sa.Column("door", sa.String(8), nullable=False),
            sa.Column("seconds", sa.Double, nullable=False),
            sa.Column("sample", sa.Double, nullable=False),
        )
        self.rows = sa.Table(
            "tfmodel_rows",
            self.metadata,
            sa.Column("request_id", sa.String(32), primary_key=True),
            sa.Column("row", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("text", sa.Text, nullable=False),
            sa.Column("text_pair", sa.Text),
            sa.Column("answer", sa.Text),
            # How places of the texts as they were sent are found in those that are stored.
            sa.Column("changes", sa.Text),
        )
        self.corrections = sa.Table(
            "tfmodel_corrections",
            self.metadata,
            sa.Column("number", number, primary_key=True, autoincrement=True),
            sa.Column("id", sa.String(64), nullable=False, unique=True),
            sa.Column("row_key", sa.String(72), nullable=False, index=True),
            sa.Column("request_id", sa.String(32), index=True),
            sa.Column("row", sa.Integer),
            sa.Column("time", sa.Double, nullable=False, index=True),
            sa.Column("model", sa.String(255), nullable=False),
            sa.Column("version", sa.BigInteger),
            sa.Column("task", sa.String(32), nullable=False),
            sa.Column("label", sa.Text, nullable=False),
            # Of a text that was sent by itself.
            sa.Column("text", sa.Text),
            sa.Column("text_pair", sa.Text),
            # Why no training can use it.
            sa.Column("problem", sa.String(64)),
        )
        self.copies = sa.Table(
            "tfmodel_copies",
            self.metadata,
            sa.Column("request_id", sa.String(32), primary_key=True),
            sa.Column("row", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("time", sa.Double, nullable=False, index=True),
            sa.Column("model", sa.String(255), nullable=False),
            sa.Column("task", sa.String(32)),
            sa.Column("old", sa.BigInteger, nullable=False),
            sa.Column("new", sa.BigInteger, nullable=False),
            # Of the new version, as `answer` of the row is of the old one.
            sa.Column("answer", sa.Text),
            # How far the answers agreed before anything private was replaced, from 0 to 1.
            sa.Column("agrees", sa.Double),
            # Of the request, each version asked for the copy alone.
            sa.Column("old_seconds", sa.Double, nullable=False),
            sa.Column("new_seconds", sa.Double, nullable=False),
            # The code of the new version's failure.
            sa.Column("problem", sa.String(32)),
        )


def open_engine(url: str, *, wait_seconds: float = 5.0, must_exist: bool = False) -> Any:
    """An engine for a database; it connects when it is first used.

    Args:
        url: of SQLAlchemy; `${NAME}` is read from the environment: the whole URL, or a part of it,
            such as a password, which is escaped.
        wait_seconds: for a lock, a connection or a statement.
        must_exist: refuse a file of SQLite that is not there, in place of making one, and leave one
            that is there as it is.

    Returns:
        A `sqlalchemy.Engine` whose errors tell no values.

    Raises:
        ConfigError: not such a URL, its driver is not installed, or a folder or file is missing. No
            message repeats the URL, which may hold a password.
    """
    require_extra()
    import sqlalchemy as sa

    try:
        parsed = sa.make_url(_expanded(url))
    except (sa.exc.ArgumentError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"Expected the URL of a database, such as {_EXAMPLES}. Received: one that cannot be "
            "read. In a password, write @ as %40 and / as %2F."
        ) from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    options: dict[str, Any] = {"hide_parameters": True, "pool_pre_ping": True}
    backend = parsed.drivername.partition("+")[0]
    if backend == "sqlite":
        _check_file(parsed.database, must_exist)
        options["connect_args"] = {"timeout": wait_seconds, "check_same_thread": False}
    elif parsed.drivername == "postgresql+psycopg":
        limit = math.ceil(1000 * wait_seconds)
        options["connect_args"] = {
            "connect_timeout": max(2, math.ceil(wait_seconds)),
            "options": f"-c statement_timeout={limit} -c lock_timeout={limit}",
        }
    try:
        engine = sa.create_engine(parsed, **options)
    except (ImportError, sa.exc.NoSuchModuleError) as error:
        known = "pip install 'tfmodel[feedback]' has those of SQLite and PostgreSQL"
        name = getattr(error, "name", None) or parsed.drivername
        raise ConfigError(
            f"Expected a database whose driver is installed. Received: one that needs {name}. "
            f"Install it; {known}."
        ) from None
    except (sa.exc.ArgumentError, TypeError, ValueError):
        raise ConfigError(
            f"Expected the URL of a database, such as {_EXAMPLES}. Received: one with options that "
            f"{backend} does not take."
        ) from None
    if backend == "sqlite":
        sa.event.listen(engine, "connect", _set_up_sqlite)
        if not must_exist:  # a file that is there may be anybody's
            sa.event.listen(engine, "connect", _set_up_file)
    return engine


def shown(engine: Any) -> str:
    """What messages call a database: nothing of its user, password or options."""
    url = engine.url
    place = url.database or "memory"
    if url.host:
        place = f"{url.host}/{place}"
    return f"{url.drivername.partition('+')[0]}:{place}"


def is_of_values(error: Exception) -> bool:
    """Whether the values are at fault, and not the database."""
    import sqlalchemy as sa

    if isinstance(error, sa.exc.DBAPIError):
        return isinstance(error, sa.exc.IntegrityError | sa.exc.DataError)
    if isinstance(error, sa.exc.SQLAlchemyError):
        return isinstance(error, sa.exc.StatementError)
    return not isinstance(error, OSError)


def kind_of(error: Exception) -> str:
    """What went wrong, without a word of the driver's: it may name users and hosts."""
    inner = getattr(error, "orig", None)
    return type(error if inner is None else inner).__name__


def _set_up_sqlite(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    # What is committed outlives a power cut; what is deleted is written over.
    for pragma in ("synchronous=FULL", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _set_up_file(connection: Any, record: Any) -> None:
    # Readers do not wait for the writer; the file says so from now on.
    connection.execute("PRAGMA journal_mode=WAL").close()


def _check_file(database: str | None, must_exist: bool) -> None:
    if not database or ":memory:" in database or "mode=memory" in database:
        raise ConfigError(
            "Expected a database that outlives the process. Received: SQLite in memory. Name a "
            f"file: {DEFAULT_DATABASE}"
        )
    if database.startswith("file:"):
        return  # SQLite's own URI, with what it allows
    path = Path(database)
    if path.is_dir() or not path.parent.is_dir() or (must_exist and not path.is_file()):
        received = "a folder" if path.is_dir() else "a path where nothing is"
        hint = "" if must_exist else " Make its folder first."
        raise ConfigError(
            f"{database}: expected a file of SQLite. Received: {received}. Three slashes lead to a "
            f"path from here, four to one from the root.{hint}"
        )


def _expanded(url: str) -> str:
    is_whole = _VARIABLE.fullmatch(url) is not None

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if not found:
            raise ConfigError(
                f"The database's URL: expected the environment variable {match[1]} to be set. "
                "Received: nothing. Set it, or write the URL without it."
            )
        return found if is_whole else quote(found, safe="")

    return _VARIABLE.sub(value, url)
