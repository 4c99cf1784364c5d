"""What is wrong with a file, in plain words instead of those of the libraries that read it."""

from __future__ import annotations

import re
import zlib

from lake.errors import escaped

#: Characters of the words, at most: they stand in a sentence that names the file.
LONGEST = 160

#: ``FITSIO status = 107: tried to move past end of file``, then lines on where in cfitsio.
_STATUS = re.compile(r"FITSIO status\s*=\s*(\d+)\s*:\s*(.*)")
#: Statuses of cfitsio (its user's guide, appendix C), and what they mean for who has the file.
_WORDS = {
    104: "it cannot be opened",
    107: "it ends before its data: truncated?",
    108: "it ends before its data, or is no FITS file",
    113: "it asks for more memory than there is: damaged header?",
    116: "it ends before its data: truncated?",
    252: "an HDU does not begin as FITS does",
    413: "its pixels cannot be decompressed",
    414: "its pixels cannot be decompressed",
}
_TRUNCATED = "it ends before its data: truncated?"
#: Ranges of statuses that are of one kind; cfitsio's own words say which of it.
_KINDS = (
    (range(100, 200), "it cannot be read to its end"),
    (range(200, 300), "its header is damaged"),
    (range(300, 400), "the header of a table or an image is damaged"),
    (range(400, 500), "its values are damaged"),
)
#: Words of a programming language, which mean nothing to who has the file.
_OF_PYTHON = re.compile(
    r"\b\w+(Error|Exception|Warning)\b|NoneType|object has no|codec|traceback|argument|0x[0-9a-f]"
    r"|\b(str|int|float|bytes|tuple|dict|list|ndarray|dtype|numpy|self)\b|[<>{}]|__",
    re.IGNORECASE,
)


def plain_words(error: BaseException) -> str:
    """Return what `error`, raised by a library that reads a file or its pixels, says of the file.

    One line of at most `LONGEST` characters that begins with what the file is or does, such as
    ``it ends before its data: truncated?``.
    """
    text = " ".join(str(error).split())
    if status := _STATUS.search(str(error)):
        return _shortened(_of_status(int(status[1]), status[2]))
    if isinstance(error, UnicodeError):
        return "its header is damaged: it holds bytes that are no text"
    if isinstance(error, EOFError):
        return _TRUNCATED
    if isinstance(error, zlib.error):
        return "its content cannot be decompressed"
    if isinstance(error, MemoryError):
        return _WORDS[113]
    if isinstance(error, OSError) and error.strerror:
        return _shortened(f"it cannot be read: {error.strerror}")
    if not text or _OF_PYTHON.search(text):
        return "it holds what cannot be read: damaged?"
    return _shortened(f"it holds what cannot be read: {text}")


def _of_status(number: int, words: str) -> str:
    if number in _WORDS:
        return _WORDS[number]
    kind = next((kind for numbers, kind in _KINDS if number in numbers), "it cannot be read")
    words = words.strip().rstrip(".")
    return f"{kind}: {words}" if words and not _OF_PYTHON.search(words) else kind


def _shortened(words: str) -> str:
    line = escaped(words[:LONGEST])
    return line if len(line) < LONGEST else line[: LONGEST - 1] + "…"
