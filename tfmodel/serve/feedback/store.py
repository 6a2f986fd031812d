"""What is kept in the database: requests with their rows, corrections, and for how long."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tfmodel.config import ConfigError
from tfmodel.serve.errors import ServingError, invalid
from tfmodel.serve.feedback.corrections import as_json
from tfmodel.serve.feedback.scrubbing import StoredRow
from tfmodel.serve.feedback.tables import Tables, shown

_AT_ONCE = 500
_OF_TEXT = "text:"

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class StoredRequest:
    """A request as it is stored.

    Attributes:
        columns: of the table of requests.
        rows: in their order.
    """

    columns: Mapping[str, Any]
    rows: Sequence[StoredRow]


@dataclasses.dataclass(frozen=True)
class FoundRow:
    """A row that a correction is about.

    Attributes:
        row: its texts and answer.
        number: in its request.
        model: the model's name.
        version: the one that answered, where it is known.
    """

    row: StoredRow
    number: int
    model: str
    version: int | None


@dataclasses.dataclass(frozen=True)
class Acknowledged:
    """A correction that the database has.

    Attributes:
        feedback_id: what it is called.
        is_new: whether it was not there before.
        problem: why no training can use it; None where it can.
    """

    feedback_id: str
    is_new: bool
    problem: str | None


class Store:
    """A feedback database.

    Args:
        engine: from `open_engine`.
    """

    def __init__(self, engine: Any):
        import sqlalchemy as sa

        self._sa = sa
        self.engine = engine
        self.tables = Tables()

    def make_tables(self) -> None:
        """Make the tables that are missing.

        Raises:
            ConfigError: as `check_tables`.
        """
        self.tables.metadata.create_all(self.engine)
        self.check_tables()

    def check_tables(self) -> None:
        """Refuse tables of these names that are others.

        Raises:
            ConfigError: a column is missing.
        """
        inspector = self._sa.inspect(self.engine)
        for name, table in self.tables.metadata.tables.items():
            there = {column["name"] for column in inspector.get_columns(name)}
            missing = [column.name for column in table.columns if column.name not in there]
            if missing:
                raise ConfigError(
                    f"{shown(self.engine)}: expected the tables of this release. Received: "
                    f"{name} without {', '.join(missing)}. Name another database, or use the "
                    "release that has made this one."
                )

    # --- writing ----------------------------------------------------------------------------

    def write(self, requests: Sequence[StoredRequest]) -> None:
        """Write requests, all or none."""
        with self.engine.begin() as connection:
            self._write(connection, requests)

    def write_alone(self, request: StoredRequest) -> None:
        """Write a request that may be there already, from a try whose end was not heard of."""
        requests = self.tables.requests
        with self.engine.begin() as connection:
            same = self._sa.select(requests.c.id).where(requests.c.id == request.columns["id"])
            if connection.execute(same).first() is None:
                self._write(connection, [request])

    def _write(self, connection: Any, requests: Sequence[StoredRequest]) -> None:
        table = self.tables.requests
        columns = [{name: each.columns.get(name) for name in table.c.keys()} for each in requests]
        connection.execute(table.insert(), columns)
        rows = [
            {
                "request_id": request.columns["id"],
                "row": number,
                "text": row.text.text,
                "text_pair": None if row.text_pair is None else row.text_pair.text,
                "answer": None if row.answer is None else json.dumps(row.answer),
                "changes": row.changes(),
            }
            for request in requests
            for number, row in enumerate(request.rows)
        ]
        if rows:
            connection.execute(self.tables.rows.insert(), rows)

    def write_copies(self, copies: Sequence[Mapping[str, Any]]) -> None:
        """Write rows of the table of copies, all or none; those that are there already stay."""
        table = self.tables.copies
        ids = {copy["request_id"] for copy in copies}
        with self.engine.begin() as connection:
            there = self._sa.select(table.c.request_id).where(table.c.request_id.in_(ids))
            known = {row.request_id for row in connection.execute(there)}
            fresh = [dict(copy) for copy in copies if copy["request_id"] not in known]
            if fresh:
                connection.execute(table.insert(), fresh)

    # --- corrections ------------------------------------------------------------------------

    def correct(
        self,
        request_id: str | None,
        number: int | None,
        settle: Callable[[FoundRow | None], tuple[dict[str, Any], str]],
        *,
        feedback_id: str | None,
        time: float,
    ) -> Acknowledged:
        """Store a correction; the same one again is stored once.

        Args:
            request_id: the request that it is about.
            number: the row of the request; None: its only one.
            settle: from the row, None where it is not known, to columns of the table of corrections
                and the key of the row.
            feedback_id: the client's own name for it.
            time: now.

        Raises:
            ServingError: what `settle` raises; ALREADY_EXISTS: this name is another correction's.
        """
        table = self.tables.corrections
        with self.engine.begin() as connection:
            columns, row_key = settle(self._found(connection, request_id, number))
            label = as_json(columns.pop("label"))
            if feedback_id is not None and (known := self._known(connection, feedback_id)):
                return self._same(known, row_key, label, request_id)
            latest = connection.execute(
                self._sa.select(table)
                .where(table.c.row_key == row_key)
                .order_by(table.c.number.desc())
                .limit(1)
            ).first()
            if latest is not None and latest.label == label:
                return Acknowledged(latest.id, False, latest.problem)
            # Two servers that store the same at once come to the same name.
            before = "" if latest is None else latest.id
            name = feedback_id or _digest(row_key, label, before)[:32]
            values = {"id": name, "row_key": row_key, "time": time, "label": label, **columns}
            try:
                with connection.begin_nested():
                    connection.execute(table.insert(), values)
            except self._sa.exc.IntegrityError:
                known = self._known(connection, name)
                if known is None:
                    raise
                return self._same(known, row_key, label, request_id)
        return Acknowledged(name, True, columns["problem"])

    def _known(self, connection: Any, feedback_id: str) -> Any:
        table = self.tables.corrections
        return connection.execute(self._sa.select(table).where(table.c.id == feedback_id)).first()

    def _same(self, known: Any, row_key: str, label: str, request_id: str | None) -> Acknowledged:
        is_row = known.row_key == row_key
        # Sent again, it may find the request that was not there before, or find it gone.
        if _is_of_text(known.row_key) != _is_of_text(row_key):
            is_row = request_id is not None and known.request_id == request_id
        if not is_row or known.label != label:
            raise ServingError(
                "ALREADY_EXISTS", "feedback_id: another correction was stored under this id."
            )
        return Acknowledged(known.id, False, known.problem)

    def _found(
        self, connection: Any, request_id: str | None, number: int | None
    ) -> FoundRow | None:
        """The row; None where the request is not known.

        Raises:
            ServingError: INVALID_ARGUMENT, the request has no such row.
        """
        if request_id is None:
            return None
        requests, rows = self.tables.requests, self.tables.rows
        request = connection.execute(
            self._sa.select(requests).where(requests.c.id == request_id)
        ).first()
        if request is None:
            return None
        of_request = rows.c.request_id == request_id
        if number is None:
            count = connection.scalar(
                self._sa.select(self._sa.func.count()).select_from(rows).where(of_request)
            )
            if count > 1:
                raise invalid(f"row: expected the index of one of the request's {count} rows.")
            number = 0
        row = connection.execute(
            self._sa.select(rows).where(of_request, rows.c.row == number)
        ).first()
        if row is None:
            raise invalid("row: the request has no row of this index.")
        stored = StoredRow.read(row.text, row.text_pair, row.answer, row.changes)
        return FoundRow(stored, number, request.model, request.version)

    # --- deleting ---------------------------------------------------------------------------

    def delete(self, ids: Sequence[str]) -> tuple[int, int]:
        """Delete what is known under ids.

        Args:
            ids: of requests, with their rows and corrections; or of corrections.

        Returns:
            How many requests and how many corrections are gone.
        """
        tables = self.tables
        with self.engine.begin() as connection:
            requests = self._delete_requests(connection, tables.requests.c.id.in_(ids))
            table = tables.corrections
            named = self._sa.or_(table.c.request_id.in_(ids), table.c.id.in_(ids))
            corrections = connection.execute(table.delete().where(named)).rowcount
        self._empty_log()
        return requests, corrections

    def prune(self, *, now: float, days: float | None, rows: int | None) -> Iterator[int]:
        """Delete what is too old, and what is too much, in portions that are gone each by itself.

        Args:
            now: seconds since 1970.
            days: requests and corrections that are older go; a request stays as long as one of its
                corrections does.
            rows: of those without a correction, only the newest stay, about as many.

        Yields:
            How many requests of a portion are gone.
        """
        sa, (requests, own, corrections) = self._sa, self._all()
        corrected = sa.exists().where(corrections.c.request_id == requests.c.id)
        is_changed = False
        if days is not None:
            oldest, copies = now - days * 86400, self.tables.copies
            for table, key in ((corrections, corrections.c.id), (copies, copies.c.request_id)):
                while self._delete_portion([key], key, table.c.time < oldest):
                    is_changed = True
                    yield 0
            while gone := self._delete_requests_portion(requests.c.time < oldest, ~corrected):
                is_changed = True
                yield gone
        if rows is not None:
            beyond = (
                sa.select(requests.c.time)
                .join(own, own.c.request_id == requests.c.id)
                .where(~corrected)
                .order_by(requests.c.time.desc())
                .offset(rows)
                .limit(1)
            )
            with self._unhurried() as connection:
                newest = connection.scalar(beyond)
            while newest is not None and (
                gone := self._delete_requests_portion(requests.c.time <= newest, ~corrected)
            ):
                is_changed = True
                yield gone
        if is_changed:
            self._empty_log()

    def _delete_requests_portion(self, *conditions: Any) -> int:
        requests, rows, _ = self._all()
        keys = (rows.c.request_id, self.tables.copies.c.request_id, requests.c.id)
        return self._delete_portion(keys, requests.c.id, *conditions)

    def _delete_portion(self, keys: Sequence[Any], chosen: Any, *conditions: Any) -> int:
        """Delete what has the keys of some rows; how many of the last table's are gone."""
        gone = 0
        with self._unhurried() as connection:
            some = self._sa.select(chosen).where(*conditions).limit(_AT_ONCE)
            found = [*{key for (key,) in connection.execute(some)}]
            for key in keys if found else ():
                gone = connection.execute(key.table.delete().where(key.in_(found))).rowcount
        return gone

    @contextlib.contextmanager
    def _unhurried(self) -> Iterator[Any]:
        """A transaction whose statements may take longer than a client would wait."""
        with self.engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("set local statement_timeout = 0")
            yield connection

    def _empty_log(self) -> None:
        """Empty SQLite's log of writes, which has what is deleted as it was written."""
        if self.engine.dialect.name != "sqlite":
            return
        with self.engine.connect() as connection:
            checkpoint = connection.exec_driver_sql("pragma wal_checkpoint(truncate)")
            is_busy = checkpoint.first()[0]
        if is_busy:
            _log.warning(
                "%s is being read: what is deleted stands in its -wal file until something else is "
                "deleted, or nobody has it open",
                shown(self.engine),
            )

    def _delete_requests(self, connection: Any, *conditions: Any) -> int:
        requests, rows, _ = self._all()
        chosen = self._sa.select(requests.c.id).where(*conditions)
        for table in (rows, self.tables.copies):
            connection.execute(table.delete().where(table.c.request_id.in_(chosen)))
        return connection.execute(requests.delete().where(*conditions)).rowcount

    def _all(self) -> tuple[Any, Any, Any]:
        return self.tables.requests, self.tables.rows, self.tables.corrections

    # --- reading ----------------------------------------------------------------------------

    def corrections(self, model: str | None = None, since: float | None = None) -> Iterator[Any]:
        """Corrections with what is known of their rows, the latest first.

        Yields:
            Columns of the correction, and of its row `row_text`, `row_text_pair`, `row_answer`.
        """
        sa, (_, rows, table) = self._sa, self._all()
        query = (
            sa.select(
                table,
                rows.c.text.label("row_text"),
                rows.c.text_pair.label("row_text_pair"),
                rows.c.answer.label("row_answer"),
            )
            .outerjoin(
                rows,
                sa.and_(table.c.request_id == rows.c.request_id, table.c.row == rows.c.row),
            )
            .order_by(table.c.number.desc())
        )
        if model is not None:
            query = query.where(table.c.model == model)
        if since is not None:
            query = query.where(table.c.time >= since)
        yield from self._streamed(query)

    def uncorrected(self, model: str | None = None, since: float | None = None) -> Iterator[Any]:
        """Rows that nobody corrected, the latest first, with the columns of their requests."""
        sa, (requests, rows, table) = self._sa, self._all()
        corrected = sa.exists().where(
            table.c.request_id == rows.c.request_id, table.c.row == rows.c.row
        )
        query = (
            sa.select(requests, rows.c.row, rows.c.text, rows.c.text_pair, rows.c.answer)
            .join(rows, rows.c.request_id == requests.c.id)
            .where(~corrected)
            .order_by(requests.c.time.desc(), rows.c.row)
        )
        if model is not None:
            query = query.where(requests.c.model == model)
        if since is not None:
            query = query.where(requests.c.time >= since)
        yield from self._streamed(query)

    def asked(
        self, model: str, version: int, *, label: str, signature: str, since: float | None = None
    ) -> Iterator[Any]:
        """Rows that a version was asked, the latest first: `request_id`, `row`, texts.

        Args:
            model: the model's name.
            version: its number.
            label: requests by it, whose version is not known, are taken as well.
            signature: what was asked for.
            since: from this time on.
        """
        sa, (requests, rows, _) = self._sa, self._all()
        by_label = sa.and_(requests.c.version.is_(None), requests.c.version_label == label)
        query = (
            sa.select(rows.c.request_id, rows.c.row, rows.c.text, rows.c.text_pair)
            .join(requests, rows.c.request_id == requests.c.id)
            .where(
                requests.c.model == model,
                requests.c.signature == signature,
                sa.or_(requests.c.version == version, by_label),
            )
            .order_by(requests.c.time.desc(), rows.c.request_id, rows.c.row)
        )
        if since is not None:
            query = query.where(requests.c.time >= since)
        yield from self._streamed(query)

    def copies(
        self, model: str, old: int, new: int, *, since: float | None = None
    ) -> Iterator[Any]:
        """Copies of requests that two versions answered, the latest first.

        Yields:
            Columns of the copy, and of its row `row_text`, `row_text_pair`, `row_answer`.
        """
        sa, (_, rows, _), table = self._sa, self._all(), self.tables.copies
        query = (
            sa.select(
                table,
                rows.c.text.label("row_text"),
                rows.c.text_pair.label("row_text_pair"),
                rows.c.answer.label("row_answer"),
            )
            .join(rows, sa.and_(table.c.request_id == rows.c.request_id, table.c.row == rows.c.row))
            .where(table.c.model == model, table.c.old == old, table.c.new == new)
            .order_by(table.c.time.desc(), table.c.request_id, table.c.row)
        )
        if since is not None:
            query = query.where(table.c.time >= since)
        yield from self._streamed(query)

    def tasks(self, *, with_rows: bool) -> set[tuple[str, str]]:
        """Names of models, each with its task: of those corrected, perhaps of all."""
        sa, (requests, _, table) = self._sa, self._all()
        tables = (table, requests) if with_rows else (table,)
        with self.engine.connect() as connection:
            return {
                (row.model, row.task)
                for each in tables
                for row in connection.execute(sa.select(each.c.model, each.c.task).distinct())
                if row.task is not None
            }

    def has_pairs(self, model: str | None = None) -> bool:
        """Whether any row, or any correction, has a second text."""
        sa, (requests, rows, table) = self._sa, self._all()
        of_rows = sa.select(rows.c.row).join(requests, rows.c.request_id == requests.c.id)
        queries = (
            (of_rows.where(rows.c.text_pair.is_not(None)), requests),
            (sa.select(table.c.number).where(table.c.text_pair.is_not(None)), table),
        )
        with self.engine.connect() as connection:
            return any(
                connection.execute(
                    (query if model is None else query.where(of.c.model == model)).limit(1)
                ).first()
                for query, of in queries
            )

    def versions(self) -> list[Any]:
        """Of each model and version: `requests`, `rows`, and `asked`, an estimate of all rows."""
        sa, (requests, rows, _) = self._sa, self._all()
        of_version = requests.c.model, requests.c.version
        query = (
            sa.select(
                *of_version,
                sa.func.count(sa.distinct(requests.c.id)).label("requests"),
                sa.func.count(rows.c.row).label("rows"),
                sa.func.sum(1.0 / requests.c.sample).label("asked"),
            )
            .join(rows, rows.c.request_id == requests.c.id)
            .group_by(*of_version)
            .order_by(*of_version)
        )
        with self.engine.connect() as connection:
            return [*connection.execute(query)]

    def _streamed(self, query: Any) -> Iterator[Any]:
        with self.engine.connect() as connection:
            streamed = connection.execution_options(stream_results=True, max_row_buffer=_AT_ONCE)
            yield from streamed.execute(query)


def row_key(request_id: str, row: int) -> str:
    """What tells a recorded row from all others."""
    return f"{request_id}:{row}"


def text_key(model: str, row: StoredRow) -> str:
    """What tells a text that was sent by itself from all others."""
    pair = "" if row.text_pair is None else row.text_pair.text
    return _OF_TEXT + _digest(model, row.text.text, pair)


def _is_of_text(row_key: str) -> bool:
    return row_key.startswith(_OF_TEXT)


def _digest(*words: str) -> str:
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()
