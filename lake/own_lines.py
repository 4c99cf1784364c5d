"""The lines that this program writes into a bad-exposure list, told from those that people write.

A person reads ``350495 Wonky [survey-qa: model two-step, 62 of 62 CCDs]``: the class, and where the
line comes from. The list's reader takes it as any other; this program knows it again, so that a
model never learns from its own word as if a person had said it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

#: What a line can come from: a model's votes, a round of inspection, the list of another source.
Kind = Literal["model", "round", "list"]

#: Between the classes of a line.
_AND = " + "
_OWN = re.compile(
    r"^(?P<words>.*?)\s*\[survey-qa: (?P<kind>model|round|list) (?P<name>[^\s,;\]]+)"
    r"(?:[,;] (?P<details>.*))?\]$"
)
#: As version 0.1.0 wrote what a model had voted: ``Wonky (two-step: 62 of 62 CCDs)``.
_FORMER = re.compile(
    r"^(?P<words>\w+) \((?P<name>[A-Za-z0-9][A-Za-z0-9_.+-]*): "
    r"(?P<details>\d+ of \d+ CCDs|[01]\.\d\d)\)$"
)


@dataclass(frozen=True)
class OwnLine:
    """What a line of this program says: a class or, of another list, its words; and its origin."""

    words: str
    kind: Kind
    name: str
    details: str = ""

    @property
    def origin(self) -> str:
        """Where the line comes from: ``model two-step``."""
        return f"{self.kind} {self.name}"

    def classes(self, known: Collection[str]) -> list[str]:
        """Return the classes of `known` that the words are; empty when they are none."""
        names = self.words.split(_AND)
        return names if all(name in known for name in names) else []

    def text(self) -> str:
        """Return the reason as the list has it, on one line."""
        details = " ".join(self.details.split())
        inside = f"survey-qa: {self.origin}" + (f", {details}" if details else "")
        return " ".join([*self.words.split(), f"[{inside}]"])


def join_classes(classes: Iterable[str]) -> str:
    """Return classes as the words of a line: ``PSF + Noise``."""
    return _AND.join(classes)


def read_own_line(reason: str) -> OwnLine | None:
    """Return what a reason says that this program has written; None for a person's words."""
    words = " ".join(reason.split())
    if (found := _OWN.match(words)) is not None:
        return OwnLine(found["words"], found["kind"], found["name"], found["details"] or "")  # type: ignore[arg-type]
    if (found := _FORMER.match(words)) is not None:
        return OwnLine(found["words"], "model", found["name"], found["details"])
    return None
