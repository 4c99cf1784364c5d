"""Contracts and vocabularies that hold anything at all are told in one line, or work."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lake.errors import LONGEST_LINE, SurveyError
from lake.store import Lake
from lake.vocabulary import Vocabulary
from queries.named import describe_queries, find_query, run_query

_FEW = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["text", "integer", "list", "bits", "classes", "models", "paper", "(", "good"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
CONTRACT: dict[str, Any] = {
    "answers": "How many",
    "key": ["n"],
    "parameters": {"p": {"kind": "text", "meaning": "m", "default": "", "values": ["a"]}},
    "columns": {"n": ["int64", "", "number"]},
    "checks": {"some": "n > 0"},
}
VOCABULARY: dict[str, Any] = {
    "class": [{"name": "Airplane", "meaning": "m", "training": True, "keep": 0.5, "weight": 2.0}],
    "rule": [{"sources": ["decals"], "pattern": "x", "class": "Airplane", "origin": "project"}],
    "verdict": [{"sources": ["decals"], "pattern": "(\\\\d+)", "bad": False, "below": 3}],
    "precedence": ["Airplane"],
}


def toml(value: Any) -> str:
    """Return a value as TOML writes it, tables inline."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return {"inf": "inf", "-inf": "-inf", "nan": "nan"}.get(str(value), repr(value))
    if isinstance(value, str):
        # Escapes of JSON are those of TOML, but for halves of characters.
        return json.dumps(value.encode(errors="replace").decode()).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{toml(str(k))} = {toml(v)}' for k, v in value.items())}}}"
    return str(value)


def document(raw: dict[str, Any]) -> str:
    return "".join(f"{toml(name)} = {toml(value)}\n" for name, value in raw.items())


def places(raw: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values inside a document."""
    keys = raw if isinstance(raw, dict) else range(len(raw)) if isinstance(raw, list) else ()
    inner = [place for key in keys for place in places(raw[key], (*path, key))]
    return ([path] if path else []) + inner


def changed(raw: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a document with another value at `path`."""
    copy = dict(raw) if isinstance(raw, dict) else list(raw)
    copy[path[0]] = value if len(path) == 1 else changed(raw[path[0]], path[1:], value)
    return copy


def one_line(error: SurveyError) -> None:
    assert str(error).isprintable() and len(str(error)) <= LONGEST_LINE


@_FEW
@given(place=st.sampled_from(places(CONTRACT)), value=VALUES, more=st.none() | VALUES)
def test_a_contract_of_anything(lake: Lake, place: tuple[Any, ...], value: Any, more: Any) -> None:
    folder = lake.root / "queries"
    folder.mkdir(exist_ok=True)
    (folder / "mine.sql").write_text("select 1::bigint as n, $p::varchar is null as p")
    raw = changed(CONTRACT, place, value)
    (folder / "mine.toml").write_text(document(raw if more is None else raw | {"more": more}))
    for ask in (
        lambda: describe_queries(None, lake.root),
        lambda: find_query(lake, "mine"),
        lambda: run_query(lake, "mine", {"p": "a"}),
        lambda: run_query(lake, "mine"),
    ):
        try:
            ask()
        except SurveyError as error:
            one_line(error)


@_FEW
@given(place=st.sampled_from(places(VOCABULARY)), value=VALUES)
def test_a_vocabulary_of_anything(lake: Lake, place: tuple[Any, ...], value: Any) -> None:
    (lake.root / "vocabulary.toml").write_text(document(changed(VOCABULARY, place, value)))
    try:
        vocabulary = Vocabulary.of_lake(lake.root)
        found = vocabulary.classes_of("decals", "12 x airplane")
        vocabulary.is_bad("decals", "12 x")
        assert vocabulary.first(found) in (*found, None)
        json.dumps(vocabulary.to_json())
        assert all(math.isfinite(entry.weight) for entry in vocabulary.table)
    except SurveyError as error:
        one_line(error)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5_000 + "]" * 5_000,
        "a = " + "9" * 5_000,
        "a = 1\na = 2",
        "\x1b[31m = 1",
        "a = '\u202e",
        "precedence = 3",
        "class = 'x'",
        "[class]\nname = 'x'",
        "[[class]]\nname = 'x'\nkeep = true",
        "[[class]]\nname = 'x'\nweight = nan",
        "[[rule]]\nsources = ['des']\npattern = 'a{99999999999}'\nclass = 'PSF'",
        "[[rule]]\nsources = ['des']\npattern = '(x)'\nclass = 'PSF'\nbelow = 'few'",
        "[[rule]]\nsources = ['des']\npattern = 3\nclass = 'PSF'",
        "answers = 3",
        "answers = 'a'\nkey = 'n'",
        "answers = 'a'\ncolumns = 3",
        "answers = 'a'\n[columns]\nn = 'abc'",
        "answers = 'a'\nchecks = ['n']",
        "answers = 'a'\n[parameters]\np = 3",
        "answers = 'a'\n[parameters.p]\nkind = ['text']\nmeaning = 'm'",
        "answers = 'a'\n[parameters.p]\nkind = 'integer'\nmeaning = 'm'\ndefault = 3",
        "answers = 'a'\n[parameters.p]\nkind = 'text'\nmeaning = 'm'\nvalues = 3",
    ],
)
def test_what_is_neither_is_told_with_its_file(lake: Lake, text: str) -> None:
    folder = lake.root / "queries"
    folder.mkdir()
    (folder / "mine.sql").write_text("select 1 as n")
    (folder / "mine.toml").write_text(text)
    (lake.root / "vocabulary.toml").write_text(text)
    for ask in (
        lambda: describe_queries(None, lake.root),
        lambda: Vocabulary.of_lake(lake.root),
    ):
        with pytest.raises(SurveyError, match=r"mine\.toml|vocabulary\.toml|rule") as error:
            ask()
        one_line(error.value)
