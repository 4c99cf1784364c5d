"""What in a lake is out of date: each partition's record held against what the lake has now."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import PurePosixPath

from lake import paths
from lake.errors import Conflict
from lake.model_files import stored_identity
from lake.record import MISSING, MODEL, TABLE, Record, split_reference
from lake.said import read_merged, said_state
from lake.store import Lake, Partition


class Freshness:
    """Tells what is out of date; one object looks at each file once."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._records: dict[tuple[str, str], Record | None] = {}
        self._partitions: dict[tuple[str, str], Partition | None] = {}
        self._models: dict[str, str | None] = {}
        self._found: dict[tuple[str, str], str | None] = {}
        self._merged: dict[str, bool] = {}

    def add(self, partition: Partition) -> Record | None:
        """Take note of a partition and return its record."""
        key = partition.table, partition.name
        if key not in self._records:
            self._partitions[key] = partition
            self._records[key] = partition.record()
        return self._records[key]

    def because(self, partition: Partition) -> str | None:
        """Return which input of a partition has changed since, None where none has.

        What an input was made from counts too. Of an input that cannot be told, since the record
        or the lake does not know it, nothing is said.
        """
        key = partition.table, partition.name
        if key not in self._found:
            self._found[key] = None  # a reference to itself would be no reason
            self._found[key] = self._because(partition)
        return self._found[key]

    def is_known(self, partition: Partition) -> bool:
        """Tell whether the record of a partition names all that it depends on."""
        record = self.add(partition)
        return record is not None and record.format > 1

    def commands(self, partitions: Sequence[Partition]) -> list[str]:
        """Return the commands that bring partitions up to date, in the order to run them."""
        found: dict[str, None] = {}
        for partition in partitions:
            for upstream in self._stale_inputs(partition):
                found |= dict.fromkeys(self.commands([upstream]))
            if (command := self._command(partition)) is not None:
                found[command] = None
        return list(found)

    def _stale_inputs(self, partition: Partition) -> list[Partition]:
        record = self.add(partition)
        inputs = {} if record is None else record.inputs
        named = [split_reference(reference) for reference in inputs]
        found = [self._upstream(name) for kind, name, _ in named if kind == TABLE]
        return [one for one in found if one is not None and self.because(one) is not None]

    def _command(self, partition: Partition) -> str | None:
        record, keys = self.add(partition), dict(partition.keys)
        settings = {} if record is None else record.settings
        if partition.table == "labels":
            return f"`survey-qa merge-labels --release {keys['release']}`"
        if partition.table == "embeddings":
            return f"`survey-qa embed --embedder {keys['embedder']} --images FOLDER`"
        if partition.table == "predictions":
            return f"`survey-qa predict --model {keys['model']}`"
        if partition.table == "crossmatches":
            return f"`survey-qa crossmatch --model {keys['model']} --release {keys['release']}`"
        if partition.table == "consistency":
            beside = "" if keys["other"] == keys["model"] else f" --other {keys['other']}"
            return f"`survey-qa consistency --model {keys['model']}{beside}`"
        if partition.table == "label_errors":
            options = [f" --embedder {name}" for name in keys["embedder"].split("+")]
            return f"`survey-qa label-errors{''.join(options)}`"
        if partition.table == "votes":
            options = [
                f" --{name.replace('_', '-')} {value}"
                for name, value in settings.items()
                if value is not None
            ]
            return f"`survey-qa vote --model {keys['model']}{''.join(options)}`"
        return None

    def _because(self, partition: Partition) -> str | None:
        record = self.add(partition)
        if record is None:
            return None
        for reference, identity in record.inputs.items():
            kind, name, facet = split_reference(reference)
            if kind == MODEL:
                now = self._model(name)
                if now is not None and now != identity:
                    return f"model {name} was trained anew"
            elif kind == TABLE:
                upstream = self._upstream(name)
                if upstream is None:
                    if identity == MISSING:
                        continue
                    return f"{name} is gone"
                theirs = self.add(upstream)
                now = upstream.identity(facet) if theirs is None else theirs.identity(facet)
                if now != identity:
                    return f"{name} has changed"
                if (reason := self.because(upstream)) is not None:
                    return f"{name} is out of date: {reason}"
        if partition.table == "labels" and not self._is_merged(partition["release"]):
            return "the lists, verdicts or vocabulary have changed"
        return None

    def _model(self, name: str) -> str | None:
        if name not in self._models:
            self._models[name] = stored_identity(self._lake, name)
        return self._models[name]

    def _upstream(self, name: str) -> Partition | None:
        place = PurePosixPath(name)
        keys = paths.partition_keys(place)
        key = place.parts[0], "/".join(f"{k}={v}" for k, v in keys.items())
        if key not in self._partitions:
            path = self._lake.path(place.parts[0], keys)
            exists = path.exists()
            self._partitions[key] = (
                Partition(place.parts[0], tuple(keys.items()), path) if exists else None
            )
        return self._partitions[key]

    @cached_property
    def _said(self) -> str:
        return said_state(self._lake)

    def _is_merged(self, release: str) -> bool:
        if release not in self._merged:
            known = read_merged(self._lake, release)
            self._merged[release] = known is None or known.said == self._said
        return self._merged[release]


def check_fresh(lake: Lake, name: str, stale_ok: bool = False, **where: str) -> None:
    """Raise `SurveyError` when partitions of a table are out of date, unless `stale_ok`.

    It says which of their inputs has changed, and the commands that mend it.
    """
    if stale_ok:
        return
    freshness = Freshness(lake)
    partitions = lake.partitions(name, **where)
    stale = [part for part in partitions if freshness.because(part) is not None]
    if stale:
        of = ", ".join(where.values())
        raise Conflict(
            f"{len(stale):,} of {len(partitions):,} partitions of {name} of {of} are out of date "
            f"({stale[0].name}: {freshness.because(stale[0])}); run "
            f"{' and then '.join(freshness.commands(stale))}, or say --stale-ok"
        )
