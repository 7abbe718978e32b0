"""RecBole's filters of interactions, with a defined meaning for each type of column."""

from __future__ import annotations

from typing import Any

from recbole.data.dataset import Dataset
from recbole.utils import FeatureType

from recbole_llm.core.config import Config
from recbole_llm.core.keys.data import RecBoleData
from recbole_llm.core.lines import plural
from recbole_llm.data.reading.column_checks import loaded_fields


class Filters(Dataset):  # type: ignore[misc]
    """Mixin before a data set class of RecBole."""

    def _remove_duplication(self) -> None:
        """Keep the first or last of repeated interactions, sorted stably by time. RecBole's sort
        shuffles rows of equal time in a way that depends on the CPU, and so changes random splits
        and which interaction is last. This method can go once RecBole sorts stably."""
        keep, rows, time = self.config["rm_dup_inter"], self.inter_feat, self.time_field
        if keep is None or time not in rows:
            super()._remove_duplication()
            return
        rows.sort_values(time, kind="stable", inplace=True)
        rows.drop_duplicates([self.uid_field, self.iid_field], keep=keep, inplace=True)

    def _filter_by_inter_num(self) -> None:
        """Filter by numbers of interactions. Skip RecBole's default interval, which keeps all users
        and items, but only after counting them one by one."""
        keys = ("user_inter_num_interval", "item_inter_num_interval")
        if any(self.config[key] not in (None, "[0,inf)") for key in keys):
            super()._filter_by_inter_num()

    def _filter_by_field_value(self) -> None:
        """Filter the rows by ``val_interval``, then drop the columns that were only loaded for it.

        Raises:
            ValueError: ``val_interval`` names a field that no loaded file has, or gives a field a
                value of the wrong form for its type.
        """
        self.filtered_items: set[str] = set()  # which `item_catalogue` is not to bring back
        for field in loaded_fields(self.config, self.field2type, "val_interval"):
            values = self.config["val_interval"][field]
            for feat in self.field2feats(field):
                dropped = ~self._kept(field, values, feat[field])
                if feat is self.item_feat:
                    self.filtered_items.update(feat.loc[dropped, self.iid_field])
                feat.drop(feat.index[dropped], inplace=True)
        labels = set(self.config["threshold"] or ())  # RecBole drops these after making labels
        for field in (filter_only_columns(self.config) - labels) & set(self.inter_feat):
            self._del_col(self.inter_feat, field)

    def _kept(self, field: str, values: object, column: Any) -> Any:
        """Whether to keep each value of a column: numbers in an interval, or tokens in a list."""
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
                f"val_interval: '{field}' is a column of sequences ({kind.value}), which cannot "
                f"filter rows; name a float or a token column"
            )
        interval = (RecBoleData.of(self.config).val_interval or {})[field]
        if not isinstance(interval, str):
            raise ValueError(
                f"val_interval: '{field}' is a float column, which takes no list of tokens; give "
                f"an interval, such as {{'{field}': '[4,inf)'}}"
            )
        return self._within_intervals(column.values, self._parse_intervals_str(interval))

    def _filter_inter_by_user_or_item(self) -> None:
        """Filter as RecBole does, and warn of the number of rows left out, because a model that
        loads no columns of users and items keeps them."""
        before = len(self.inter_feat)
        super()._filter_inter_by_user_or_item()
        if lost := before - len(self.inter_feat):
            narrowed = set(self.config["val_interval"] or ()).difference(self.inter_feat)
            left = " after val_interval" if narrowed else ""  # which cuts rows of these files too
            self.logger.warning(
                f"left out {plural(lost, 'interaction')} of users or items without a row in the "
                f".user or .item file{left} (filter_inter_by_user_or_item)"
            )


def filter_only_columns(config: Config) -> set[str]:
    """The fields that ``val_interval`` and ``threshold`` name, but that ``load_col`` does not."""
    columns = config["load_col"]
    if columns is None or columns.get("inter") == "*":
        return set()
    named = {*(config["val_interval"] or ()), *(config["threshold"] or ())}
    return named.difference(*columns.values())
