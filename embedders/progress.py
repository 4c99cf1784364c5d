"""What a run tells those who watch it, and what it says at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol


@dataclass
class EmbedSummary:
    """What a run did.

    `n_images` counts the vectors computed now, `n_reused` those kept from an earlier run of the
    same partitions, `n_failed` the CCDs that could not be used (rows of ``failures``; an exposure
    of which none could counts too where whole exposures are embedded), `n_unmasked` the CCDs in
    these partitions whose mask was asked for and is missing.
    `kept` counts, by why, vectors that the run did not ask for or could not make, and that stay;
    `n_pruned` those that went since that was asked. `n_apart` vectors wait beside those of other
    settings, since `n_behind` of these have no new one yet. `remaining` names the partitions that a
    run which was stopped has left.
    """

    n_partitions: int = 0
    n_skipped: int = 0
    n_images: int = 0
    n_reused: int = 0
    n_failed: int = 0
    n_unmasked: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    n_pruned: int = 0
    n_apart: int = 0
    n_behind: int = 0
    seconds: float = 0.0
    stopped: bool = False
    remaining: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Images per second, over the whole run."""
        return self.n_images / self.seconds if self.seconds else 0.0

    def __add__(self, other: EmbedSummary) -> EmbedSummary:
        """Return the summary of two runs side by side."""
        return EmbedSummary(
            self.n_partitions + other.n_partitions,
            self.n_skipped + other.n_skipped,
            self.n_images + other.n_images,
            self.n_reused + other.n_reused,
            self.n_failed + other.n_failed,
            self.n_unmasked + other.n_unmasked,
            self.kept + other.kept,
            self.n_pruned + other.n_pruned,
            self.n_apart + other.n_apart,
            self.n_behind + other.n_behind,
            max(self.seconds, other.seconds),
            self.stopped or other.stopped,
            sorted(self.remaining + other.remaining),
        )


@dataclass(frozen=True)
class Event:
    """A step of a run, for those who watch it.

    ``skipped``: the partition was current; ``images``: `n_images` more of it are done and
    `n_failed` failed; ``committed``: it is in the lake, with so many in all. `n_partitions` of
    `of_partitions` are settled.
    """

    kind: Literal["skipped", "images", "committed"]
    partition: str
    n_images: int
    n_failed: int
    n_partitions: int
    of_partitions: int


Progress = Callable[[Event], None]


class Stop(Protocol):
    """What tells a run to end soon: an event of threads or of processes."""

    def is_set(self) -> bool:
        """Tell whether to end."""
