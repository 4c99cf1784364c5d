"""The errors that a person is meant to read, by kind, and text that is safe to show."""

from __future__ import annotations

import unicodedata

#: Characters in a line for people, at most: what is wrong comes first and stays.
LONGEST_LINE = 500
#: Kinds of characters that could drive a terminal or reorder what it shows: controls (escape
#: sequences, NUL), formats (bidirectional overrides), halves of characters that are not UTF-8,
#: and ends of lines and paragraphs.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


class SurveyError(Exception):
    """What is wrong, where (file, line, row) and what to do about it, in one line.

    The command line prints the message alone and exits 1; everything else that is raised is a
    defect of this program and keeps its traceback for ``--verbose``. The line is safe to print
    whatever the name of a file or the cell of a table that it quotes, see `one_line`.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(" ".join(str(message).split())))


class NotFound(SurveyError):
    """What was named is not there: a file, table, model, round, release or class."""


class BadInput(SurveyError):
    """What was given cannot be used: a value, an option, the content of a file."""


class Conflict(SurveyError):
    """What is there stands against it: a name in use, other settings, stale votes."""


class Damaged(SurveyError):
    """A file cannot be read as what it is to be, or is not whole."""


def one_line(text: str) -> str:
    """Return `text` as one line that a terminal only shows: escaped, and cut where it is long."""
    # Cut first: a cell may hold megabytes.
    line = escaped(text[: LONGEST_LINE + 1])
    return line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…"


def escaped(text: str, keep: str = "") -> str:
    r"""Return `text` with what could drive a terminal written out: ``\x1b``, ``\u202e``.

    Parameters
    ----------
    keep : characters that stay as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        if character in keep or unicodedata.category(character) not in _UNSAFE
        else character.encode("unicode_escape").decode()
        for character in text
    )


def is_text(text: str) -> bool:
    """Tell whether `text` can be written as UTF-8: a file's name need not be."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
