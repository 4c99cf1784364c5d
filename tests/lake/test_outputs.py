"""Files that a person named are written whole or not at all, and over nothing else."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lake.errors import SurveyError
from lake.outputs import output_file, output_folder, write_output, write_output_text

ROOT = Path(__file__).resolve().parent.parent.parent


def put(path: Path, content: bytes) -> None:
    with output_file(path).opened() as file:
        file.write(content)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_fails_half_way_leaves_what_stood_before(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), output_file(path).opened() as file:
        file.write(b"half")
        assert path.read_text() == "before"
        assert all(name == "rows.csv" or name.startswith(".rows.csv.") for name in names(tmp_path))
        raise ZeroDivisionError
    assert path.read_text() == "before" and names(tmp_path) == ["rows.csv"]


def test_a_file_keeps_its_permissions_and_a_link_its_target(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    real, link = tmp_path / "runs" / "3.csv", tmp_path / "latest.csv"
    real.write_text("before")
    real.chmod(0o640)
    link.symlink_to("runs/3.csv")
    put(link, b"after")
    assert link.is_symlink() and real.read_text() == "after"
    assert real.stat().st_mode & 0o777 == 0o640
    put(tmp_path / "new.csv", b"new")
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "new.csv").stat().st_mode & 0o777 == 0o666 & ~umask


def test_names_as_long_as_a_file_system_takes(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 125 + ".csv")
    put(path, b"rows")
    assert names(tmp_path) == [path.name]
    with pytest.raises(SurveyError, match="File name too long"):
        output_file(tmp_path / ("x" * 300 + ".csv"))


def test_what_a_killed_run_left_beside_a_file_goes(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from lake.outputs import output_file\n"
        "with output_file(Path(sys.argv[1])).opened() as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), 9)"
    )
    path = tmp_path / "rows.csv"
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT)
    assert len(names(tmp_path)) == 1 and not path.exists()
    put(path, b"whole")
    assert names(tmp_path) == ["rows.csv"]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    root = tmp_path / "survey.lake"
    (root / "ccds" / "release=dr10").mkdir(parents=True)
    (root / "ccds" / "release=dr10" / "part-0.parquet").write_text("rows")
    (tmp_path / "elsewhere").mkdir()
    (root / "embeddings").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(root / "ccds")
    (tmp_path / "part.parquet").symlink_to(root / "ccds" / "release=dr10" / "part-0.parquet")
    (tmp_path / "new.parquet").symlink_to(root / "new.parquet")
    return root


@pytest.mark.parametrize(
    "name",
    [
        "survey.lake",
        "survey.lake/x.csv",
        "survey.lake/ccds/release=dr10/part-0.parquet",
        "survey.lake/ccds/../new.csv",
        "link/x.csv",
        "link/release=dr10/part-0.parquet",
        "part.parquet",
        "new.parquet",
        "elsewhere/x.parquet",
        "elsewhere/../survey.lake/x.csv",
    ],
)
def test_nothing_is_written_into_a_lake(tmp_path: Path, lake: Path, name: str) -> None:
    for check in (output_file, output_folder):
        with pytest.raises(SurveyError, match="lies in the lake"):
            check(tmp_path / name, lake)
    assert output_file(tmp_path / "survey.lakes", lake)


def test_nothing_is_written_over_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("1 clouds\n")
    (tmp_path / "soft.txt").symlink_to("list.txt")
    (tmp_path / "hard.txt").hardlink_to(tmp_path / "list.txt")
    for output in ("list.txt", "soft.txt", "hard.txt", "./list.txt"):
        for source in ("list.txt", "soft.txt", "hard.txt"):
            with pytest.raises(SurveyError, match="this command reads it"):
                output_file(tmp_path / output, None, [tmp_path / source])
    (tmp_path / "images" / "CP").mkdir(parents=True)
    (tmp_path / "inside").symlink_to("images/CP")
    for output in ("images/x.csv", "images/CP/x.csv", "inside/x.csv"):
        with pytest.raises(SurveyError, match="which this command reads"):
            output_file(tmp_path / output, None, [None, tmp_path / "images"])
    with pytest.raises(SurveyError, match="this command reads"):
        output_folder(tmp_path / "images", None, [tmp_path / "images"])
    assert output_file(tmp_path / "x.csv", None, [tmp_path / "images", tmp_path / "absent"])


def test_a_link_inside_a_folder_of_results_is_replaced_not_followed(
    tmp_path: Path, lake: Path
) -> None:
    folder = output_folder(tmp_path / "report", lake)
    folder.mkdir()
    part = lake / "ccds" / "release=dr10" / "part-0.parquet"
    (folder / "index.html").symlink_to(part)
    write_output_text(folder / "index.html", "page")
    assert part.read_text() == "rows" and (folder / "index.html").read_text() == "page"


@pytest.mark.parametrize("name", ["folder", "absent/x.csv", "file/x.csv", "loop"])
def test_what_cannot_be_written_is_told_before(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SurveyError, match=f"cannot write .*{name}"):
        output_file(tmp_path / name)
    with pytest.raises(SurveyError, match="cannot write"):
        output_folder(tmp_path / "file")


def test_special_files_take_what_comes(tmp_path: Path) -> None:
    put(Path("/dev/null"), b"rows")
    assert Path("/dev/null").is_char_device()
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    put(pipe, b"rows")
    reader.join()
    assert got == [b"rows"] and pipe.is_fifo()
    with pytest.raises(SurveyError, match="cannot write /dev/full: No space left"):
        put(Path("/dev/full"), b"rows")


def test_the_standard_output_is_written_where_it_stands(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from lake.outputs import output_file\n"
        "for name in ('/dev/stdout', '/dev/fd/1', '/proc/self/fd/1', 'link'):\n"
        "    with output_file(Path(name)).opened() as file: file.write(b'rows\\n')"
    )
    (tmp_path / "link").symlink_to("/dev/stdout")
    log = tmp_path / "log"
    log.write_text("before\n")
    with log.open("a") as out:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", code], stdout=out, cwd=tmp_path, env=environment)
    assert log.read_text() == "before\n" + 4 * "rows\n"


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of a megabyte; the test is skipped where that is not allowed."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_what_stood_before(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        for path, write in ((disk / "rows.csv", put), (disk / "page.html", write_page)):
            path.write_text("before")
            with pytest.raises(SurveyError) as error:
                write(path, b"x" * 3_000_000)
            assert "No space left" in str(error.value) and "as it was" in str(error.value)
            assert path.read_text() == "before"
        assert names(disk) == ["page.html", "rows.csv"]


def write_page(path: Path, content: bytes) -> None:
    write_output(path, lambda file: file.write(content))


def test_a_file_that_may_not_grow_leaves_what_stood_before(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(SurveyError, match=os.strerror(errno.EFBIG)):
            put(path, b"x" * 300_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "before" and names(tmp_path) == ["rows.csv"]
