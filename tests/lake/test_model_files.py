"""What belongs to a model is committed before it: a run that ends in between is repeated."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

from lake.model_files import model_names, write_model
from lake.store import Lake


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("schema.json", b"{}")
    return buffer.getvalue()


def test_a_model_is_there_only_after_what_belongs_to_it(lake: Lake) -> None:
    def fail(card: dict[str, Any]) -> None:
        assert len(card["sha256"]) == 64
        assert model_names(lake) == []
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_model(lake, "m", archive(), {"classes": ["good"]}, fail)
    assert model_names(lake) == []
    write_model(lake, "m", archive(), {"classes": ["good"]}, lambda _: None)
    assert model_names(lake) == ["m"]


def test_the_same_model_is_the_same_file(lake: Lake) -> None:
    cards = [
        write_model(lake, name, archive(), {"name": name, "date": name}, lambda _: None)
        for name in ("a", "b")
    ]
    assert cards[0]["sha256"] == cards[1]["sha256"]
