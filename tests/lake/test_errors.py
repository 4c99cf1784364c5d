"""What is said to a person is one line that a terminal only shows."""

from __future__ import annotations

import pytest

from cli.session import say
from lake.errors import LONGEST_LINE, SurveyError, escaped, is_text, one_line
from lake.paths import LONGEST_NAME, check_name, is_abandoned, temporary_path

HOSTILE = "a\x1b[2J\x00b\u202ec\u2066d\x9b1me\u200bf\ud800g\u2028h"


def test_what_drives_a_terminal_is_written_out() -> None:
    assert str(SurveyError("x\x1b[31m")) == "x\\x1b[31m"
    shown = str(SurveyError(HOSTILE))
    assert shown.isprintable()
    assert "\\x1b[2J" in shown and "\\u202e" in shown and "\\ud800" in shown
    assert escaped("a\nb", keep="\n") == "a\nb"


def test_words_of_every_language_stay() -> None:
    words = "Größe, σ = 3 ± 1 …, 観測, ночь"
    assert str(SurveyError(words)) == words


def test_long_lines_are_cut_at_their_end() -> None:
    line = str(SurveyError("begins " + "x" * 10_000))
    assert len(line) == LONGEST_LINE
    assert line.startswith("begins x") and line.endswith("…")
    assert one_line("y" * LONGEST_LINE) == "y" * LONGEST_LINE
    assert len(one_line("\x1b" * 400)) == LONGEST_LINE


def test_messages_to_people_are_safe_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"unusable: {HOSTILE}\nsecond line")
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.rstrip("\n").isprintable()


def test_text_is_told_from_bytes_that_are_none() -> None:
    assert is_text("Größe") and not is_text("\udcff")


@pytest.mark.parametrize(
    "name", ["m\n", "m\r", "", "-m", "a/b", "..", "a b", "é", "x" * (LONGEST_NAME + 1), "x" * 300]
)
def test_a_name_that_cannot_stand_in_a_path_is_refused(name: str) -> None:
    with pytest.raises(SurveyError) as error:
        check_name("model", name)
    assert len(str(error.value)) < 200


def test_names_of_the_greatest_length_can_be_written(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    name = check_name("model", "x" * LONGEST_NAME)
    folder = tmp_path_factory.mktemp("names")
    for final in (folder / f"{name}.parquet", folder / ("é" * 127)):
        temporary = temporary_path(final)
        temporary.write_text("half")
        assert len(temporary.name.encode()) < 255 and not is_abandoned(temporary)
