"""Lists are read as legacypipe reads them, and written back byte for byte."""

from __future__ import annotations

import io
from pathlib import Path

import fitsio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from badlist.format import Key, decode, format_key, parse_bad_list, parse_key, read_bad_list
from ingest.delve_lists import parse_delve_text, parse_fits_list
from ingest.inspection_tables import (
    InspectionRow,
    InspectionTable,
    Verdict,
    parse_inspection_table,
    parse_verdict,
    read_inspection_csv,
    write_inspection_csv,
)
from lake.errors import SurveyError

HOSTILE = st.text(
    st.sampled_from(
        [*"0123456789+-_#. \t\r\n\v\f\x00\x1c\x85\xa0NSx", "\u2028", "\ufeff", "٣", "é"]
    )
)
WORDS = st.lists(st.sampled_from(["123", "0045", "1-N4", "1-N4-x", "-5", "7-", "1_0", "a", "#"]))
LISTS = st.one_of(
    HOSTILE.map(str.encode),
    st.binary(max_size=200),
    st.lists(
        st.tuples(WORDS, st.sampled_from([" ", "\t", "  "])).map(lambda p: p[1].join(p[0]))
    ).map(lambda lines: "\n".join(lines).encode()),
)


def legacypipe_keys(data: bytes) -> dict[Key, str]:
    """The rule of facts, section 2, over a file opened as text."""
    keys: dict[Key, str] = {}
    encoding = decode(data)[1]
    for line in io.TextIOWrapper(io.BytesIO(data), encoding=encoding):
        words = line.split()
        if line[0] == "#" or not words:
            continue
        if words[0].count("-") > 1:
            continue
        number, dash, ccd = words[0].partition("-")
        try:
            key = (int(number, 10), ccd if dash else None)
        except ValueError:
            continue
        keys[key] = " ".join(words[1:]) if len(words) > 1 else "unknown"
    return keys


@given(LISTS)
def test_any_list_is_written_back_byte_for_byte(data: bytes) -> None:
    assert read_bad_list(data).to_bytes() == data


@given(LISTS)
def test_keys_and_reasons_are_those_of_legacypipes_rule(data: bytes) -> None:
    assert read_bad_list(data).keys() == legacypipe_keys(data)


@given(LISTS)
def test_every_line_is_accounted_for(data: bytes) -> None:
    bad_list = read_bad_list(data)
    parsed = parse_bad_list(bad_list, "decam")
    counted = parsed.entries + parsed.comments + parsed.blank + len(parsed.skipped)
    assert counted == parsed.lines == len(bad_list.lines)
    assert all(line.why for line in parsed.skipped)


@given(st.integers(0, 10**12), st.sampled_from([None, "N4", "S31", ""]))
def test_a_key_survives_being_written(expnum: int, ccdname: str | None) -> None:
    assert parse_key(format_key((expnum, ccdname)))[0] == (expnum, ccdname)


def test_each_kind_of_line() -> None:
    lines = read_bad_list(
        b"# why\r\n\n12 3 out  of\tfocus\n12-N4\n1-2-3 x\nabc\n #5\n99999999999999999999 big"
    ).lines
    kinds = [line.kind for line in lines]
    assert kinds == [
        "comment", "blank", "entry", "entry", "skipped", "skipped", "skipped", "entry",
    ]  # fmt: skip
    assert (lines[2].key, lines[2].reason) == ((12, None), "3 out of focus")
    assert (lines[3].key, lines[3].reason) == ((12, "N4"), "unknown")
    assert "more than one '-'" in lines[4].why
    assert "not an exposure number" in lines[5].why


def test_an_exposure_number_that_no_table_holds_is_skipped_with_its_reason() -> None:
    parsed = parse_bad_list(read_bad_list(b"99999999999999999999 big\n0 zero\n5\n"), "decam")
    assert [line.line for line in parsed.skipped] == [1, 2]
    assert [report.expnum for report in parsed.reports] == [5]


def test_lists_of_the_four_ccd_cameras() -> None:
    parsed = parse_bad_list(read_bad_list(b"38001-ccd3 x\n38002-CCD4\n38003-N4\n38004\n"), "mosaic")
    assert [(r.expnum, r.ccdname, r.ccdnum) for r in parsed.reports] == [
        (38001, "ccd3", 3),
        (38002, "CCD4", 4),
        (38003, "N4", None),
        (38004, None, None),
    ]


def test_a_later_line_replaces_the_earlier_reason() -> None:
    assert read_bad_list(b"7 clouds\n7 focus\n").keys() == {(7, None): "focus"}


def test_a_byte_order_mark_costs_the_first_line_as_it_does_in_legacypipe() -> None:
    assert read_bad_list(b"\xef\xbb\xbf12 x\n13 y\n").keys() == {(13, None): "y"}


def test_the_line_end_that_most_lines_have() -> None:
    assert read_bad_list(b"1\r\n2\r\n3\n").newline == "\r\n"
    assert read_bad_list(b"1").newline == "\n"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"SIMPLE  =                    T", "FITS"),
        (b"\x1f\x8b\x08", "gzip"),
        ("1 x\n".encode("utf-16"), "UTF-16"),
        (bytes(range(256)) * 10, "binary"),
    ],
)
def test_a_file_that_is_no_text_is_refused_by_name(
    tmp_path: Path, content: bytes, what: str
) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(SurveyError, match=what) as error:
        read_bad_list(path)
    assert str(path) in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SurveyError, match="no such file"):
        read_bad_list(tmp_path / "absent.txt")


def test_real_decam_lists(shared_data: Path) -> None:
    for path in sorted((shared_data / "legacypipe").glob("decam-bad_expid.*.txt")):
        data = path.read_bytes()
        bad_list = read_bad_list(path)
        assert bad_list.to_bytes() == data
        assert bad_list.keys() == legacypipe_keys(data)
        assert not [line for line in bad_list.lines if line.kind == "skipped"]


# --- DELVE and DES ---


def test_delve_rows_comments_and_sql() -> None:
    text = (
        "#date     expnum ccd id ccdnum\n"
        "20130612  211970  66 S14  13\n"
        "#Airplane\n"
        "20130612  211972 nan nan 7\n"
        "\n"
        "#20130612  211972 nan nan 8\n"
        "20130612  211973 nan nan 7 \n"
        "#select nite from exposure\n"
        "# where expnum > 5;\n"
        "20130612  211974 nan nan 62\n"
        "# Observations of satellites\n"
        "# select nite\n# from exposure;\n"
        "# 20190702 - Saturn\n"
        "20130612\t211975\tnan\tnan\t1\n"
        "20130612 211976 nan nan\n"
        "20130612 211977 nan nan 63\n"
    )
    parsed = parse_delve_text(text, "streak-y00")
    assert [(r.expnum, r.ccdname, r.ccdnum, r.reason) for r in parsed.reports] == [
        (211970, "S14", 13, "streak"),
        (211972, "S28", 7, "streak: Airplane"),
        (211973, "S28", 7, "streak: Airplane"),
        (211974, "N31", 62, "streak"),
        (211975, "S29", 1, "streak: 20190702 - Saturn"),
    ]
    assert [(line.line, line.why) for line in parsed.skipped] == [
        (16, "expected date, expnum, ccd, id and ccdnum, found 4 columns"),
        (17, "'63' is not a CCD number of decam"),
    ]
    assert (parsed.headers, parsed.blank, parsed.comments) == (1, 1, 8)
    assert all(report.is_bad for report in parsed.reports)


def test_delve_problem_rows() -> None:
    text = (
        "#Nite           Exposure        Problem\r\n"
        "20130210        177055          Telescope Tracking \r\n"
        "   \r\n"
        "Nite           Exposure        Problem\r\n"
        "20130211\t177056\tOut of Focus\r\n"
        "#20190331        844998          Rho Ophiuchi\r\n"
        "20130211        177057\r\n"
        "gibberish\r\n"
    )
    parsed = parse_delve_text(text, "problem-y06")
    assert [(r.line, r.expnum, r.ccdname, r.reason) for r in parsed.reports] == [
        (2, 177055, None, "Telescope Tracking"),
        (5, 177056, None, "Out of Focus"),
        (7, 177057, None, "unknown"),
    ]
    assert (parsed.headers, parsed.blank, parsed.comments) == (2, 1, 1)
    assert [line.line for line in parsed.skipped] == [8]


@given(HOSTILE, st.sampled_from(["problem-y01", "noise-y01"]))
def test_every_line_of_a_delve_file_is_accounted_for(text: str, stem: str) -> None:
    parsed = parse_delve_text(text, stem)
    counted = parsed.entries + parsed.comments + parsed.blank + parsed.headers
    assert counted + len(parsed.skipped) == parsed.lines
    assert parsed.entries == len(parsed.reports)


def test_real_delve_files_lose_one_row_only(shared_data: Path) -> None:
    lines = entries = 0
    skipped = []
    for path in sorted((shared_data / "delve").glob("*/*.txt")):
        parsed = parse_delve_text(decode(path.read_bytes())[0], path.stem)
        counted = parsed.entries + parsed.comments + parsed.blank + parsed.headers
        assert counted + len(parsed.skipped) == parsed.lines
        lines, entries = lines + parsed.lines, entries + parsed.entries
        skipped += [(path.name, line.line) for line in parsed.skipped]
    assert (lines, entries) == (31345, 31185)
    assert skipped == [("processing-y07.txt", 3)]  # a row without its ccdnum


@pytest.mark.parametrize("order", ["<", ">"])
def test_fits_list(tmp_path: Path, order: str) -> None:
    kind = [
        ("EXPNUM", f"{order}i4"),
        ("CCDNUM", f"{order}i2"),
        ("REASON", "S12"),
        ("ANALYST", "S6"),
    ]
    rows = np.array(
        [
            (145507, 13, b"Ghosting    ", b"ak"),
            (145508, 0, b"HeavyClouds", b""),
            (145509, -1, b"", b"ak"),
            (0, 3, b"Noise", b"ak"),
            (145510, 99, b"Noise", b"ak"),
            (145511, -99, b"Noise", b"ak"),
        ],
        dtype=kind,
    )
    path = tmp_path / "exclude.fits"
    fitsio.write(path, rows, clobber=True)
    parsed = parse_fits_list(path)
    assert [
        (r.line, r.expnum, r.ccdname, r.ccdnum, r.reason, r.analyst) for r in parsed.reports
    ] == [
        (1, 145507, "S14", 13, "Ghosting", "ak"),
        (2, 145508, None, None, "HeavyClouds", None),
        (3, 145509, None, None, "unknown", "ak"),
        (6, 145511, None, None, "Noise", "ak"),
    ]
    assert [line.line for line in parsed.skipped] == [4, 5]


def test_fits_list_with_a_declared_null(tmp_path: Path) -> None:
    path = tmp_path / "exclude.fits"
    rows = np.array([(5, 50, b"x")], dtype=[("expnum", "i8"), ("ccdnum", "i2"), ("reason", "S1")])
    fitsio.write(path, rows, clobber=True, header={"TNULL2": 50})
    assert parse_fits_list(path).reports[0].ccdname is None


def test_fits_list_of_another_form_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.fits"
    fitsio.write(path, np.array([(5,)], dtype=[("expnum", "i8")]), clobber=True)
    with pytest.raises(SurveyError, match="no column CCDNUM, REASON"):
        parse_fits_list(path)
    path.write_bytes(b"no FITS at all")
    with pytest.raises(SurveyError, match="not a readable FITS table"):
        parse_fits_list(path)


# --- Inspection tables ---


def test_verdicts_as_people_type_them() -> None:
    bad = [parse_verdict(word)[1] for word in ("True", " y ", "YES", "1", "1.0", "bad")]
    good = [parse_verdict(word)[1] for word in ("False", "n", "No", "0", "ok")]
    unsure = [parse_verdict(word) for word in ("?", "y?", "no ?", "maybe")]
    absent = [parse_verdict(word) for word in ("", "  ", "nan", "-")]
    assert bad == [True] * 6
    assert good == [False] * 5
    assert unsure == [(True, None)] * 4
    assert absent == [(False, None)] * 4
    with pytest.raises(ValueError, match="perhaps not"):
        parse_verdict("perhaps not")


def test_inspection_rows_and_reports() -> None:
    table = read_inspection_csv(
        b"\xef\xbb\xbfexpnum;ML_reason;ann_badexp;ann_reason;bob_badexp\r\n"
        b"11;PSF;y;trail;n\r\n"
        b"\r\n"
        b"12;PSF;y?;;\r\n"
        b"13;PSF;what;;1\r\n"
        b"14;PSF;y\r\n"
        b"x;PSF;y;;y\r\n"
    )
    assert table.inspectors == ["ann", "bob"]
    parsed = parse_inspection_table(table)
    assert [(r.line, r.expnum, r.analyst, r.is_bad, r.reason) for r in parsed.reports] == [
        (2, 11, "ann", True, "trail"),
        (2, 11, "bob", False, ""),
        (4, 12, "ann", None, ""),
    ]
    assert [line.line for line in parsed.skipped] == [5, 6, 7]
    assert "'what' is neither yes, no nor unsure" in parsed.skipped[0].why
    assert parsed.entries + parsed.headers + parsed.blank + len(parsed.skipped) == parsed.lines


VERDICTS = st.dictionaries(
    st.sampled_from(["ann", "bob"]),
    st.builds(
        Verdict,
        st.sampled_from([True, False, None]),
        st.text("ab ,;\"'\né", max_size=8),
    ),
)


@given(
    st.lists(st.tuples(st.integers(1, 2**40), st.text('xyz ,"', max_size=5), VERDICTS), max_size=8)
)
def test_a_table_survives_being_written(rows: list[tuple[int, str, dict[str, Verdict]]]) -> None:
    table = InspectionTable.new(
        ["ann", "bob"],
        [InspectionRow(0, expnum, {"plver": cell}, found) for expnum, cell, found in rows],
        ["plver"],
    )
    again = read_inspection_csv(write_inspection_csv(table))
    assert not again.skipped
    assert again.columns == table.columns
    assert [(row.expnum, row.cells["plver"], row.verdicts) for row in again.rows] == rows


def test_real_inspection_table_is_written_back_byte_for_byte(shared_data: Path) -> None:
    path = shared_data / "legacypipe" / "dr11_final_selected_bad_exposures.csv"
    table = read_inspection_csv(path)
    assert table.inspectors == ["alex", "frank", "yufeng"]
    assert len(table.rows) == 939
    assert write_inspection_csv(table) == path.read_bytes()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"exposure,ann_badexp\n1,y\n", "no column 'expnum'"),
        (b"expnum,ML_reason\n1,y\n", "_badexp"),
        (b"expnum,a_badexp,a_badexp\n1,y,y\n", "twice"),
        (b"", "no column 'expnum'"),
    ],
)
def test_a_table_of_another_form_is_refused(content: bytes, what: str) -> None:
    with pytest.raises(SurveyError, match=what):
        read_inspection_csv(content)
