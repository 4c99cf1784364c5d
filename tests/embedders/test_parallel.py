"""Several devices: each has a process and a share of the nights, and nothing of it shows."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import pytest

from embedders import engine, registry
from embedders.engine import Event, run
from embedders.parallel import DeviceTask, embed_side_by_side
from embedders.plan import Job
from embedders.progress import EmbedSummary
from lake.errors import SurveyError
from lake.store import Lake
from tests.embedders.doubles import MeanOnDevice
from tests.embedders.skies import make

NIGHTS = [("decam", f"2014010{n}") for n in (1, 2, 3)]


@pytest.fixture
def images(lake: Lake, tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    make(lake, folder, {night: (int(night[-1]),) for _, night in NIGHTS})
    return folder


def tasks(lake: Lake, images: Path, **options: int) -> list[DeviceTask]:
    job = Job(MeanOnDevice.name, {}, MeanOnDevice.dimension, {}, (images,), force=True)
    double = partial(MeanOnDevice, **options)
    return [
        DeviceTask("first", lake.root, job, double, tuple(NIGHTS[:2]), 1),
        DeviceTask("second", lake.root, job, double, tuple(NIGHTS[2:]), 1),
    ]


def vectors(lake: Lake) -> dict[str, bytes]:
    return {p.name: p.path.read_bytes() for p in lake.partitions("embeddings")}


def test_two_devices_write_what_one_does(lake: Lake, images: Path) -> None:
    events: list[Event] = []
    both = embed_side_by_side(tasks(lake, images), events.append, threading.Event())
    assert (both.n_partitions, both.n_images, both.n_failed, both.stopped) == (3, 12, 0, False)
    committed = [event for event in events if event.kind == "committed"]
    assert [event.n_partitions for event in committed] == [1, 2, 3]
    assert {event.of_partitions for event in committed} == {3}
    found = vectors(lake)
    run(lake, MeanOnDevice(), images, workers=1, force=True)
    assert vectors(lake) == found


def test_what_fails_on_one_device_is_said(lake: Lake, images: Path) -> None:
    with pytest.raises(SurveyError, match="memory for one image"):
        embed_side_by_side(tasks(lake, images, most=0), None, threading.Event())
    assert not lake.partitions("embeddings")


def test_stop_reaches_every_device(lake: Lake, images: Path) -> None:
    stop = threading.Event()
    stop.set()
    summary = embed_side_by_side(tasks(lake, images), None, stop)
    assert summary.stopped and summary.n_partitions + len(summary.remaining) == 3


def test_each_device_gets_its_share(
    lake: Lake, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[DeviceTask] = []

    def record(tasks: list[DeviceTask], *rest: object) -> EmbedSummary:
        given.extend(tasks)
        return EmbedSummary()

    monkeypatch.setattr(engine, "embed_side_by_side", record)
    monkeypatch.setattr(registry, "embedder", lambda options: MeanOnDevice())
    run(lake, "mean", images, device="cuda:0,cuda:1")
    assert [task.device for task in given] == ["cuda:0", "cuda:1"]
    assert sorted(night for task in given for night in task.nights) == NIGHTS
    assert all(task.nights for task in given)
