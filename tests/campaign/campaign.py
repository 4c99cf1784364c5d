"""Trials: what befalls a command, and what the lake is like afterwards.

Each trial takes a copy of the lake as it was before a command, lets something go wrong, checks the
lake with `tests.campaign.checker`, which knows nothing of this program, and then runs the command
again: it must end as if nothing had happened.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.campaign import inputs as disturbances
from tests.campaign.checker import TABLES, Snapshot, compare, differences, snapshot
from tests.campaign.faults import NO_FAULT, Ending, Fault, Running, run
from tests.campaign.world import STEPS, Step, build, verdict

#: What a command may say when what it is told to make is there already.
_THERE = ("there is a model", "exists and is frozen", "is a round of inspection", "is closed")
#: What it says while another process does the same.
_BUSY = ("another run", "is being", "at work")
#: Tables whose rows follow from what others hold, and the command that makes them.
_DERIVED = {
    "labels": "merge-labels --release dr10 --force",
    "predictions": "predict --model knn --force",
    "votes": "vote --model knn --min-probability 0.4 --min-fraction 0.3 --force",
}


@dataclass
class Tally:
    """What was done, and what was damaged."""

    counts: Counter[str] = field(default_factory=Counter)
    damage: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in another one."""
        self.counts.update(other.counts)
        self.damage += other.damage

    def to_json(self) -> str:
        """Return it as text."""
        return json.dumps({"counts": self.counts, "damage": self.damage})

    @classmethod
    def from_json(cls, text: str) -> Tally:
        """Return it from text."""
        found = json.loads(text)
        return cls(Counter(found["counts"]), found["damage"])


@dataclass(frozen=True)
class Stage:
    """A command, the lake before it, and how it went undisturbed."""

    step: Step
    lake: Path
    before: Snapshot
    after: Snapshot
    ending: Ending
    output: bytes


class Campaign:
    """The stages of a survey, and trials on them.

    Parameters
    ----------
    folder : an empty folder; trials work in folders of their own below it.
    steps : commands, in order.
    """

    def __init__(self, folder: Path, steps: Sequence[Step] = STEPS) -> None:
        self.folder, self.inputs = folder, folder / "inputs"
        build(self.inputs)
        self.stages: list[Stage] = []
        lake, outputs = folder / "last" / "lake", folder / "last" / "outputs"
        outputs.mkdir(parents=True)
        before = Snapshot(rows={name: {} for name in TABLES})
        for number, step in enumerate(steps):
            kept = folder / f"stage-{number}"
            shutil.copytree(lake, kept) if lake.exists() else kept.mkdir()
            ending = run(lake, step.arguments(self.inputs, outputs), folder)
            assert ending.status == 0, f"{step.name}: {ending.text}"
            after = snapshot(lake)
            lost = compare(before, after, step.may_change, step.may_go)
            assert not lost, f"{step.name}: {lost}"
            output = (outputs / step.output).read_bytes() if step.output else b""
            self.stages.append(Stage(step, kept, before, after, ending, output))
            before = after
        self.last, self.end = folder / "last" / "lake", before

    def stage(self, chance: random.Random, reads: str = "") -> Stage:
        """Draw a stage, one that takes long less often."""
        stages = [stage for stage in self.stages if not reads or stage.step.reads == reads]
        weights = [1 / max(stage.ending.seconds, 0.3) for stage in stages]
        return chance.choices(stages, weights)[0]


class Trial:
    """One trial, in a folder of its own that it removes."""

    def __init__(self, campaign: Campaign, number: int, kind: str) -> None:
        self.campaign, self.kind = campaign, kind
        self.chance = random.Random(f"{kind}-{number}")
        self.name = f"{kind} {number}"
        self.folder = campaign.folder / f"trial-{kind}-{number}"
        self.lake, self.outputs = self.folder / "lake", self.folder / "outputs"
        self.tally = Tally()

    def run(self) -> Tally:
        """Run the trial and return what came of it."""
        self.outputs.mkdir(parents=True)
        try:
            KINDS[self.kind](self)
        finally:
            shutil.rmtree(self.folder)
        return self.tally

    def told(self, what: str, damage: Sequence[str]) -> None:
        """Take down what has been damaged."""
        self.tally.damage += [f"{self.name}, {what}: {one}" for one in damage]

    def take(self, lake: Path) -> None:
        """Begin with a copy of a lake, times and all."""
        shutil.copytree(lake, self.lake)

    def command(self, step: Step, inputs: Path | None = None, fault: Fault = NO_FAULT) -> Ending:
        """Run a step on this trial's lake."""
        words = step.arguments(inputs or self.campaign.inputs, self.outputs)
        return run(self.lake, words, self.folder, fault)


# A command that is killed, or whose disk is full -------------------------------------------------


def interrupted(trial: Trial) -> None:
    """Kill a command at any moment, or at a file operation; then run it again."""
    stage = trial.campaign.stage(trial.chance)
    ending = stage.ending
    if trial.chance.random() < 0.5 and ending.operations:
        fault = Fault("kill at", trial.chance.randint(1, ending.operations))
    else:
        fault = Fault("kill", trial.chance.uniform(0, ending.seconds))
    _disturb(trial, stage, fault)


def full_disk(trial: Trial) -> None:
    """Let the disk be full from a file operation on, or a file not grow; then run it again."""
    stage = trial.campaign.stage(trial.chance)
    if trial.chance.random() < 0.7 and stage.ending.operations:
        fault = Fault("full", trial.chance.randint(1, stage.ending.operations))
    else:
        fault = Fault("short", int(2 ** trial.chance.uniform(0, 17)))
    _disturb(trial, stage, fault)


def _disturb(trial: Trial, stage: Stage, fault: Fault) -> None:
    step, what = stage.step, f"{stage.step.name}, {fault}"
    trial.take(stage.lake)
    old = b"what stood here before\n"
    if step.output:
        (trial.outputs / step.output).write_bytes(old)
    ending = trial.command(step, fault=fault)
    after = snapshot(trial.lake)
    trial.told(what, compare(stage.before, after, step.may_change, step.may_go))
    trial.told(what, _neither_old_nor_new(stage, after))
    trial.told(what, _unsaid(after, step, ending.saved))
    if step.output:
        _check_output(trial, what, stage, (old, stage.output))
    if ending.was_killed:
        trial.tally.counts["kills"] += 1
    elif fault.kind not in ("kill", "kill at"):
        trial.tally.counts["faults"] += ending.status != 0
        trial.told(what, _bad_manners(ending))
    again = trial.command(step)
    end = snapshot(trial.lake)
    if again.status != 0 and not any(words in again.text for words in _THERE):
        trial.told(what, [f"cannot be run again: {again.text[-300:]}"])
    trial.told(what, [f"run again: {one}" for one in differences(stage.after, end)])
    trial.told(what, [f"run again: {one}" for one in end.damage])
    if step.output:
        _check_output(trial, what, stage, (stage.output,))


def _neither_old_nor_new(stage: Stage, after: Snapshot) -> list[str]:
    """Return rows that are neither as they were nor as they were to become."""
    return [
        f"{name}: {key} is neither old nor new: {value}"[:300]
        for name, rows in after.rows.items()
        for key, value in rows.items()
        if value != stage.before.rows[name].get(key) and value != stage.after.rows[name].get(key)
    ][:3]


def _unsaid(after: Snapshot, step: Step, saved: Sequence[str]) -> list[str]:
    """Return the verdicts that a person was told are saved, and that are not in the log."""
    logged = set()
    for lines in after.logs.values():
        for line in lines:
            crc, _, body = line.rstrip(b"\n").partition(b" ")
            if int(crc, 16) != zlib.crc32(body):
                return [f"a damaged line of a log: {line[:80]!r}"]
            said = json.loads(body)
            words = said["judgement"]
            logged.add(
                (
                    said["by"],
                    said["subject"],
                    (
                        words["verdict"],
                        words["class_name"],
                        words["quality"],
                        words["comment"] or None,
                    ),
                )
            )
    told = [line.rsplit(" ", 1) for line in saved]
    expected = {(step.judges, subject, verdict(int(n), step.judges)) for subject, n in told}
    return [f"saved and not there: {one}" for one in expected - logged]


def _check_output(trial: Trial, what: str, stage: Stage, allowed: Sequence[bytes]) -> None:
    path = trial.outputs / stage.step.output
    content = path.read_bytes() if path.exists() else b""
    sets = [sorted(one.splitlines()) for one in allowed]
    if sorted(content.splitlines()) not in sets:
        trial.told(what, [f"{path.name} is neither the old file nor the new one"])


def _bad_manners(ending: Ending) -> list[str]:
    """Return what is wrong with how a command that could not go on has ended."""
    text = ending.text
    if "internal error" in text or "Traceback" in text or ending.status not in (0, 1, 71):
        return [f"ended with {ending.status}: {text[-400:]}"]
    return []


# Inputs that are not what they were --------------------------------------------------------------


def disturbed_inputs(trial: Trial) -> None:
    """Take inputs away or change them, run what reads them; then give them back."""
    disturb = trial.chance.choice(disturbances.ALL)
    inputs = trial.folder / "inputs"
    shutil.copytree(trial.campaign.inputs, inputs)
    trial.take(trial.campaign.last)
    what = f"{disturb.name} ({disturb.of})"
    disturb.do(inputs, trial.chance)
    names = disturb.new_values
    before = trial.campaign.end
    steps = [stage.step for stage in trial.campaign.stages if stage.step.reads == disturb.of]
    after_them = [step for step in STEPS if step.name in ("merge-labels", "predict", "vote")]
    for step in [*steps, *after_them]:
        ending = trial.command(step, inputs)
        trial.told(f"{what}, {step.name}", _bad_manners(ending))
        after = snapshot(trial.lake)
        trial.told(f"{what}, {step.name}", compare(before, after, names))
    trial.told(what, _wrongly_fresh(trial))
    trial.tally.counts["inputs"] += 1
    # As they were.
    shutil.rmtree(inputs)
    shutil.copytree(trial.campaign.inputs, inputs)
    for step in [*steps, *after_them]:
        trial.command(step, inputs)
    end = snapshot(trial.lake)
    # What a cut or renamed list says stays beside the others until someone tells it to go.
    same = [name for name in TABLES if name not in ("reports", *names)]
    if "labels" not in names:
        same += names
    trial.told(what, [f"given back: {one}" for one in differences(before, end, same)])
    trial.told(what, [f"given back: {one}" for one in compare(before, end)])


def _wrongly_fresh(trial: Trial) -> list[str]:
    """Return the tables that count as fresh, and come out otherwise when they are made again."""
    text = run(trial.lake, ["status", "--format", "json"], trial.folder).text
    try:
        status = json.loads(text[text.index("[") :])
    except ValueError:
        return [f"no status: {text[-300:]}"]
    stale = Counter[str]()
    for row in status:
        stale[row["table"]] += row["stale"]
    found = []
    for name, words in _DERIVED.items():
        if stale[name]:
            continue
        other = trial.folder / f"again-{name}"
        shutil.copytree(trial.lake, other)
        before = snapshot(other)
        ending = run(other, words.split(), trial.folder)
        if ending.status:
            found.append(f"{name} cannot be made again: {ending.text[-200:]}")
        found += [f"counts as fresh: {one}" for one in differences(before, snapshot(other), [name])]
        shutil.rmtree(other)
    return found


# Many at once ------------------------------------------------------------------------------------


def crowd(trial: Trial) -> None:
    """Two or four writers, and readers; each reader sees whole files and no row go."""
    first = 5  # every list and table is there
    stage = trial.campaign.stages[first]
    trial.take(stage.lake)
    writers = trial.chance.choice((2, 4))
    names = ("merge-labels", "embed", "embed exposures", "import", "ingest list", "ingest ccds")
    steps = [step for step in STEPS if step.name in names]
    chosen = [[trial.chance.choice(steps) for _ in range(2)] for _ in range(writers)]
    before = stage.before
    for turn in range(2):
        running = []
        for mine in chosen:
            words = mine[turn].arguments(trial.campaign.inputs, trial.outputs)
            running.append((mine[turn], Running(trial.lake, words, trial.folder, NO_FAULT)))
        for _ in range(4):
            words = trial.chance.choice(
                [["status"], ["sql", "select count(*) from reports"], ["sql", "from embeddings"]]
            )
            reader = run(trial.lake, words, trial.folder)
            if reader.status:
                trial.told(f"reader of {words}", [reader.text[-300:]])
            now = snapshot(trial.lake)
            trial.told(f"{writers} writers", compare(before, now))
            trial.tally.counts["reads"] += 1
            before = now
        for step, command in running:
            ending = command.wait()
            is_fine = ending.status == 0 or any(words in ending.text for words in (*_BUSY, *_THERE))
            trial.told(f"{writers} writers, {step.name}", [] if is_fine else [ending.text[-300:]])
            trial.told(f"{writers} writers, {step.name}", _bad_manners(ending))
        now = snapshot(trial.lake)
        trial.told(f"{writers} writers", compare(before, now))
        before = now
    trial.tally.counts["crowds"] += 1
    # One after the other they give what they gave alone.
    for step in dict.fromkeys(step for mine in chosen for step in mine):
        trial.command(step)
    end = snapshot(trial.lake)
    expected = trial.campaign.stages[-1].after
    for step_names, name in (
        (("embed", "embed exposures"), "embeddings"),
        (("merge-labels",), "labels"),
        (("import",), "inspections"),
    ):
        for key, value in end.rows[name].items():
            if name == "embeddings" and expected.rows[name].get(key) != value:
                trial.told(f"{writers} writers {step_names}", [f"{name}: {key} differs"])
                break


KINDS: dict[str, Callable[[Trial], None]] = {
    "interrupted": interrupted,
    "full disk": full_disk,
    "inputs": disturbed_inputs,
    "crowd": crowd,
}


def run_trials(
    campaign: Campaign, trials: Sequence[tuple[str, int]], workers: int, tell: Callable[[str], None]
) -> Tally:
    """Run trials in `workers` processes and return what came of all of them."""
    total = Tally()
    waiting, running = list(trials), {}
    while waiting or running:
        while waiting and len(running) < workers:
            kind, number = waiting.pop(0)
            result = campaign.folder / f"result-{kind}-{number}"
            pid = os.fork()
            if pid == 0:
                _in_child(campaign, kind, number, result)
            running[pid] = (kind, number, result)
        pid, status = os.wait()
        if pid not in running:
            continue
        kind, number, result = running.pop(pid)
        if status or not result.exists():
            total.damage.append(f"{kind} {number}: the trial itself failed ({status})")
            continue
        found = Tally.from_json(result.read_text())
        result.unlink()
        for one in found.damage:
            tell(f"DAMAGE {one}")
        total.add(found)
        done = len(trials) - len(waiting) - len(running)
        if done % 50 == 0:
            tell(f"{done} of {len(trials)} trials: {summary(total)}")
    return total


def _in_child(campaign: Campaign, kind: str, number: int, result: Path) -> None:
    """Run a trial, leave what came of it, and end."""
    status = 1
    try:
        tally = Trial(campaign, number, kind).run()
        result.write_text(tally.to_json())
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def summary(tally: Tally) -> str:
    """Return kills, faults, disturbed inputs, crowds and damage in a line."""
    counts = tally.counts
    return (
        f"{counts['kills']} kills, {counts['faults']} full disks, {counts['inputs']} inputs "
        f"withdrawn or changed, {counts['crowds']} crowds of writers with {counts['reads']} reads; "
        f"damage: {len(tally.damage)}"
    )
