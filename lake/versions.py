"""Which version comes after which: of pipelines, of releases."""

from __future__ import annotations


def natural(version: str) -> str:
    """Return what sorts versions as people do: ``V4.8.2a`` before ``V4.10``.

    Runs of digits are compared as numbers.
    """
    pieces = "".join(c if c.isdigit() else f" {c} " for c in version).split()
    return " ".join(piece.zfill(8) if piece.isdigit() else piece for piece in pieces)
