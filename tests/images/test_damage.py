"""A damaged file is told in plain words, whatever the library that read it raised."""

from __future__ import annotations

import gzip
import random
import re
import zlib
from collections import Counter
from pathlib import Path

import fitsio
import numpy as np
import pytest

from embedders.tasks import Ccd, FileTask
from embedders.worker import _images, _measured
from images.damage import plain_words
from images.headers import read_headers
from images.pixels import open_images, read_ccd
from lake.errors import SurveyError

#: What a person who has the file should not have to read.
_NOT_PLAIN = re.compile(
    r"\w+Error\b|\w+Exception\b|NoneType|FITSIO status|codec|Traceback|object has no|cannot reshape"
)


def healthy(folder: Path) -> list[Path]:
    """Write images as surveys have them: tiles of Rice, plain, and packed as a whole."""
    rng = np.random.default_rng(0)
    image = rng.normal(100, 5, (64, 48)).astype("f4")
    cards = {"EXPNUM": 1, "INSTRUME": "decam", "PROPID": "2014B-0404", "FILTER": "g DECam"}
    rice, plain = folder / "rice.fits.fz", folder / "plain.fits"
    with fitsio.FITS(str(rice), "rw") as file:
        file.write(None, header=cards)
        for name in ("N1", "N2"):
            file.write(
                image, extname=name, compress="RICE", tile_dims=(1, 48), header={"CCDNUM": 1}
            )
    with fitsio.FITS(str(plain), "rw") as file:
        file.write(None, header=cards)
        file.write(image, extname="N1")
        file.write((image > 100).astype("i2"), extname="N2")
    packed = folder / "packed.fits.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    return [rice, plain, packed]


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Return `content` cut short, with some bits turned, or with a stretch of nothing."""
    broken = bytearray(content)
    how = chance.choice(["cut", "bit", "bits", "head", "nothing"])
    if how == "cut":
        return bytes(broken[: chance.randrange(len(broken))])
    if how == "nothing":
        start = chance.randrange(len(broken))
        stretch = broken[start : start + chance.randrange(1, 9000)]
        broken[start : start + len(stretch)] = bytes(len(stretch))
        return bytes(broken)
    reach = min(len(broken), 9000) if how == "head" else len(broken)
    for _ in range({"bit": 1, "bits": 100, "head": 8}[how]):
        broken[chance.randrange(reach)] ^= 1 << chance.randrange(8)
    return bytes(broken)


def told(path: Path) -> list[str]:
    """Return all that is said of a file by who reads its CCDs, and its headers."""
    texts = []
    for height in (None, 16):
        for name in ("N1", "N2"):
            try:
                with open_images(path) as file:
                    read_ccd(file, path, None, name, height)
            except SurveyError as error:
                texts.append(str(error).removeprefix(str(path)))
        task = FileTask("a.fits", path, (Ccd(1, 1, None, "N1"), Ccd(1, 2, 2, None)), height=height)
        texts += [outcome for _, outcome in _images(task) if isinstance(outcome, str)]
    texts += [text.removeprefix(str(path)) for _, text in read_headers(path).errors]
    return texts


def check(texts: list[str]) -> None:
    for text in texts:
        assert text.strip() and "\n" not in text and len(text) < 300, text
        assert text.isprintable() and not _NOT_PLAIN.search(text), text


@pytest.mark.parametrize("seed", range(3))
def test_what_is_said_of_damage_is_one_plain_line(tmp_path: Path, seed: int) -> None:
    chance, kinds = random.Random(seed), Counter[str]()
    for source in healthy(tmp_path):
        content = source.read_bytes()
        for _ in range(120):
            path = tmp_path / f"damaged{''.join(source.suffixes)}"
            path.write_bytes(damaged(content, chance))
            texts = told(path)
            check(texts)
            kinds.update(re.sub(r"\d+", "N", text) for text in texts)
    assert any("truncated?" in kind for kind in kinds)
    assert len(kinds) > 10


def test_real_images_that_are_damaged_are_told_alike(tmp_path: Path, shared_data: Path) -> None:
    chance = random.Random(0)
    sources = sorted((shared_data / "legacypipe" / "survey").rglob("*ooi*.fits*"))
    small = [path for path in sources if path.stat().st_size < 4e6][:6]
    assert small
    for source in small:
        for _ in range(40):
            path = tmp_path / f"damaged{''.join(source.suffixes[-2:])}"
            path.write_bytes(damaged(source.read_bytes(), chance))
            check(told(path))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("FITSIO status = 107: tried to move past end of file\nffgphd"), "ends before its"),
        (OSError("FITSIO status = 414: error uncompressing image"), "cannot be decompressed"),
        (OSError("FITSIO status = 211: illegal BITPIX keyword value"), "illegal BITPIX keyword"),
        (OSError(13, "Permission denied"), "Permission denied"),
        (
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
            "bytes that are no text",
        ),
        (TypeError("'NoneType' object is not subscriptable"), "damaged?"),
        (ValueError("cannot convert float NaN to integer"), "damaged?"),
        (KeyError("ZNAXIS1"), "ZNAXIS1"),
        (MemoryError(), "more memory than there is"),
        (EOFError("Compressed file ended before the end-of-stream marker"), "truncated?"),
        (zlib.error("Error -3"), "cannot be decompressed"),
        (RuntimeError("x" * 9_000), "xxx…"),
        (RuntimeError("a\x1b[2J\nb"), r"a\x1b[2J b"),
        (RuntimeError(), "damaged?"),
    ],
)
def test_errors_of_libraries_become_words(error: Exception, words: str) -> None:
    assert words in plain_words(error)
    check([plain_words(error)])


def test_an_image_of_other_axes_is_told_by_their_number(tmp_path: Path) -> None:
    path = tmp_path / "cube.fits"
    with fitsio.FITS(str(path), "rw") as file:
        file.write(None)
        file.write(np.zeros((2, 3, 4), "f4"), extname="N1")
    with open_images(path) as file:
        with pytest.raises(SurveyError, match="two-dimensional image, found 3 axes"):
            read_ccd(file, path, None, "N1")
        with pytest.raises(SurveyError, match="two-dimensional image, found no pixels"):
            read_ccd(file, path, 0, None)


def test_an_embedder_that_fails_is_told_without_the_words_of_python(tmp_path: Path) -> None:
    class Broken:
        def embed(self, images: list[np.ndarray]) -> np.ndarray:
            raise TypeError("unsupported operand type(s) for +: 'int' and 'str'")

    task = FileTask("a.fits", tmp_path / "a.fits", ())
    text = _measured(np.zeros((2, 2), np.float32), Broken(), task)
    assert text == "cannot be used (it holds what cannot be read: damaged?)"
