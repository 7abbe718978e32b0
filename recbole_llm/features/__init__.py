"""From the fields of items and users to vectors in the order of RecBole's ids.

``attach`` is the whole way; ``prompts`` makes texts, ``encoders`` turns them into vectors,
``store`` remembers these, ``table`` and ``align`` bring them into order.
"""

from __future__ import annotations

from recbole_llm.features.errors import TableError
from recbole_llm.features.table import EmbeddingTable
from recbole_llm.features.table_io import read_table, write_table

__all__ = ["EmbeddingTable", "TableError", "read_table", "write_table"]
