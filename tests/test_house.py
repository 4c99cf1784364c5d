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
    "embedders": {"lake", "queries"},
    "classifiers": {"lake", "queries"},
    "simulator": {"lake", "queries"},
    "inspector": {"lake", "queries"},
    "cli": {"lake", "queries", "embedders", "classifiers", "simulator", "inspector"},
}
OURS = {*ALLOWED, "bench", "tests"}


def imports(folder: str) -> Iterator[tuple[Path, str]]:
    """Yield (file, top-level module) of every import in a package."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield path, alias.name.split(".")[0]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield path, node.module.split(".")[0]


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_run_one_way(package: str) -> None:
    found = list(imports(package))
    assert found, f"{package} is empty"
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path, module in found
        if module in OURS - {package} - ALLOWED[package]
    ]
    assert not wrong


def test_embedders_run_on_a_bare_node() -> None:
    wrong = {"duckdb", "polars", "typer", "rich", "sklearn", "queries"}
    assert not [str(path) for path, module in imports("embedders") if module in wrong]
    wrong |= {"astropy", "galsim", "h5py", "matplotlib", "ray", "scipy", "sep"}
    code = (
        "import sys, embedders.engine, embedders.registry, embedders.dinov2, bench.stages;"
        f"print(sorted({wrong!r} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
