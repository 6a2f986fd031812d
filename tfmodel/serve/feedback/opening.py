"""A feedback database that is there, for commands that read it or delete from it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tfmodel.config import ConfigError
from tfmodel.serve.feedback.store import Store
from tfmodel.serve.feedback.tables import kind_of, open_engine, shown

_PATIENCE_SECONDS = 60.0


@contextlib.contextmanager
def open_store(database: str) -> Iterator[Store]:
    """A database with the tables of a server's.

    Args:
        database: its URL.

    Raises:
        ConfigError: there is none, or it has no such tables, or others of these names.
        RuntimeError: it cannot be reached or read. No message tells values, users or passwords.
    """
    engine = open_engine(database, wait_seconds=_PATIENCE_SECONDS, must_exist=True)
    import sqlalchemy as sa

    try:
        there = {*sa.inspect(engine).get_table_names()}
        store = Store(engine)
        missing = {*store.tables.metadata.tables} - there
        if missing == {store.tables.copies.name}:  # a server of an earlier release has made it
            store.make_tables()
        elif missing:
            raise ConfigError(
                f"{shown(engine)}: expected the database of a server's feedback. Received: one "
                "without its tables. Name the one of tfmodel serve --feedback."
            )
        store.check_tables()
        yield store
    except sa.exc.SQLAlchemyError as error:
        raise RuntimeError(
            f"{shown(engine)} cannot be read or written now ({kind_of(error)})."
        ) from None
    finally:
        engine.dispose()
