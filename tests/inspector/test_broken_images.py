"""What cannot be drawn is told in a picture: no broken file brings the server down or a 500."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import fitsio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from inspector import pixels
from inspector.facts import Facts
from inspector.focal_plane import COLUMNS, MOSAIC_SIZE, layout
from inspector.notice import draw_notice
from inspector.pixels import Wanted, read_binned
from inspector.render import MAX_DEATHS
from inspector.rounds import Round
from inspector.serve import build_app
from tests.inspector.conftest import Survey, make_round

BASE = "http://127.0.0.1:8642"
KINDS = ("thumbnail", "mosaic", "partial", "whole/28")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def survey(survey: Survey, tmp_path: Path) -> Survey:
    """A survey whose images a test may damage."""
    images = tmp_path / "images"
    shutil.copytree(survey.images, images)
    return replace(survey, images=images)


@pytest.fixture
def round(survey: Survey) -> Round:
    return make_round(survey.lake)


@pytest.fixture
def client(survey: Survey, round: Round) -> Iterator[TestClient]:
    app = build_app(round, survey.images, workers=2)
    with TestClient(app, base_url=BASE, raise_server_exceptions=False) as made:
        made.post("/sign-in", data={"name": "ann"}, headers={"origin": BASE})
        yield made


def file_of(survey: Survey, round: Round, place: int = 0) -> Path:
    found = Facts(survey.lake).layout(round.subjects[place])
    assert found is not None
    return survey.images / found.places[0].file


def words(answer: Any) -> str:
    """Return what the picture in an answer says, having looked at all that it must be."""
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["cache-control"] == "no-store"
    root = ElementTree.fromstring(answer.content)
    assert root.tag == f"{SVG}svg"
    assert "no image" in "".join(root.itertext())
    title = root.findtext(f"{SVG}title")
    assert title is not None
    shown = " ".join(span.text or "" for span in root.iter(f"{SVG}tspan"))
    assert shown
    return title.removeprefix("no image: ")


def drawn(answer: Any) -> Image.Image:
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
    return Image.open(io.BytesIO(answer.content))


def hdus(image: Any, **options: Any) -> Callable[[Path], None]:
    """Return what puts a file of 62 equal CCDs in the place of one."""

    def write(path: Path) -> None:
        with fitsio.FITS(str(path)) as file:
            names = [hdu.get_extname() for hdu in file][1:]
        path.unlink()
        with fitsio.FITS(f"{path}.new", "rw") as file:
            file.write(None)
            for name in names:
                file.write(image, extname=name, **options)
        Path(f"{path}.new").rename(path)

    return write


def truncated(length: int) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[:length])  # type: ignore[return-value]


def filled(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content)  # type: ignore[return-value]


def flipped(seed: int, first: int, count: int) -> Callable[[Path], None]:
    """Return what changes some bytes from `first` on: headers lie before, pixels behind."""

    def write(path: Path) -> None:
        rng = np.random.default_rng(seed)
        data = np.frombuffer(path.read_bytes(), np.uint8).copy()
        data[rng.integers(first, len(data), count)] = rng.integers(0, 256, count)
        path.write_bytes(data.tobytes())

    return write


def linked(target: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return write


def swapped(make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.unlink()
        make(path)

    return write


def primary(*cards: str) -> bytes:
    """Return a file of one header: cards as KEY=VALUE."""
    lines = []
    for card in ("SIMPLE=T", *cards):
        key, value = card.split("=")
        aligned = value.ljust(20) if value.startswith("'") else value.rjust(20)
        lines.append(f"{key:8}= {aligned}".ljust(80))
    text = "".join([*lines, "END".ljust(80)])
    return text.ljust(-(-len(text) // 2880) * 2880).encode()


def without_data(path: Path) -> None:
    """Put a file in the place of one that has its CCDs, and nothing in them."""
    with fitsio.FITS(str(path)) as file:
        names = [hdu.get_extname() for hdu in file][1:]
    cards = ("BITPIX=8", "NAXIS=0", "PCOUNT=0", "GCOUNT=1")
    empty = [primary(*cards, f"EXTNAME='{name:8}'") for name in names]
    image = "XTENSION= 'IMAGE   '".ljust(80).encode()
    path.write_bytes(primary(*cards) + b"".join(image + each[80:] for each in empty))


FLAT = np.ones((128, 64), np.float32)
IMAGE = ("BITPIX=-32", "NAXIS=2")
#: What is done to a file, and what is said of it then, where that is known.
BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (swapped(lambda path: None), "no such file in the image folder"),
    "folder": (swapped(Path.mkdir), "no such file in the image folder"),
    "pipe": (swapped(os.mkfifo), "no such file in the image folder"),
    "link to itself": (swapped(lambda path: path.symlink_to(path.name)), "names no file"),
    "link to nothing": (linked("nowhere.fits"), "no such file in the image folder"),
    "link outside": (linked("/etc/passwd"), "names no file in the image folder"),
    "empty": (filled(b""), "not a readable FITS file"),
    "text": (filled(b"not an image\n" * 999), "not a readable FITS file"),
    "zeros": (filled(bytes(100_000)), "not a readable FITS file"),
    "gzip": (filled(b"\x1f\x8b\x08" + bytes(5000)), "not a readable FITS file"),
    "header alone": (filled(primary("BITPIX=8", "NAXIS=0")), "two-dimensional|no such HDU"),
    "another BITPIX": (filled(primary("BITPIX=13", "NAXIS=2")), "not a readable FITS file"),
    "huge": (filled(primary(*IMAGE, "NAXIS1=1000000", "NAXIS2=1000000")), ""),
    "below zero": (filled(primary(*IMAGE, "NAXIS1=-5", "NAXIS2=7")), "not a readable FITS file"),
    "three axes": (hdus(np.ones((3, 128, 64), np.float32)), "expected a two-dimensional image"),
    "one axis": (hdus(np.ones(128, np.float32)), "expected a two-dimensional image"),
    "no data": (without_data, "expected a two-dimensional image"),
    "a table": (hdus(np.zeros(3, [("x", "f8")])), "two-dimensional|cannot be decoded"),
    "no values": (hdus(np.full((128, 64), np.nan, np.float32)), "no pixel has a value"),
    "no finite values": (hdus(np.full((128, 64), np.inf, np.float32)), "no pixel has a value"),
    "other CCDs": (swapped(lambda path: fitsio.write(str(path), FLAT, extname="Q")), "no such HDU"),
    "no pixels": (filled(primary(*IMAGE, "NAXIS1=0", "NAXIS2=7")), "no pixels|no such HDU"),
    **{f"cut at {n}": (truncated(n), "not a readable FITS file") for n in (1, 79, 80, 2879)},
    **{f"cut at {n}": (truncated(n), "") for n in (2880, 2881, 5760, 9000, 20_000, 500_000)},
    "cut by one": (truncated(-1), ""),
    **{f"changed {n}": (flipped(n, 0, 2000), "") for n in range(8)},
    **{f"pixels changed {n}": (flipped(n, 6000, 30), "") for n in range(4)},
    **{f"noise {n}": (flipped(n, 2880, 200_000), "") for n in range(4)},
}  # fmt: skip


def test_no_broken_file_is_a_500_and_the_server_lives_on(
    client: TestClient, survey: Survey, round: Round, caplog: pytest.LogCaptureFixture
) -> None:
    path = file_of(survey, round)
    whole = survey.directory / "whole.fits.fz"
    path.rename(whole)
    key, other = round.subjects[0].key, round.subjects[1].key
    assert len(BROKEN) > 40
    for name, (damage, says) in BROKEN.items():
        shutil.copyfile(whole, path)
        damage(path)
        for kind in KINDS:
            address = f"/image/{key}/zscale/{kind}"
            answer = client.get(address)
            if answer.status_code == 200:
                assert not says, (name, kind)
                assert max(drawn(answer).size) > 60
                continue
            assert answer.status_code in (404, 422), (name, kind, answer.text)
            told = words(answer)
            assert re.search(says, told), (name, kind, told)
            assert str(survey.directory) not in answer.text, (name, kind)
            assert "\n" not in told
            text = client.get(f"{address}?text")
            assert (text.status_code, text.text) == (answer.status_code, told)
            assert text.headers["content-type"].startswith("text/plain")
            assert text.headers["cache-control"] == "no-store"
        assert client.get("/inspect/list").status_code == 200
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        path.unlink(missing_ok=True)
    assert not [record for record in caplog.records if record.exc_info]
    for kind in KINDS:
        drawn(client.get(f"/image/{other}/zscale/{kind}"))
    whole.rename(path)
    drawn(client.get(f"/image/{key}/zscale/mosaic"))  # what was mended is drawn


def test_a_file_that_may_not_be_read_is_told_and_drawn_once_it_may(
    client: TestClient, survey: Survey, round: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"/image/{round.subjects[0].key}/zscale/mosaic"
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda *_: False)
        answer = client.get(address)
        assert answer.status_code == 404
        assert "may not be read" in words(answer)
        assert file_of(survey, round).name in answer.text
    drawn(client.get(address))


def test_one_value_everywhere_is_an_image(client: TestClient, survey: Survey, round: Round) -> None:
    hdus(FLAT)(file_of(survey, round))
    for kind in KINDS:
        image = np.asarray(drawn(client.get(f"/image/{round.subjects[0].key}/zscale/{kind}")))
        assert 100 < np.median(image[image > 8]) < 156


def test_ccds_without_a_value_are_crossed_out_and_the_others_are_shown(
    client: TestClient, survey: Survey, round: Round
) -> None:
    path = file_of(survey, round)
    with fitsio.FITS(str(path)) as file:
        images = [(hdu.get_extname(), hdu.read()) for hdu in file[1:]]
    path.unlink()
    with fitsio.FITS(str(path), "rw") as file:
        file.write(None)
        for place, (name, image) in enumerate(images):
            file.write(np.full_like(image, np.nan) if place < 20 else image, extname=name)
    key = round.subjects[0].key
    lit = np.asarray(drawn(client.get(f"/image/{key}/zscale/mosaic"))) > 8
    assert lit.mean() > 0.3
    number = Facts(survey.lake).exposure(round.subjects[0]).ccds
    dark = next(ccd.ccdnum for ccd in number if ccd.name == images[0][0])
    answer = client.get(f"/image/{key}/zscale/whole/{dark}")
    assert answer.status_code == 422
    assert words(answer) == f"{images[0][0]}: no pixel has a value"


def test_pixels_without_a_value_do_not_take_their_bin_with_them(tmp_path: Path) -> None:
    image = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
    image[::4] = np.nan
    image[1::4] = np.inf
    image[:16, :16] = np.nan
    path = tmp_path / "x.fits.fz"
    with fitsio.FITS(str(path), "rw") as file:
        file.write(None)
        file.write(image, extname="N1")
        file.write(image, extname="N2", compress="GZIP", qlevel=0)
    binned = read_binned(str(path), [(1, "N1", 1), (2, "N2", 2)], 16)
    for found, rows in zip(binned.values(), (16, 4), strict=True):  # of compressed ones a part
        assert not isinstance(found, str)
        assert np.isnan(found[0, 0])
        assert np.isfinite(found).sum() == 15
        cut = image[16 : 16 + rows, 16:32]
        assert found[1, 1] == pytest.approx(cut[np.isfinite(cut)].mean())


def test_a_header_that_claims_too_much_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "MAX_PIXELS", 1000)
    path = tmp_path / "x.fits"
    fitsio.write(str(path), FLAT, extname="N1")
    assert read_binned(str(path), [(1, "N1", 0)], 2)[1] == "N1: its header claims 64 x 128 pixels"


def test_an_image_larger_than_its_table_says_is_drawn_all_the_same(
    client: TestClient, survey: Survey, round: Round
) -> None:
    path = file_of(survey, round)
    path.unlink()
    with fitsio.FITS(str(path), "rw") as file:
        file.write(np.ones((3, 70_000), np.float32), extname="S29")
    key = round.subjects[0].key
    assert max(drawn(client.get(f"/image/{key}/zscale/mosaic")).size) <= 4000
    answer = client.get(f"/image/{key}/zscale/whole/1")
    assert answer.status_code == 422  # more than a JPEG can hold
    assert "S29 cannot be decoded" in words(answer)


def read_or_die(
    path: str, wanted: list[Wanted], binning: int
) -> dict[int, np.ndarray[Any, Any] | str]:
    """Do what `read_binned` does, or die as of a defect of the library, on certain CCDs."""
    if {ccdnum for ccdnum, *_ in wanted} & {1, 28} and Path(path).with_suffix(".deadly").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return read_binned(path, wanted, binning)


def read_or_raise(path: str, wanted: list[Wanted], binning: int) -> None:
    raise ZeroDivisionError(path)


def test_a_process_that_dies_costs_one_ccd(
    client: TestClient, survey: Survey, round: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inspector.render.read_binned", read_or_die)
    path = file_of(survey, round)
    deadly = path.with_suffix(".deadly")
    deadly.touch()
    key, other = round.subjects[0].key, round.subjects[1].key
    address = f"/image/{key}/zscale/mosaic"
    crossed = np.asarray(drawn(client.get(address))) > 8
    drawn(client.get(f"/image/{other}/zscale/mosaic"))
    deadly.unlink()
    answer = client.get(address)  # nothing of it was kept: memory may have been short
    healthy = np.asarray(drawn(answer)) > 8
    lost = 1 - crossed.sum() / healthy.sum()
    assert 0.5 / 62 < lost < 2.5 / 62


def test_a_file_that_kills_every_process_is_left_alone(
    client: TestClient, survey: Survey, round: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inspector.render.read_binned", die)
    deaths = file_of(survey, round).with_suffix(".deaths")
    answer = client.get(f"/image/{round.subjects[0].key}/zscale/mosaic")
    assert answer.status_code == 422
    assert "the process that read this image has died" in words(answer)
    # Each is tried in the pool, and again alone: not once for each of 62 CCDs.
    assert MAX_DEATHS <= len(deaths.read_bytes()) <= 4 * MAX_DEATHS
    assert client.get("/inspect/list").status_code == 200


def die(path: str, wanted: list[Wanted], binning: int) -> None:
    with Path(path).with_suffix(".deaths").open("ab") as file:
        file.write(b"x")
    os._exit(1)


def test_whatever_reading_or_drawing_raises_is_told(
    client: TestClient, round: Round, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    key = round.subjects[0].key
    with monkeypatch.context() as patch:
        patch.setattr("inspector.render.read_binned", read_or_raise)
        answer = client.get(f"/image/{key}/zscale/mosaic")
        assert answer.status_code == 422
        assert words(answer) == "the image cannot be read (ZeroDivisionError)"
    other = round.subjects[1].key
    monkeypatch.setattr("inspector.render.to_jpeg", lambda _: 1 / 0)
    for kind in KINDS[:3]:
        answer = client.get(f"/image/{other}/zscale/{kind}")
        assert answer.status_code == 422
        assert words(answer) == "this image cannot be drawn (ZeroDivisionError)"
    assert len([record for record in caplog.records if record.exc_info]) >= 4


def test_what_is_no_image_at_all_is_told_in_a_picture_too(client: TestClient, round: Round) -> None:
    key = round.subjects[0].key
    for path in ("decam-1-0/zscale/mosaic", f"{key}/sepia/mosaic", f"{key}/zscale/whole/99",
                 f"{key}/zscale/whole/-1", f"{key}/zscale/whole/{5000 * '9'}",
                 f"{key}/zscale/whole/x", "%00/zscale/mosaic"):  # fmt: skip
        answer = client.get(f"/image/{path}")
        assert answer.status_code == 404
        words(answer)


@given(st.text(max_size=400))
def test_a_picture_is_whole_whatever_it_says(text: str) -> None:
    root = ElementTree.fromstring(draw_notice(text))
    assert root.get("width") == "320"
    for span in root.iter(f"{SVG}tspan"):
        assert 0 < float(str(span.get("y"))) < 286


def test_a_long_reason_is_set_small_and_a_short_one_large() -> None:
    def size(text: str) -> int:
        found = [int(str(each.get("font-size"))) for each in ElementTree.fromstring(
            draw_notice(text)).iter(f"{SVG}text")]  # fmt: skip
        return found[1]

    assert size("busy") > size(20 * "no such file in the image folder ") >= 14
    assert b"&lt;b&gt;" in draw_notice("<b>")


numbers = st.none() | st.floats(width=32) | st.integers(-5000, 5000)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            dict.fromkeys(COLUMNS, numbers)
            | {
                "width": st.none() | st.integers(-10, 5000),
                "height": st.none() | st.integers(-10, 5000),
                "ccdname": st.none() | st.text(max_size=4),
                "image_filename": st.none() | st.text(max_size=9),
                "image_hdu": st.none() | st.integers(-(2**31), 2**31 - 1),
            }
        ),
        min_size=1,
        max_size=6,
    )
)
def test_a_table_of_anything_has_a_layout(rows: list[dict[str, Any]]) -> None:
    for number, row in enumerate(rows):
        row["ccdnum"] = number
    found = layout(rows)
    assert [place.ccdnum for place in found.places] == list(range(len(rows)))
    boxes = np.array([(p.left, p.top, p.width, p.height) for p in found.places])
    assert np.isfinite(boxes).all()
    assert (boxes >= -1e-6).all() and (boxes <= 1 + 1e-6).all()
    assert found.binning(MOSAIC_SIZE) >= 1
