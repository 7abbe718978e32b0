"""The tables that a data set holds, in its attribute ``features``."""

from __future__ import annotations

from collections.abc import Mapping

from recbole.data.dataset import Dataset

from recbole_llm.features.tables.table import EmbeddingTable


class FeatureTables(dict[str, EmbeddingTable]):
    """Tables by name of feature, and for those that were built a digest of the settings; a table
    without one was put there by hand."""

    def __init__(
        self, tables: Mapping[str, EmbeddingTable], built_under: Mapping[str, str]
    ) -> None:
        super().__init__(tables)
        self.built_under = dict(built_under)

    def is_put_by_hand(self, name: str) -> bool:
        """Whether there is a table that was not built."""
        return name in self and name not in self.built_under

    def with_built(self, name: str, table: EmbeddingTable, settings: str) -> FeatureTables:
        """These and one more, in a mapping of their own: copies of a data set, such as its other
        splits, share the old one."""
        return FeatureTables({**self, name: table}, {**self.built_under, name: settings})


def attached_features(dataset: Dataset) -> FeatureTables:
    """The features that a data set holds by now."""
    tables = vars(dataset).get("features", {})
    return tables if isinstance(tables, FeatureTables) else FeatureTables(tables, {})
