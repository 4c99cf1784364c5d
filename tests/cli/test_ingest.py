"""What `ingest` says of inputs that cannot be used, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path

import fitsio
import pytest

from cli.main import app, run
from tests.ingest.test_ccds import ccd_table


def survey_qa(*words: str) -> int:
    return run(lambda: app(list(words), standalone_mode=False), verbose=False)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ccds", "missing.fits", "--release", "r"], "missing.fits: no such file"),
        (["ccds", "folder", "--release", "r"], "folder: not a plain file"),
        (["ccds", "list.txt", "--release", "r"], "list.txt: not a readable FITS file"),
        (["ccds", "ccds.fits", "--release", "a/b"], "release 'a/b': use letters"),
        (["reports", "missing.txt", "--source", "decals"], "missing.txt: no such file"),
        (["reports", "folder", "--source", "decals"], "folder: no .txt file in this folder"),
        (["reports", "ccds.fits", "--source", "decals"], "not a text list but a FITS file"),
        (["images", "folder", "--release", "r"], "folder: no file in it matches"),
    ],
)
def test_an_ingest_that_fails_leaves_no_lake(
    words: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "list.txt").write_text("1 PSF\n")
    fitsio.write("ccds.fits", ccd_table())
    assert survey_qa("ingest", *words) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert says in captured.err
    assert not (tmp_path / "survey.lake").exists()


def test_a_folder_that_was_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "survey.lake").mkdir()
    assert survey_qa("ingest", "ccds", "missing.fits", "--release", "r") == 1
    assert (tmp_path / "survey.lake").is_dir()
