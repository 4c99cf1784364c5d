"""The job scripts in docs: what they ask of the command, and what they do at the time limit."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
JOB = {
    "LAKE": "/survey/a lake",
    "IMAGES": "/survey/images",
    "SLURM_ARRAY_TASK_ID": "3",
    "SLURM_ARRAY_TASK_COUNT": "16",
    "SLURM_ARRAY_JOB_ID": "77",
    "SLURM_JOB_ID": "78",
    "SLURM_CPUS_PER_TASK": "8",
    "SLURM_NNODES": "1",
}
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


def start(folder: Path, script: str, embed: str, **more: str) -> subprocess.Popen[bytes]:
    """Start a job script where every command it uses writes down how it was called."""
    for name in ("survey-qa", "scontrol", "ray", "srun"):
        command = folder / name
        work = embed if name == "survey-qa" else ""
        noted = f"printf '%s\\n' {name} \"$@\" RAY=$RAY_ADDRESS >> {folder}/calls"
        command.write_text(f"#!/bin/bash\n{noted}\n{work}\n")
        command.chmod(0o755)
    return subprocess.Popen(
        ["bash", DOCS / script], env=JOB | more | {"PATH": f"{folder}:/usr/bin:/bin"}
    )


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def options(called: list[str]) -> dict[str, str]:
    start = called.index("embed") + 1
    end = next(i for i in range(start, len(called)) if called[i].startswith("RAY="))
    return dict(zip(called[start:end:2], called[start + 1 : end : 2], strict=True))


def test_a_task_embeds_its_share(tmp_path: Path) -> None:
    assert start(tmp_path, "embed.slurm", "", WEIGHTS="w.pth").wait(20) == 0
    assert options(calls(tmp_path)) == {
        "--lake": "/survey/a lake",
        "--embedder": "dinov2-vitb14-reg",
        "--images": "/survey/images",
        "--partition": "3/16",
        "--weights": "w.pth",
    }
    assert "scontrol" not in calls(tmp_path)


def test_what_the_script_says_is_an_option_of_the_command() -> None:
    from typer.main import get_command

    from cli.main import app

    known = {
        name
        for parameter in get_command(app).commands["embed"].params  # type: ignore[attr-defined]
        for name in parameter.opts
    }
    for script in ("embed.slurm", "embed-ray.slurm"):
        text = (DOCS / script).read_text()
        for option in ("--embedder", "--images", "--weights", "--ccds-per-exposure"):
            assert option in text and option in known
    assert {"--partition", "--engine"} <= known


def test_a_command_that_fails_fails_the_task(tmp_path: Path) -> None:
    assert start(tmp_path, "embed.slurm", "exit 1").wait(20) == 1
    assert "scontrol" not in calls(tmp_path)
    assert start(tmp_path, "embed.slurm", "", LAKE="").wait(20) != 0


@pytest.mark.parametrize(("script", "job"), [("embed.slurm", "77_3"), ("embed-ray.slurm", "78")])
def test_at_the_time_limit_the_command_winds_up_and_the_task_is_queued_again(
    tmp_path: Path, script: str, job: str
) -> None:
    winds_up = f"""
        trap 'sleep 0.3; echo wound up >> {tmp_path}/calls; exit 0' TERM
        touch {tmp_path}/ready
        while true; do sleep 0.1; done
    """
    process = start(tmp_path, script, winds_up)
    for _ in range(200):
        if (tmp_path / "ready").exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    called = calls(tmp_path)
    assert "wound up" in called
    queued = called.index("scontrol")
    assert queued > called.index("wound up")
    assert called[queued + 1 : queued + 3] == ["requeue", job]


def test_ray_is_started_and_found(tmp_path: Path) -> None:
    assert start(tmp_path, "embed-ray.slurm", "", RAY_PORT="6400").wait(20) == 0
    called = calls(tmp_path)
    asked = options(called)
    assert asked["--engine"] == "ray" and "--partition" not in asked
    assert called.index("--head") < called.index("survey-qa") < called.index("stop")
    (address,) = {line for line in called if line.startswith("RAY=")}
    assert address.endswith(":6400")
