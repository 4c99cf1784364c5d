"""The house keeps its shape: imports run one way, and a GPU node needs no more than it must."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: What each package may import of ours.
ALLOWED = {
    "lake": set[str](),
    "queries": {"lake"},
    "images": {"lake"},
    "badlist": {"lake", "queries"},
    "ingest": {"badlist", "images", "lake", "queries"},
    "embedders": {"images", "lake"},
    "classifiers": {"badlist", "images", "lake", "queries"},
    "simulator": {"lake", "queries"},
    "inspector": {"badlist", "images", "ingest", "lake", "queries"},
    "survey_qa": {
        *("badlist", "classifiers", "embedders", "images", "ingest", "inspector", "lake"),
        *("queries", "simulator"),
    },
    "cli": {
        *("badlist", "classifiers", "embedders", "images", "ingest", "inspector", "lake"),
        *("queries", "simulator"),
    },
}
#: What each room of `classifiers` may import of the others.
ROOMS = {
    "sample": set[str](),
    "estimators": {"sample"},
    "exposures": {"estimators", "sample", "model"},
    "registry": {"estimators", "sample", "validation"},
    "validation": {"estimators", "exposures", "model", "report", "sample", "train"},
    "report": {"validation"},
    "active_learning": {"estimators", "model", "predict", "sample", "validation"},
    "label_errors": {"estimators", "maps", "sample", "validation"},
    "maps": {"estimators", "sample"},
}
OURS = {*ALLOWED, "bench", "tests"}


def imports(folder: str) -> Iterator[tuple[Path, str]]:
    """Yield (file, module) of every import in a folder."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = node.module.split(".")
                deep = len(names) == 1 and names[0] == "classifiers"
                for alias in node.names:
                    yield path, f"{node.module}.{alias.name}" if deep else node.module


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_run_one_way(package: str) -> None:
    found = list(imports(package))
    assert found, f"{package} is empty"
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path, module in found
        if module.split(".")[0] in OURS - {package} - ALLOWED[package]
    ]
    assert not wrong


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_of_classifiers_have_one_way_doors(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path, module in imports(f"classifiers/{room}")
        if module.startswith("classifiers.") and module.split(".")[1] not in ROOMS[room] | {room}
    ]
    assert not wrong


def test_every_folder_of_classifiers_is_a_room() -> None:
    top = {path.stem for path in (ROOT / "classifiers").glob("*.py")} - {"__init__"}
    assert top == {"train", "predict", "vote", "model"}
    rooms = {path.parent.name for path in (ROOT / "classifiers").glob("*/__init__.py")}
    assert rooms == set(ROOMS)


def test_embedders_run_on_a_bare_node() -> None:
    wrong = {"duckdb", "polars", "typer", "rich", "sklearn", "queries"}
    assert not [str(path) for path, module in imports("embedders") if module.split(".")[0] in wrong]
    wrong |= {"astropy", "galsim", "h5py", "matplotlib", "ray", "scipy", "sep"}
    code = (
        "import sys, embedders.engine, embedders.registry, embedders.dinov2, bench.stages;"
        f"print(sorted({wrong!r} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_classes_are_asked_of_the_lake() -> None:
    """The built-in vocabulary alone would miss the classes that a lake adds to it."""
    packages = sorted(set(ALLOWED) - {"lake"})
    readers = {
        str(path.relative_to(ROOT))
        for package in packages
        for path in (ROOT / package).rglob("*.py")
        if "Vocabulary.load(" in path.read_text(encoding="utf-8")
    }
    # `bad-expid check` works without a lake, too.
    assert readers == {"badlist/proposal.py"}
