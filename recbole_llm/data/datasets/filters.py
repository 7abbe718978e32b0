"""RecBole's filters of interactions, with a meaning for columns of each type."""

from __future__ import annotations

from typing import Any

from recbole.data.dataset import Dataset
from recbole.utils import FeatureType

from recbole_llm.core.config import Config
from recbole_llm.core.keys.data import RecBoleData
from recbole_llm.core.lines import plural
from recbole_llm.data.reading.column_checks import loaded_fields


class Filters(Dataset):  # type: ignore[misc]
    """Stands before a data set class of RecBole."""

    def _remove_duplication(self) -> None:
        """Keep the first or last of repeated interactions, and rows of the same time in the file's
        order: RecBole's sort shuffles these, in a way that depends on the CPU, and with them a
        split by seed and who comes last. Goes with a RecBole that sorts stably."""
        keep, rows, time = self.config["rm_dup_inter"], self.inter_feat, self.time_field
        if keep is None or time not in rows:
            super()._remove_duplication()
            return
        rows.sort_values(time, kind="stable", inplace=True)
        rows.drop_duplicates([self.uid_field, self.iid_field], keep=keep, inplace=True)

    def _filter_by_inter_num(self) -> None:
        """Filter by numbers of interactions; by RecBole's default, which keeps all users and items,
        it counts them all, one by one, for nothing."""
        keys = ("user_inter_num_interval", "item_inter_num_interval")
        if any(self.config[key] not in (None, "[0,inf)") for key in keys):
            super()._filter_by_inter_num()

    def _filter_by_field_value(self) -> None:
        """Filter the rows by ``val_interval``, then drop the columns that were loaded for that
        alone.

        Raises:
            ValueError: it names a field that no loaded file has, or in the form of another type.
        """
        for field in loaded_fields(self.config, self.field2type, "val_interval"):
            values = self.config["val_interval"][field]
            for feat in self.field2feats(field):
                feat.drop(feat.index[~self._kept(field, values, feat[field])], inplace=True)
        labels = set(self.config["threshold"] or ())  # which RecBole drops when it has made them
        for field in (filter_only_columns(self.config) - labels) & set(self.inter_feat):
            self._del_col(self.inter_feat, field)

    def _kept(self, field: str, values: object, column: Any) -> Any:
        """Whether each value of a column is kept: numbers in an interval, tokens of a list."""
        kind = self.field2type[field]
        if kind == FeatureType.TOKEN:
            if not isinstance(values, (list, tuple)):
                raise ValueError(
                    f"val_interval: '{field}' is a token column, which has no interval; list the "
                    f"tokens to keep, such as {{'{field}': ['a', 'b']}}"
                )
            return column.isin([str(value) for value in values])
        if kind != FeatureType.FLOAT:
            raise ValueError(
                f"val_interval: '{field}' is a column of sequences ({kind.value}), by which no row "
                f"is kept; name a float or a token column"
            )
        interval = (RecBoleData.of(self.config).val_interval or {})[field]
        if not isinstance(interval, str):
            raise ValueError(
                f"val_interval: '{field}' is a float column, of which no tokens are listed; give "
                f"an interval, such as {{'{field}': '[4,inf)'}}"
            )
        return self._within_intervals(column.values, self._parse_intervals_str(interval))

    def _filter_inter_by_user_or_item(self) -> None:
        """Filter as RecBole does, and say how many rows that are: a model that loads no columns of
        users and items keeps them."""
        before = len(self.inter_feat)
        super()._filter_inter_by_user_or_item()
        if lost := before - len(self.inter_feat):
            self.logger.warning(
                f"{plural(lost, 'interaction')} of users or items without a row in the .user or "
                f".item file, left out (filter_inter_by_user_or_item)"
            )


def filter_only_columns(config: Config) -> set[str]:
    """The fields that ``val_interval`` and ``threshold`` name and no file is to load."""
    columns = config["load_col"]
    if columns is None or columns.get("inter") == "*":
        return set()
    named = {*(config["val_interval"] or ()), *(config["threshold"] or ())}
    return named.difference(*columns.values())
