"""A sequential data set whose interactions stay on disk; only users and items take memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from recbole.utils import FeatureSource, FeatureType
from torch import Tensor

from recbole_llm.core.checkpoints.tokens import Vocabulary
from recbole_llm.core.compat_pandas import Frame
from recbole_llm.core.config import Config
from recbole_llm.core.files import file_lock
from recbole_llm.core.log import show
from recbole_llm.core.processes import distributed
from recbole_llm.data.datasets.grouped_splits import leave_one_out_ends
from recbole_llm.data.datasets.sequence import SequentialDataset
from recbole_llm.data.datasets.vocabulary import check_vocabulary
from recbole_llm.data.reading.column_folder import ColumnFolder
from recbole_llm.data.reading.files import file_format
from recbole_llm.data.reading.inter_blocks import InteractionFile
from recbole_llm.data.reading.sort_on_disk import sort_on_disk
from recbole_llm.data.rows.histories import SortedInteractions
from recbole_llm.data.rows.interaction import SequenceColumns, SequenceInteraction
from recbole_llm.data.rows.split import stable_order
from recbole_llm.data.rows.target_ranges import TargetRanges
from recbole_llm.data.settings import EngineSettings


class DiskDataset(SequentialDataset):
    """Data set that reads users, items and times from a `ColumnFolder` of the ``.inter`` file.

    Ids, order, splits and batches are those of `SequentialDataset`. A leave-one-out split takes
    memory per user. Any other split, and the rows of prefix training, also take memory per
    interaction (at least 8 bytes). Times only order interactions; other columns are not loaded.

    Args:
        vocabulary: the vocabulary of a checkpoint, which must equal that of the file.

    Raises:
        ValueError: the file is malformed, or has another vocabulary.
    """

    folder: ColumnFolder

    def __init__(self, config: Config, vocabulary: Vocabulary | None = None) -> None:
        super().__init__(config)
        try:
            check_vocabulary(self.field2id_token, vocabulary or {})
        except ValueError as error:
            raise ValueError(f"{error}; or set interactions: memory") from None
        self.vocabulary = vocabulary or {}

    def _load_data(self, token: str, dataset_path: str) -> None:
        if not Path(dataset_path).exists():
            self._download()
        self.folder = column_folder(self.config)
        kinds = {
            self.uid_field: FeatureType.TOKEN,
            self.iid_field: FeatureType.TOKEN,
            self.time_field: FeatureType.FLOAT,
        }
        for field, kind in kinds.items():
            self.set_field_property(field, kind, FeatureSource.INTERACTION, 1)
        # Empty until the split, which brings in the columns on disk.
        self.inter_feat = Frame({field: np.empty(0, np.int64) for field in kinds})
        self.user_feat = self.item_feat = None

    def _data_processing(self) -> None:
        self.feat_name_list = ["inter_feat"]
        for field, name in ((self.uid_field, "user"), (self.iid_field, "item")):
            self.field2id_token[field] = self.folder.tokens(name)
        self.field2token_id = _TokenNumbers(self.field2id_token)

    def columns(self) -> dict[str, Tensor]:
        """The fields of all interactions, sorted by user and time, followed by zeros."""
        names = {self.uid_field: "user", self.iid_field: "item", self.time_field: "time"}
        return {field: self.folder.column(name) for field, name in names.items()}

    def _sorted_interactions(self) -> SortedInteractions:
        column = self.folder.column
        count, longest = self.folder.interactions, self.config["MAX_ITEM_LIST_LENGTH"]
        exact = {self.time_field: column("exact_time")[:count]}
        return SortedInteractions(self.columns(), column("position")[:count], longest, exact)

    def _targets(self, source: SortedInteractions) -> TargetRanges:
        starts = self.folder.starts()
        begin, end = starts[:-1], starts[1:]
        several = end - begin > 1
        return TargetRanges(begin[several], begin[several] + 1, end[several] - 1)

    def build(self) -> list[SequentialDataset]:
        """Split the data set; a leave-one-out split does not sort the rows in memory."""
        args = self.config["eval_args"]
        if args["order"] != "TO" or "LS" not in (args["split"] or ()):
            return super().build()
        self._change_feat_format()
        return self._leave_one_out(args["split"]["LS"])

    def _leave_one_out(self, mode: str) -> list[SequentialDataset]:
        whole = self.inter_feat.interaction
        targets = whole.target_ranges()
        times = whole.source.exact[self.time_field].numpy()[targets.low]
        # As in RecBole, users come in the order of their first rows by time.
        targets = TargetRanges(targets.begin, targets.low, targets.high, stable_order(times))
        parts = targets.cut(leave_one_out_ends(targets.sizes, 2 if mode == "valid_and_test" else 1))
        nothing = TargetRanges(*[np.empty(0, np.int64)] * 3)
        if mode == "valid_only":
            parts.append(nothing)
        elif mode == "test_only":
            parts.insert(1, nothing)
        rows = (SequenceColumns(whole.source, part, whole.columns) for part in parts)
        return [self.copy(SequenceInteraction(columns)) for columns in rows]

    @property
    def avg_actions_of_users(self) -> float:
        """The average that RecBole logs, without counting rows one by one."""
        return float(self.inter_num / max(self.user_num - 1, 1))

    @property
    def avg_actions_of_items(self) -> float:
        """The same for items."""
        return float(self.inter_num / max(self.item_num - 1, 1))


class _TokenNumbers(dict[str, dict[str, int]]):
    """Field -> {token: id}, whose inner dictionaries are made on first access."""

    def __init__(self, tokens: Mapping[str, Any]) -> None:
        super().__init__()
        self.tokens = tokens

    def __missing__(self, field: str) -> dict[str, int]:
        self[field] = {token: number for number, token in enumerate(self.tokens[field])}
        return self[field]


def column_folder(config: Config) -> ColumnFolder:
    """The folder of a data set's ``.inter`` file, made if it is missing or out of date.

    Raises:
        ValueError: the file is malformed, or the folder cannot be written.
    """
    path, name = Path(config["data_path"]), config["dataset"]
    source = InteractionFile(
        path / f"{name}.inter",
        config["USER_ID_FIELD"],
        config["ITEM_ID_FIELD"],
        config["TIME_FIELD"],
        *file_format(config),
    )
    folder = path / f"{name}.sorted"

    def wait() -> None:
        show(f"waiting for another run that is sorting '{source.path}'")

    with distributed.main_first():
        found = ColumnFolder.of(folder, source)
        if found is not None:
            return found
        writable = os.access(path, os.W_OK)  # if not, sorting raises
        with file_lock(path / f".{name}.sorted.lock", wait) if writable else nullcontext():
            return ColumnFolder.of(folder, source) or _sort_into(config, source, folder)


def _sort_into(config: Config, source: InteractionFile, folder: Path) -> ColumnFolder:
    start = perf_counter()
    made = sort_on_disk(source, folder, EngineSettings.of(config).sort_memory_mib)
    show(
        f"sorted {made.interactions:,} interactions into '{folder}' in "
        f"{perf_counter() - start:.0f} s"
    )
    return made
