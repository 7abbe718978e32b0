"""RecBole's data sets, with values read exactly as written and rows ordered by exact times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pandas import DataFrame
from pandas.api.types import is_numeric_dtype
from recbole.data import dataset as stock
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType

from recbole_llm.core.arrays import ObjectArray
from recbole_llm.core.compat_pandas import Frame, as_objects
from recbole_llm.core.config import Config
from recbole_llm.data.datasets.filters import Filters, filter_only_columns
from recbole_llm.data.datasets.grouped_splits import GroupedSplits
from recbole_llm.data.datasets.knowledge_vocabulary import KnowledgeVocabularyDataset
from recbole_llm.data.datasets.vocabulary import VocabularyDataset
from recbole_llm.data.reading.column_checks import (
    check_aliases,
    check_not_in_other_files,
    check_number_fields,
    check_preload_ids,
)
from recbole_llm.data.reading.files import Table, file_format
from recbole_llm.data.reading.labels import check_labels, check_labels_given, label_fields
from recbole_llm.data.reading.parsing import parse_numbers
from recbole_llm.data.rows.interaction import single_precision, take

ID_KEYS = (
    "USER_ID_FIELD", "ITEM_ID_FIELD", "HEAD_ENTITY_ID_FIELD", "TAIL_ENTITY_ID_FIELD",
    "RELATION_ID_FIELD", "ENTITY_ID_FIELD",
)  # fmt: skip
ALIASES = ("user_id", "item_id", "entity_id", "relation_id")


class FileDataset(Filters, GroupedSplits, VocabularyDataset):
    """Mixin before a data set class of RecBole: ``class X(FileDataset, RecBoleX)``.

    RecBole reads through pandas, which takes ids such as ``NA`` or ``None`` for missing, and keeps
    numbers as float32, in which Unix times less than a minute apart can be equal. Here ids are
    kept as written, and each file is checked as it is read. With ``exact_times`` interactions keep
    their times as float64 for ordering and splitting; batches have RecBole's float32.
    """

    def _load_feat(self, filepath: str, source: FeatureSource | str) -> DataFrame | None:
        """Read a file's columns; record their types, sources and lengths as RecBole does."""
        load, unload = self._get_load_and_unload_col(source)
        if load == set():
            return None
        table = Table.read(Path(filepath), *file_format(self.config))
        fields = [f for f in table.types if (load is None or f in load) and f not in (unload or ())]
        if source == FeatureSource.INTERACTION:
            fields += [f for f in table.types if f in filter_only_columns(self.config)]
        if not fields:
            self.logger.warning(f"No columns has been loaded from [{source}]")
            return None
        if source in (FeatureSource.USER, FeatureSource.ITEM):
            known, ids = self.field2source.items(), _id_fields(self.config)
            others = {f: s for f, s in known if s != source and f not in ids}
            check_not_in_other_files(fields, others, source, self.dataset_name)
        own = {FeatureSource.USER: self.uid_field, FeatureSource.ITEM: self.iid_field}.get(source)
        if own in table.types:
            table.check_distinct(own)  # RecBole would keep the first row
        columns = {}
        for field in fields:
            kind = FeatureType(table.types[field])
            columns[field], length = self._parse_column(table, field, kind)
            if source != "link":  # fields of links belong to other files
                self.field2source[field], self.field2type[field] = source, kind
                self.field2seqlen[field] = length
                if kind in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ):
                    self.field2bucketnum[field] = 2
        return Frame(columns)

    def _parse_column(self, table: Table, field: str, kind: FeatureType) -> tuple[Any, int]:
        """A column's values, and the length of its longest sequence (1 if it has none)."""
        is_id = field in _id_fields(self.config)
        if is_id and kind == FeatureType.TOKEN:
            return as_objects(table.ids(field)), 1
        if kind == FeatureType.FLOAT:
            read = table.times if field == self.time_field else table.numbers
            return read(field), 1
        text = table.columns[field]
        missing = text == "" if is_id else table.missing(field)
        if kind == FeatureType.TOKEN:
            return as_objects(np.where(missing, np.nan, text)), 1
        lists = [value.split(self.config["seq_separator"]) for value in np.where(missing, "", text)]
        lists = [[part for part in parts if part] for parts in lists]
        limit = (self.config["seq_len"] or {}).get(field)
        length = max(map(len, lists), default=0)
        length = length if limit is None else min(limit, length)
        arrays = _parse_sequences(table, field, kind, lists)
        return [array[:limit] for array in arrays], length

    def _set_label_by_threshold(self) -> None:
        super()._set_label_by_threshold()
        check_labels(self.config, self.inter_feat)

    def _init_alias(self) -> None:
        check_aliases(self.config, self.field2type)
        super()._init_alias()

    def _preload_weight_matrix(self) -> None:
        check_preload_ids(self.config, self.field2type, self.field2id_token)
        super()._preload_weight_matrix()

    def _normalize(self) -> None:
        check_number_fields(self.config, self.field2type)
        label = self.config["LABEL_FIELD"]
        labels = self.inter_feat.get(label)
        super()._normalize()
        if labels is not None:  # RecBole sets constant columns to 1
            self.inter_feat[label] = labels

    def _user_item_feat_preparation(self) -> None:
        super()._user_item_feat_preparation()
        for name in ("user_feat", "item_feat"):  # RecBole merged into plain frames
            if getattr(self, name) is not None:
                setattr(self, name, Frame(getattr(self, name)))

    def _fill_nan(self) -> None:
        """Fill missing values as RecBole intends to.

        RecBole's ``frame[field].fillna(…, inplace=True)`` fills a copy under pandas 3. This method
        can go once RecBole assigns the filled column.
        """
        check_labels_given(label_fields(self.config), self.inter_feat)
        for name in self.feat_name_list:
            frame = getattr(self, name)
            for field in frame:
                if self.field2type[field] == FeatureType.TOKEN:
                    frame[field] = frame[field].fillna(0)
                elif self.field2type[field] == FeatureType.FLOAT:
                    if field in self.config["numerical_features"] and frame[field].isna().all():
                        raise ValueError(
                            f"numerical_features: '{field}' has no value in data set "
                            f"'{self.dataset_name}'; leave it out, or fill the column"
                        )
                    frame[field] = frame[field].fillna(frame[field].mean())
        super()._fill_nan()

    def _dataframe_to_interaction(self, data: DataFrame) -> Interaction:
        """RecBole's tensors, but with ``exact_times`` the interactions' times as float64.

        Raises:
            ValueError: a column of ids that RecBole has not numbered, since its file is not of
                interactions, items or users (``additional_feat_suffix``), and it is no alias.
        """
        for field in data:
            if self.field2type[field] == FeatureType.TOKEN and not is_numeric_dtype(data[field]):
                raise ValueError(
                    f"'{field}' of '{self.dataset_name}.{self.field2source[field]}' does not name "
                    f"users or items; add it to alias_of_user_id or alias_of_item_id, or leave it "
                    f"out of load_col"
                )
        interaction = super()._dataframe_to_interaction(data)
        time = self.time_field
        if self.config["exact_times"] and time in data:
            pairs = time in self.config["numerical_features"]  # [value, 1] each
            times = np.array(data[time].tolist() if pairs else data[time], dtype=np.float64)
            interaction[time] = torch.from_numpy(times)
        return interaction

    def __getitem__(self, index: object, join: bool = True) -> Interaction:
        rows = single_precision(take(self.inter_feat, index))
        return self.join(rows) if join else rows

    def join(self, df: Interaction) -> Interaction:
        """Add the user's and the item's fields to the rows."""
        if self.user_feat is not None and self.uid_field in df:
            df.update(take(self.user_feat, df[self.uid_field]))
        if self.item_feat is not None and self.iid_field in df:
            df.update(take(self.item_feat, df[self.iid_field]))
        return df


class Dataset(FileDataset, stock.Dataset):  # type: ignore[misc]
    """Data set of general and context-aware models."""


class KnowledgeBasedDataset(
    KnowledgeVocabularyDataset,
    FileDataset,
    stock.KnowledgeBasedDataset,  # type: ignore[misc]
):
    """Data set of knowledge-based models."""


class KGSeqDataset(KnowledgeVocabularyDataset, FileDataset, stock.KGSeqDataset):  # type: ignore[misc]
    """Data set of GRU4RecKG and KSR."""


class DIENDataset(FileDataset, stock.DIENDataset):  # type: ignore[misc]
    """Data set of DIEN."""


class DecisionTreeDataset(FileDataset, stock.DecisionTreeDataset):  # type: ignore[misc]
    """Data set of LightGBM and XGBoost."""


def _id_fields(config: Config) -> set[str]:
    """The columns that hold ids: the fields that `ID_KEYS` name, and the aliases of ids."""
    aliases = [field for name in ALIASES for field in config[f"alias_of_{name}"] or ()]
    return {config[key] for key in ID_KEYS} | set(aliases)


def _parse_sequences(
    table: Table, field: str, kind: FeatureType, lists: list[list[str]]
) -> list[npt.NDArray[Any]]:
    """Lists of strings as arrays: of strings, or of numbers for a float_seq column."""
    sizes = [len(parts) for parts in lists]
    if kind == FeatureType.TOKEN_SEQ:
        return [np.array(parts, dtype=str) for parts in lists]
    flat: ObjectArray = np.array([part for parts in lists for part in parts], dtype=object)
    values = parse_numbers(table.path, field, flat, np.repeat(table.lines, sizes))
    return np.split(values, np.cumsum(sizes)[:-1]) if sizes else []
