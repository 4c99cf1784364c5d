"""What the words of reports mean: classes, verdicts, and whether this program wrote them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from lake.own_lines import read_own_line
from lake.vocabulary import Vocabulary

#: Stage that reads lists.
STAGE = "reports"


def classified(rows: pa.Table, source: str, form: str, vocabulary: Vocabulary) -> pa.Table:
    """Return `rows` with the classes, the verdicts and the origins of their words."""
    # Each wording is looked up once: lists have hundreds of thousands of lines.
    reasons = rows["reason"].combine_chunks().dictionary_encode()
    codes = reasons.indices
    meanings = [
        meaning(source, form, reason, vocabulary) for reason in reasons.dictionary.to_pylist()
    ]
    classes = pa.array([classes for classes, _, _ in meanings], pa.list_(pa.string()))
    is_bad = pa.array([is_bad for _, is_bad, _ in meanings], pa.bool_())
    origins = pa.array([origin for _, _, origin in meanings], pa.string())
    rows = with_column(rows, "classes", classes.take(codes))
    given = rows["is_bad"].combine_chunks()
    rows = with_column(rows, "is_bad", pc.coalesce(is_bad.take(codes), given))
    return with_column(rows, "origin", origins.take(codes))


def meaning(
    source: str, form: str, reason: str | None, vocabulary: Vocabulary
) -> tuple[list[str], bool | None, str | None]:
    """Return classes, verdict (None: as the list says) and origin of the words of a list."""
    words = reason or ""
    own = read_own_line(words)
    if own is not None:
        classes = own.classes(vocabulary.classes)
        return classes or vocabulary.classes_of(source, own.words, form), True, own.origin
    is_bad = vocabulary.is_bad(source, words, form) if form == "decals" else None
    return vocabulary.classes_of(source, words, form), is_bad, None


def with_column(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """Return `rows` with `values` as the column `name`, in the place of one that it has."""
    if name in rows.column_names:
        return rows.set_column(rows.column_names.index(name), name, values)
    return rows.append_column(name, values)
