"""How a partition came to be: the record in its footer, and the references it names inputs by.

A reference is typed: a table's partition, a model, a file. Beside it stands the identity that the
input had: what its content was, whatever its folder, its time, and the version of this program.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow as pa

from lake import former, paths

#: Layout of the record. Version 0.1.0 wrote 1, whose references `_typed` reads.
FORMAT = 2
#: Kinds of references.
TABLE, MODEL, FILE, REPORTS = "table", "model", "file", "reports"
#: Identity of an input that was not there.
MISSING = "missing"


@functools.cache  # every record asks
def tool_version() -> str:
    """Return the version of the installed distribution."""
    try:
        return version("survey-qa")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0"


def digest(value: Any) -> str:
    """Return a short stable hash of anything that JSON can hold."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Hasher(io.RawIOBase):
    """A file that keeps nothing but the hash of what is written to it."""

    def __init__(self) -> None:
        self.hash = hashlib.blake2b(digest_size=8)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.hash.update(data)
        return memoryview(data).nbytes


def content_digest(rows: pa.Table) -> str:
    """Return a hash of the values of rows, their columns and types."""
    hasher = _Hasher()
    rows = rows.replace_schema_metadata(None).combine_chunks()
    with pa.ipc.new_stream(pa.PythonFile(hasher, "w"), rows.schema) as stream:
        stream.write_table(rows)
    return str(hasher.hash.hexdigest())


# References -------------------------------------------------------------------------------------


def table_reference(name: str, keys: Mapping[str, str], facet: str = "") -> str:
    """Return the reference to a partition; `facet` is the part of it that matters, see `Table`."""
    place = paths.partition_path(name, tuple(keys), keys)
    return f"{TABLE}:{place}" + (f"#{facet}" if facet else "")


def model_reference(name: str) -> str:
    """Return the reference to a model."""
    return f"{MODEL}:{name}"


def file_reference(name: str) -> str:
    """Return the reference to a file, by the name that the lake knows it by."""
    return f"{FILE}:{name}"


def split_reference(reference: str) -> tuple[str, str, str]:
    """Return (kind, name, facet) of a reference."""
    kind, _, name = reference.partition(":")
    name, _, facet = name.rpartition("#") if kind == TABLE and "#" in name else (name, "", "")
    return kind, name, facet


def short_reference(reference: str) -> str:
    """Return what a reference to a partition is called among those of one night.

    ``embeddings/statistics``: its table, and what made it.
    """
    _, name, _ = split_reference(reference)
    table, first, *_ = name.split("/")
    return f"{table}/{first.partition('=')[2]}"


# Records ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """How a partition came to be.

    Attributes
    ----------
    stage, settings : what made it.
    inputs : reference of each input -> the identity that it had.
    notes : what readers and later runs want to know; they decide nothing.
    algorithm : version of what the stage computes; another one redoes the work.
    version : of the tool, for people.
    content : identity of the rows, given when they are written.
    facets : identities of parts of the rows, by the names that `Table.facets` has.
    format : layout of the record.
    """

    stage: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    algorithm: int = 1
    version: str = field(default_factory=tool_version)
    content: str = ""
    facets: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def run(self) -> str:
        """Identifier of the run: every share of a job carries the same one."""
        return digest([self.algorithm, self.stage, self.settings])

    def to_json(self) -> str:
        """Return the text that goes into the footer."""
        return json.dumps(
            {
                "version": self.version,
                "format": FORMAT,
                "run": self.run,
                "stage": self.stage,
                "algorithm": self.algorithm,
                "settings": dict(self.settings),
                "inputs": dict(self.inputs),
                "notes": dict(self.notes),
                "content": self.content,
                "facets": dict(self.facets),
            },
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str | bytes, keys: Mapping[str, str] | None = None) -> Record:
        """Read what `to_json` wrote, or version 0.1.0.

        `keys` are those of the partition that carries the record: the references of version 0.1.0
        left them out.
        """
        raw = json.loads(text)
        if raw["format"] == 1:
            return _of_first_format(raw, keys or {})
        return cls(
            former.STAGES.get(raw["stage"], raw["stage"]),
            raw["settings"],
            raw["inputs"],
            raw["notes"],
            raw["algorithm"],
            raw["version"],
            raw["content"],
            raw["facets"],
            raw["format"],
        )

    def matches(self, other: Record | None) -> bool:
        """Tell whether `other` was made by the same algorithm and settings from the same inputs."""
        if other is None:
            return False
        # Version 0.1.0 knew partitions as a whole alone.
        by_facet = self.format > 1 and other.format > 1
        return self._decisive(by_facet) == other._decisive(by_facet)

    def identity(self, facet: str = "") -> str:
        """Return the identity of the rows, or of a facet of them where it is known."""
        return self.facets.get(facet, self.content)

    def _decisive(self, by_facet: bool) -> str:
        inputs = {
            reference if by_facet else split_reference(reference)[:2]: identity
            for reference, identity in self.inputs.items()
        }
        named = sorted([str(name), identity] for name, identity in inputs.items())
        return digest([self.stage, self.algorithm, self.settings, named])


# Version 0.1.0 ----------------------------------------------------------------------------------


def _of_first_format(raw: Mapping[str, Any], keys: Mapping[str, str]) -> Record:
    """Return a record of version 0.1.0; its identity was a hash of version, settings, inputs."""
    decisive = [raw["version"], raw["format"], raw["stage"], raw["settings"], raw["inputs"]]
    inputs = {
        _typed(name, raw["stage"], keys): identity for name, identity in raw["inputs"].items()
    }
    return Record(
        former.STAGES.get(raw["stage"], raw["stage"]),
        raw["settings"],
        inputs,
        raw["notes"],
        version=raw["version"],
        content=digest(decisive),
        format=1,
    )


#: Stages whose inputs named tables of the same night.
_BY_NIGHT = ("embed", "pool", "predict", "vote", "merge-labels")


def _typed(name: str, stage: str, keys: Mapping[str, str]) -> str:
    """Return the reference that version 0.1.0 wrote as `name`."""
    if stage == "merge-labels" and name == "reports":
        return f"{REPORTS}:rows"
    if name == "model":
        return model_reference(keys.get("model", ""))
    if stage in _BY_NIGHT and {"camera", "night"} <= keys.keys():
        place = {"camera": keys["camera"], "night": keys["night"]}
        table, _, maker = name.partition("/")
        if table in ("ccds", "exposures") and (maker or "release" in keys):
            return table_reference(table, {"release": maker or keys["release"], **place})
        if table == "embeddings" and maker:
            return table_reference(table, {"embedder": maker, **place})
        if name == "predictions":
            return table_reference(table, {"model": keys["model"], **place})
    return file_reference(name)
