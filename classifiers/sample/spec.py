"""Which labelled CCDs are learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lake.errors import BadInput


@dataclass(frozen=True)
class SampleSpec:
    """The training sample: balanced, of good CCDs and of every class of bad ones.

    Attributes
    ----------
    release : release of the CCD table and labels; None when the lake has one alone.
    sources : lists whose labels count; all of them when empty.
    nights : patterns as ``--partition`` takes them; None for all nights.
    good : how many CCDs of good exposures are drawn, of those with a vector of the first embedder;
        10,000 as in Luo et al. (2026), section 2.4.
    max_ebv : largest E(B-V), mag, so that stars and dust of the Milky Way are not taken for
        defects; 0.04 as in section 2.4.
    trust_own_lines : whether lines that this program wrote into a list are labels too. They are
        not by default: a model would learn from itself.

    Raises
    ------
    SurveyError : fewer than one good CCD, or an E(B-V) that is not a number from 0.
    """

    release: str | None = None
    sources: Sequence[str] = ()
    nights: Sequence[str] | None = None
    good: int = 10_000
    max_ebv: float = 0.04
    trust_own_lines: bool = False

    def __post_init__(self) -> None:
        for name in ("sources", "nights"):
            if isinstance(value := getattr(self, name), str):
                raise BadInput(f"{name} {value!r}: give a list of texts, such as [{value!r}]")
            if value is not None:
                object.__setattr__(self, name, tuple(value))
        if self.good < 1:
            raise BadInput(f"good {self.good}: give 1 CCD or more")
        if not self.max_ebv >= 0:
            raise BadInput(f"max_ebv {self.max_ebv}: give an E(B-V) in mag, from 0")

    def to_card(self) -> dict[str, Any]:
        """Return what a model card says of the sample, beside the release."""
        entries: dict[str, Any] = {
            "sources": list(self.sources),
            "good": self.good,
            "max_ebv": self.max_ebv,
            "nights": None if self.nights is None else list(self.nights),
        }
        # Cards of version 0.1.0 do not have it: what they identify must stay the same.
        return entries | ({"trust_own_lines": True} if self.trust_own_lines else {})

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> SampleSpec:
        """Return the sample that a model was trained on, by its card."""
        training = card["training"]
        return cls(
            release=training["release"],
            sources=training["sources"],
            nights=training["nights"],
            good=training["good"],
            max_ebv=training["max_ebv"],
            trust_own_lines=training.get("trust_own_lines", False),
        )
