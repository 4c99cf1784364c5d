"""The named queries: one ``.sql`` file a question, with its contract in a ``.toml`` beside it.

A contract says what the query answers, its parameters, and its columns with unit and meaning, its
key and the checks that its rows pass; `contract_breaches` runs them. Parameters are bound, never
pasted into the text. A folder of the user's own works alike; a contract is then optional.
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from lake.errors import BadInput, Conflict, NotFound
from lake.paths import shortened
from lake.store import Lake
from lake.tables import TABLES
from lake.versions import in_order
from lake.vocabulary import Vocabulary
from queries import engine
from queries.files import has_files
from queries.reference import bit_names

#: Folder of queries inside a lake.
LAKE_QUERIES = "queries"

_HERE = Path(__file__).parent
_KINDS = {"text": "words", "integer": "an integer", "number": "a number", "list": "a,b,c"}
#: Partition keys that a parameter may be checked against, and the table that has them.
_KEYS = {
    "releases": ("ccds", "release"),
    "models": ("votes", "model"),
    "predicted": ("predictions", "model"),
    "searched": ("searches", "model"),
    "scored": ("test_sets", "model"),
}

Value = str | int | float | list[str] | None


@dataclass(frozen=True)
class Parameter:
    """A parameter: `kind` is text, integer, number or list (``a,b,c``); no default: required.

    An empty default binds null (an empty list for a list), which every query takes for "all".
    `values` holds the allowed ones, or the name of what they are looked up in: ``bits``,
    ``classes``, ``releases``, ``models`` (those that voted), ``predicted`` (those with
    predictions), ``scored`` (those with test_sets) or ``searched`` (those with searches).
    """

    name: str
    kind: Literal["text", "integer", "number", "list"]
    meaning: str
    default: str | None = None
    values: tuple[str, ...] | str = ()

    def parse(self, text: str, lake: Lake) -> Value:
        """Return the value to bind; raises `SurveyError` naming the valid ones."""
        words = [word.strip() for word in text.split(",") if word.strip()]
        if self.kind == "list":
            self._check(words, lake)
            return words
        if not text.strip():
            return None
        if self.kind == "text":
            self._check([text], lake)
            return text
        try:
            return int(text) if self.kind == "integer" else float(text)
        except ValueError:
            raise BadInput(
                f"parameter {self.name}={text!r}: expected {_KINDS[self.kind]}: {self.meaning}"
            ) from None

    def _check(self, given: list[str], lake: Lake) -> None:
        allowed = self._allowed(lake)
        for word in given:
            if allowed and word not in allowed:
                raise BadInput(
                    f"parameter {self.name}: no {word!r}; valid are {', '.join(allowed)}"
                )

    def _allowed(self, lake: Lake) -> list[str]:
        if not isinstance(self.values, str):
            return list(self.values)
        if self.values == "bits":
            return bit_names()
        if self.values == "classes":
            return Vocabulary.of_lake(lake.root).classes
        # A lake that has none yet has nothing to check against: the query then has no rows.
        table, key = _KEYS[self.values]
        folders = (lake.root / table).glob(f"{key}=*")
        return in_order(folder.name.partition("=")[2] for folder in folders if folder.is_dir())


@dataclass(frozen=True)
class ResultColumn:
    """A column of a query's result; `type` as Arrow names it."""

    name: str
    type: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class Query:
    """A named query: its text and its contract.

    Attributes
    ----------
    answers : the question, in one line.
    key : columns that are unique together.
    checks : name -> condition that holds for every row.
    """

    name: str
    path: Path
    sql: str
    answers: str
    parameters: tuple[Parameter, ...] = ()
    columns: tuple[ResultColumn, ...] = ()
    key: tuple[str, ...] = ()
    checks: Mapping[str, str] = field(default_factory=dict)

    def bind(self, given: Mapping[str, Any], lake: Lake) -> dict[str, Value]:
        """Return the value of every parameter; raises `SurveyError` for one that is not valid."""
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in given:
            if name not in known:
                valid = ", ".join(known) if known else "none"
                raise BadInput(
                    f"query {self.name}: no parameter {name!r}; its parameters are: {valid}"
                )
        bound = {}
        for name, parameter in known.items():
            text = given.get(name, parameter.default)
            if text is None:
                raise BadInput(
                    f"query {self.name}: parameter {name} is needed: {parameter.meaning}"
                )
            bound[name] = parameter.parse(_as_text(text), lake)
        return bound


def list_queries(query_dir: Path | None = None, lake_path: Path | None = None) -> list[Query]:
    """Return the queries: this program's, those of `query_dir`, those of the lake; by name.

    Raises
    ------
    SurveyError : a folder that is missing, a contract that cannot be read, or two of one name.
    """
    # Beside the named queries lie texts that only Python runs; those have no contract.
    found = {path.stem: _load(path.with_suffix(".sql")) for path in _HERE.glob("*.toml")}
    folders = [query_dir] if query_dir is not None else []
    if lake_path is not None and (lake_path / LAKE_QUERIES).is_dir():
        folders.append(lake_path / LAKE_QUERIES)
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        if not folder.is_dir():
            raise NotFound(f"--query-dir {folder}: no such folder")
        for path in sorted(folder.glob("*.sql")):
            if path.stem in found:
                raise Conflict(
                    f"{path}: there is a query {path.stem} already, {found[path.stem].path}; "
                    "give yours another name"
                )
            found[path.stem] = _load(path)
    return sorted(found.values(), key=lambda query: query.name)


def find_query(lake: Lake, name: str, query_dir: Path | None = None) -> Query:
    """Return the query `name`; raises `SurveyError` naming the queries."""
    known = {query.name: query for query in list_queries(query_dir, lake.root)}
    if name not in known:
        raise NotFound(f"no query {name!r}; the queries are {', '.join(known)}")
    return known[name]


def run_query(
    lake: Lake,
    name: str,
    parameters: Mapping[str, Any] | None = None,
    query_dir: Path | None = None,
    given: Mapping[str, pa.Table] | None = None,
) -> pa.Table:
    """Return the rows of the query `name`.

    Parameters
    ----------
    parameters : name -> value, as text or as what it stands for; lists as ``a,b,c``.
    given : rows that stand for a table in place of what the lake holds, see `engine.connect`.

    Raises
    ------
    SurveyError : an unknown query or parameter, or a value that is not valid.
    """
    query = find_query(lake, name, query_dir)
    return engine.run_sql(lake, query.sql, query.bind(parameters or {}, lake), given)


@contextlib.contextmanager
def open_query(
    lake: Lake,
    name: str,
    parameters: Mapping[str, Any] | None = None,
    query_dir: Path | None = None,
) -> Iterator[pa.RecordBatchReader]:
    """As `run_query`, but yield a reader of record batches, for results larger than memory."""
    query = find_query(lake, name, query_dir)
    with engine.open_sql(lake, query.sql, query.bind(parameters or {}, lake)) as reader:
        yield reader


def filled_sql(lake: Lake, name: str, parameters: Mapping[str, Any] | None = None) -> str:
    """Return the text of the query `name` with its parameters filled in, as ``sql`` takes it."""
    query = find_query(lake, name)
    bound = query.bind(parameters or {}, lake)
    return re.sub(r"\$(\w+)", lambda match: _literal(bound[match[1]]), query.sql)


def missing_tables(lake: Lake, name: str, query_dir: Path | None = None) -> list[str]:
    """Return the tables that the query `name` reads and that hold nothing yet."""
    query = find_query(lake, name, query_dir)
    words = engine.names_in(query.sql)
    return [name for name in TABLES if name in words and not has_files(lake, name)]


def describe_queries(query_dir: Path | None = None, lake_path: Path | None = None) -> pa.Table:
    """Return one row per query: name, what it answers, its parameters and its columns."""
    queries = list_queries(query_dir, lake_path)
    return pa.table(
        {
            "name": pa.array([query.name for query in queries], pa.string()),
            "answers": pa.array([query.answers for query in queries], pa.string()),
            "parameters": pa.array(
                [" ".join(_usage(p) for p in query.parameters) for query in queries], pa.string()
            ),
            "columns": pa.array(
                [", ".join(column.name for column in query.columns) for query in queries],
                pa.string(),
            ),
        }
    )


def contract_breaches(query: Query, rows: pa.Table) -> list[str]:
    """Return how `rows` break the contract of `query`: columns, types, key and checks."""
    import duckdb

    declared = [(column.name, column.type) for column in query.columns]
    actual = [(column.name, str(column.type)) for column in rows.schema]
    if declared != actual:
        wrong = sorted(set(actual) ^ set(declared)) or "their order"
        return [f"columns differ from the contract: {wrong}"]
    breaches = []
    with duckdb.connect() as connection:
        connection.register("result", rows)
        if query.key:
            keys = ", ".join(f'"{name}"' for name in query.key)
            repeated = f"from (select {keys} from result group by all having count(*) > 1)"
            if _count(connection, repeated):
                breaches.append(f"key ({keys}) is not unique")
        for name, condition in query.checks.items():
            if failed := _count(connection, f"from result where not coalesce({condition}, true)"):
                breaches.append(f"check {name} fails on {failed} rows: {condition}")
    return breaches


def _count(connection: Any, source: str) -> int:
    return int(connection.execute(f"select count(*) {source}").fetchone()[0])


def _as_text(value: Any) -> str:
    """Return a value as it is typed: lists with commas, ``true`` for True."""
    if isinstance(value, (list, tuple)):
        return ",".join(_as_text(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _literal(value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{', '.join(_literal(each) for each in value)}]"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def _usage(parameter: Parameter) -> str:
    return parameter.name if parameter.default is None else f"{parameter.name}={parameter.default}"


def _load(path: Path) -> Query:
    sql = _read(path)
    contract = path.with_suffix(".toml")
    if not contract.exists():
        first = sql.strip().partition("\n")[0]
        return Query(path.stem, path, sql, first.removeprefix("--").strip())
    try:
        raw = tomllib.loads(_read(contract))
    except (ValueError, RecursionError) as error:  # not TOML, or too deep or long for it
        raise BadInput(f"{contract}: {error}") from error
    try:
        return Query(
            name=path.stem,
            path=path,
            sql=sql,
            answers=_text(raw, "answers"),
            parameters=tuple(
                _parameter(name, entry) for name, entry in _table(raw, "parameters").items()
            ),
            columns=tuple(
                ResultColumn(name, *_texts(f"column {name}", entry, 3))
                for name, entry in _table(raw, "columns").items()
            ),
            key=tuple(_texts("key", raw.get("key", []))),
            checks={name: _text(_table(raw, "checks"), name) for name in _table(raw, "checks")},
        )
    except ValueError as error:
        raise BadInput(
            f"{contract}: not a contract of a query ({error}); it has answers, [parameters.NAME] "
            "with kind and meaning, [columns] with NAME = [type, unit, meaning], key and [checks]"
        ) from error


def _parameter(name: str, entry: Any) -> Parameter:
    if not isinstance(entry, dict):
        raise ValueError(f"parameter {name} is a table")
    kind, values = _text(entry, "kind"), entry.get("values", [])
    if kind not in _KINDS:
        raise ValueError(f"parameter {name}: kind is one of {', '.join(_KINDS)}")
    if isinstance(values, str):
        if values not in ("bits", "classes", *_KEYS):
            raise ValueError(f"parameter {name}: no values {shortened(values)!r}")
    else:
        values = tuple(_texts(f"parameter {name}: values", values))
    return Parameter(
        name=name,
        kind=kind,  # type: ignore[arg-type]
        meaning=_text(entry, "meaning"),
        default=_text(entry, "default") if "default" in entry else None,
        values=values,
    )


def _table(raw: Mapping[str, Any], name: str) -> dict[str, Any]:
    entry = raw.get(name, {})
    if not isinstance(entry, dict):
        raise ValueError(f"{name} is a table")
    return entry


def _text(raw: Mapping[str, Any], name: str) -> str:
    if name not in raw:
        raise ValueError(f"{name} is missing")
    if not isinstance(raw[name], str):
        raise ValueError(f"{name} is a text, in quotes")
    return str(raw[name])


def _texts(what: str, entry: Any, number: int | None = None) -> list[str]:
    if (
        not isinstance(entry, list)
        or not all(isinstance(word, str) for word in entry)
        or len(entry) != (number or len(entry))
    ):
        raise ValueError(f"{what} is a list of {number or 'some'} texts")
    return entry


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file; a query is a .sql file") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: cannot be read: it is not UTF-8") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
