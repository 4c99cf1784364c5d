"""Which key means what: one table for the page, its help and its tests."""

from __future__ import annotations

from collections.abc import Sequence

#: Keys that do something else than name a class.
ACTIONS: dict[str, str] = {
    "g": "good",
    "b": "bad",
    "u": "unsure",
    "q": "quality 0",
    "w": "quality 1",
    "e": "quality 2",
    "r": "quality 3",
    "t": "quality 4",
    "c": "comment",
    "z": "undo",
    "n": "next",
    "p": "previous",
    "j": "next without a verdict",
    "s": "next stretch",
    "x": "CCD at full resolution",
    "m": "marks on and off",
    "l": "list of 50",
    "f": "filter and sort",
    "v": "survey's viewer",
}
QUALITY_KEYS = ("q", "w", "e", "r", "t")
_DIGITS = "1234567890"
_LETTERS = "aoyidhk"


def class_keys(classes: Sequence[str]) -> dict[str, str]:
    """Return key -> class: digits in order, then letters, the class's own where one is free.

    Classes beyond the keys get none; a mouse reaches them.
    """
    keys = dict(zip(_DIGITS, classes, strict=False))
    free = [letter for letter in _LETTERS if letter not in ACTIONS]
    for name in classes[len(_DIGITS) :]:
        letter = next((c for c in name.lower() if c in free), free[0] if free else None)
        if letter is None:
            break
        free.remove(letter)
        keys[letter] = name
    return keys
