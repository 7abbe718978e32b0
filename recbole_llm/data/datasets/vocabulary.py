"""Data sets that match ids to a checkpoint's by name, for users, items and categories, and that
define the catalogue: items with interactions, and those that the ``.item`` file adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pandas import DataFrame, Series
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.utils import FeatureType

from recbole_llm.core.checkpoints.tokens import Vocabulary
from recbole_llm.core.compat_pandas import is_known
from recbole_llm.core.errors import first_names
from recbole_llm.core.settings import ConfigLike
from recbole_llm.data.reading.files import Table, file_format, read_types

Names = npt.NDArray[Any]


class VocabularyDataset(Dataset):  # type: ignore[misc]
    """Mixin before a data set class of RecBole: ``class X(VocabularyDataset, RecBoleX)``.

    RecBole numbers tokens in the order of the files; with ``item_catalogue: item_file`` further
    items of the ``.item`` file follow. With a vocabulary, its tokens come first, in its order. A
    token that the files lost keeps its id and has no interactions. A token that the files gained
    has no row in the checkpoint's tables, so interactions of gained users and items are left out,
    and a gained category counts as missing.

    Args:
        vocabulary: the checkpoint's vocabulary; None: ids follow the order of the files.

    Raises:
        ValueError: the files lack a field of the vocabulary, or cannot be numbered like it; or
            there is no ``.item`` file for ``item_catalogue: item_file``.
    """

    file_size_list: list[int]

    def __init__(self, config: Config, vocabulary: Vocabulary | None = None) -> None:
        self.vocabulary: Vocabulary = vocabulary or {}
        self.gained: dict[str, list[str]] = {}
        self.lost: dict[str, list[str]] = {}
        super().__init__(config)
        check_vocabulary(self.field2id_token, self.vocabulary)

    def number_as(self, other: Dataset) -> None:
        """Give what the vocabulary does not cover the ids that it has in `other`; called before
        rows become tensors. Does nothing here, where the vocabulary covers all."""

    def _remap_ID_all(self) -> None:
        if self.config["item_catalogue"] != "item_file":
            self._leave_out_unseen_items()
        for field in self.vocabulary:
            if field in self.field2source:
                self._leave_out(field, self.vocabulary[field][1:])
        super()._remap_ID_all()

    def _leave_out_unseen_items(self) -> None:
        """Drop items without interactions. RecBole numbers and ranks them if a model loads columns
        of the ``.item`` file or of another, so that models of one data set would rank different
        catalogues."""
        ids = [field for field in self.alias["item_id"] if not self._is_list(field)]
        named = [(feat, field) for field in ids for feat in self.field2feats(field)]
        others = [(f, field) for f, field in named if f is not self.inter_feat and field in f]
        seen = self._seen_items() if others else set()
        for feat, field in others:
            feat.drop(feat.index[~is_known(feat[field], seen)], inplace=True)
            feat.reset_index(drop=True, inplace=True)

    def _seen_items(self) -> set[str]:
        """Tokens of items in interactions, in their lists, and in the vocabulary."""
        seen = set(self.vocabulary.get(self.iid_field, ()))
        for field in self.alias["item_id"]:
            if field in self.inter_feat:
                values = self.inter_feat[field]
                seen.update(
                    chain.from_iterable(values) if self._is_list(field) else values.unique()
                )
        return seen

    def _is_list(self, field: str) -> bool:
        return self.field2type[field] == FeatureType.TOKEN_SEQ

    def _leave_out(self, field: str, known: Names) -> None:
        """Drop tokens outside `known`: rows of ids, entries of lists, values of features."""
        is_id = any(field in names for names in self.alias.values())
        for feat in self.field2feats(field):
            if field not in feat:
                continue
            if self._is_list(field):
                words = set(known)
                feat[field] = [np.array([t for t in row if t in words], str) for row in feat[field]]
                continue
            new = ~(is_known(feat[field], known) | feat[field].isna())
            if new.any():
                before = self.gained.get(field, [])
                self.gained[field] = list(dict.fromkeys([*before, *feat.loc[new, field]]))
                self._drop_values(feat, field, new, is_id)

    def _drop_values(self, feat: DataFrame, field: str, new: Series, is_id: bool) -> None:
        if not is_id:
            feat[field] = feat[field].mask(new)
            return
        if feat is self.inter_feat and hasattr(self, "file_size_list"):  # ready-made splits
            parts = np.split(~new.to_numpy(), np.cumsum(self.file_size_list)[:-1])
            self.file_size_list = [int(part.sum()) for part in parts]
        feat.drop(feat.index[new], inplace=True)
        feat.reset_index(drop=True, inplace=True)
        if feat is self.inter_feat and feat.empty:
            raise ValueError(
                f"no interaction of data set '{self.dataset_name}' has a {field} that the "
                f"checkpoint knows; set dataset or data_path to what it was trained on"
            )

    def _remap(self, remap_list: list[tuple[Any, str, FeatureType]]) -> None:
        field = next((f for _, f, _ in remap_list if f in self.vocabulary), None)
        if field is not None:
            first = self.first_tokens(field)
            if field in (self.uid_field, self.iid_field):
                present = self._concat_remaped_tokens(remap_list)[0]
                there = is_known(first, present)
                if field == self.iid_field and self.config["item_catalogue"] == "item_file":
                    there |= is_known(first, listed_items(self.config, self) or ())
                self.lost[field] = first[~there].tolist()
            # RecBole numbers the columns of the list one after the other.
            column = DataFrame({field: first}, dtype=object)
            remap_list = [(column, field, FeatureType.TOKEN), *remap_list]
        elif self.listed and any(f == self.iid_field for _, f, _ in remap_list):
            column = DataFrame({self.iid_field: self.listed}, dtype=object)
            remap_list = [*remap_list, (column, self.iid_field, FeatureType.TOKEN)]
        super()._remap(remap_list)

    @cached_property
    def listed(self) -> list[str]:
        """The tokens of the ``.item`` file with ``item_catalogue: item_file`` and no vocabulary;
        otherwise []."""
        if self.vocabulary or self.config["item_catalogue"] != "item_file":
            return []
        found = listed_items(self.config, self)
        if found is None:
            raise ValueError(
                f"item_catalogue: item_file: dataset '{self.dataset_name}' has no .item file with "
                f"a column '{self.iid_field}'; write one, or leave item_catalogue unset"
            )
        return found

    def first_tokens(self, field: str) -> Names:
        """The tokens that get a field's first ids, from 1 on."""
        return self.vocabulary[field][1:]


def check_vocabulary(numbered: Mapping[str, Sequence[str] | Names], wanted: Vocabulary) -> None:
    """Raise ValueError unless a data set numbers its tokens as a vocabulary does."""
    for field, tokens in wanted.items():
        if field not in numbered:
            raise ValueError(
                f"the data set has no field '{field}', which the checkpoint was trained with; set "
                f"load_col and the files as they were"
            )
        if not np.array_equal(np.asarray(numbered[field], object), tokens):
            raise ValueError(
                f"'{field}': the data set's files differ so much from those of the checkpoint "
                f"that its ids cannot be matched; use the files as they were, or train again"
            )


def report_changes(dataset: Dataset) -> None:
    """Warn, once and by name, of users, items and categories that the files gained or lost."""
    for what, changed, meaning in (
        ("new", getattr(dataset, "gained", {}), "the model was trained without them"),
        ("gone", getattr(dataset, "lost", {}), "left without interactions"),
    ):
        for field, names in changed.items():
            if names:
                shown = first_names(names)
                getLogger("recbole_llm").warning(
                    f"{field}: {len(names)} {what} since the checkpoint ({shown}); {meaning}"
                )


def listed_items(config: ConfigLike, dataset: Dataset) -> list[str] | None:
    """The tokens of a data set's ``.item`` file in its order, without items that ``val_interval``
    drops; None without such a file or column.

    Raises:
        ValueError: the file is malformed.
    """
    field = dataset.iid_field
    file = Path(dataset.dataset_path) / f"{dataset.dataset_name}.item"
    if not file.is_file() or field not in read_types(file, *file_format(config)):
        return None
    tokens = Table.read(file, *file_format(config)).columns[field]
    left_out = {"", *getattr(dataset, "filtered_items", ())}
    return [token for token in dict.fromkeys(tokens) if token not in left_out]


def new_items(config: ConfigLike, dataset: Dataset) -> list[str]:
    """Items of the ``.item`` file that have no id: they have no interactions after the filters, or
    are unknown to the checkpoint whose ids the data set has."""
    known = dataset.field2token_id[dataset.iid_field]
    return [token for token in listed_items(config, dataset) or () if token not in known]
