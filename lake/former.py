"""What earlier versions called otherwise, and today's names: lakes of theirs open with them.

Types that model files name have a table of their own, in `classifiers.model`.
"""

from __future__ import annotations

#: Former tables: today's name, and today's names of columns by the former ones.
TABLES = {"holdouts": ("test_sets", {"place": "class_index"})}
#: Stages by the names that records of version 0.1.0 have.
STAGES = {"holdouts": "test-set", "structure": "map"}
