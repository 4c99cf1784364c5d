"""The one kind of error that a person is meant to read."""

from __future__ import annotations


class SurveyError(Exception):
    """What is wrong, where (file, line, row) and what to do about it, in one line.

    The command line prints the message alone and exits 1; everything else that is raised is a
    defect of this program and keeps its traceback for ``--verbose``.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))
