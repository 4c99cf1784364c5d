"""What happens to the inputs of a survey: they are taken away, cut, emptied, renamed, touched."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import fitsio

Disturb = Callable[[Path, random.Random], None]


@dataclass(frozen=True)
class Disturbance:
    """Something that is done to the inputs `of` a kind (see `tests.campaign.world.Step.reads`).

    `new_values` are the tables whose values are others after the next run, and rightly so.
    """

    name: str
    of: str
    do: Disturb
    new_values: tuple[str, ...] = ()


def _files(inputs: Path, of: str) -> list[Path]:
    """Return the files of a kind."""
    place = {
        "table": "ccds.fits.gz",
        "list": "bad_expid.txt",
        "lists": "delve",
        "verdicts": "verdicts.csv",
        "incoming": "incoming",
        "images": "images",
    }[of]
    path = inputs / place
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def _some(inputs: Path, of: str, chance: random.Random) -> Iterator[Path]:
    files = _files(inputs, of)
    yield from chance.sample(files, chance.randint(1, len(files)))


def _each(of: str, change: Callable[[Path, random.Random], None]) -> Disturb:
    def disturb(inputs: Path, chance: random.Random) -> None:
        for file in _some(inputs, of, chance):
            change(file, chance)

    return disturb


def _withdraw(file: Path, _: random.Random) -> None:
    file.unlink()


def _dangle(file: Path, _: random.Random) -> None:
    file.unlink()
    file.symlink_to("nowhere")


def _empty(file: Path, _: random.Random) -> None:
    file.write_bytes(b"")


def _cut(file: Path, chance: random.Random) -> None:
    os.truncate(file, chance.randint(1, file.stat().st_size - 1))


def _touch(file: Path, chance: random.Random) -> None:
    at = file.stat().st_mtime + chance.randint(-(10**6), 10**6)
    os.utime(file, (at, at))


def _rename(file: Path, _: random.Random) -> None:
    file.rename(file.with_name(f"renamed-{file.name}"))


def _fewer_lines(file: Path, chance: random.Random) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[: chance.randint(1, len(lines))]))


def _fewer_rows(file: Path, chance: random.Random) -> None:
    rows = fitsio.read(str(file), ext=1)
    fitsio.write(str(file), rows[: chance.randint(0, len(rows))], clobber=True)


def _fewer_columns(file: Path, _: random.Random) -> None:
    rows = fitsio.read(str(file), ext=1)
    gone = ("ebv", "ccdskycounts", "fwhm")
    names = [name for name in rows.dtype.names if name.lower() not in gone]
    fitsio.write(str(file), rows[names], clobber=True)


def _other_bytes(file: Path, chance: random.Random) -> None:
    """Give one byte of the pixels another value; the size stays."""
    content = bytearray(file.read_bytes())
    content[chance.randint(len(content) // 2, len(content) - 1)] ^= 0x5A
    file.write_bytes(bytes(content))


_ANY = (
    ("withdrawn", _withdraw),
    ("emptied", _empty),
    ("cut", _cut),
    ("touched", _touch),
    ("renamed", _rename),
    ("dangling", _dangle),
)
_TEXT = ("list", "lists", "verdicts")
#: A cut text is an edition of its own, whose words then count beside the others'.
_MORE = {"list": ("labels",), "lists": ("labels",), "verdicts": ("labels",)}
ALL = (
    *(
        Disturbance(name, of, _each(of, change), _MORE.get(of, ()))
        for of in ("table", "list", "lists", "verdicts", "incoming", "images")
        for name, change in _ANY
        if (name, of) != ("renamed", "incoming")
    ),
    Disturbance("renamed", "incoming", _each("incoming", _rename), ("ccds",)),
    *(Disturbance("fewer lines", of, _each(of, _fewer_lines), _MORE[of]) for of in _TEXT),
    Disturbance("fewer rows", "table", _each("table", _fewer_rows)),
    Disturbance("fewer columns", "table", _each("table", _fewer_columns)),
    Disturbance(
        "other pixels",
        "images",
        _each("images", _other_bytes),
        ("embeddings", "predictions", "votes"),
    ),
)
