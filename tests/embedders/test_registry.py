"""The registry: names without imports, and embedders of other packages."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from embedders import registry
from embedders.registry import Options
from lake.errors import SurveyError
from tests.embedders.doubles import Mean


def test_names_come_without_heavy_imports() -> None:
    script = (
        "import sys; from embedders import registry, engine; print(*registry.names());"
        "print(*sys.modules.keys() & {'torch', 'transformers', 'sep', 'duckdb', 'polars'})"
    )
    root = Path(__file__).parents[2]
    out = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    listed, loaded = out.split("\n")[:2]
    assert {"statistics", "dinov2-vitb14-reg", "dinov2-vitg14"} <= set(listed.split())
    assert not loaded


def test_others_add_embedders(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mean", "tests.embedders.test_registry:make_mean", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    assert "mean" in registry.names()
    assert isinstance(registry.embedder(Options("mean")), Mean)


def make_mean(options: Options) -> Mean:
    return Mean()


def test_statistics_takes_no_weights() -> None:
    assert registry.embedder(Options("statistics")).name == "statistics"
    with pytest.raises(SurveyError, match="no weights"):
        registry.embedder(Options("statistics", weights=Path("some.pth")))
    with pytest.raises(SurveyError, match="no embedder 'resnet'"):
        registry.embedder(Options("resnet"))
