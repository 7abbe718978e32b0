"""The tables that a data set holds, in its attribute ``features``."""

from __future__ import annotations

from collections.abc import Mapping

from recbole.data.dataset import Dataset

from recbole_llm.features.tables.table import EmbeddingTable


class FeatureTables(dict[str, EmbeddingTable]):
    """Tables by feature name, and a digest of the settings for each one that was built; a table
    without a digest was put there by hand."""

    def __init__(
        self, tables: Mapping[str, EmbeddingTable], built_under: Mapping[str, str]
    ) -> None:
        super().__init__(tables)
        self.built_under = dict(built_under)

    def is_put_by_hand(self, name: str) -> bool:
        """Whether there is a table of this name that was not built."""
        return name in self and name not in self.built_under

    def with_built(self, name: str, table: EmbeddingTable, settings: str) -> FeatureTables:
        """A new mapping with these tables and one more: copies of the data set, such as other
        splits, share the old mapping."""
        return FeatureTables({**self, name: table}, {**self.built_under, name: settings})


def attached_features(dataset: Dataset) -> FeatureTables:
    """The features that a data set holds so far."""
    tables = vars(dataset).get("features", {})
    return tables if isinstance(tables, FeatureTables) else FeatureTables(tables, {})
