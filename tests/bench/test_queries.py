"""The bench of the named queries can run each of them."""

from __future__ import annotations

import pytest

from bench.queries import query
from lake.store import Lake
from queries.named import list_queries


@pytest.mark.parametrize("name", [named.name for named in list_queries()])
def test_every_named_query_has_the_parameters_that_it_needs(lake: Lake, name: str) -> None:
    assert query(lake.root, name) >= 0
