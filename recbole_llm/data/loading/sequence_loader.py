"""Sequence-level training: each row is a window of a history, with targets at all positions."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.sampler.sampler import AbstractSampler
from torch import Tensor

from recbole_llm.core import model_traits
from recbole_llm.core.config import Config
from recbole_llm.data.loading.loaders import TrainDataLoader
from recbole_llm.data.rows.histories import windows
from recbole_llm.data.rows.interaction import SequenceInteraction
from recbole_llm.data.rows.windows import WindowBatches, cut_windows, default_stride
from recbole_llm.data.settings import EngineSettings


class SequenceTrainDataLoader(TrainDataLoader):
    """Batches of windows, which `cut_windows` cuts from histories and `WindowBatches` batches.

    A causal model reads a window once and learns from every position, whereas RecBole's rows make
    it read the history once for every target. The targets are the rows of the train split, each
    exactly once per epoch; inputs are only items before them.

    Fields, in RecBole's layout (padded with 0 on the right), L_batch <= L being the batch's
    longest window:

    - ``user_id`` [B], ``item_id_list`` [B, L_batch], ``item_length`` [B];
    - ``pos_item_id_list`` [B, L_batch]: the item to predict after each input, 0 where the
      position is not supervised (padding, and context that another window supervises);
    - ``neg_item_id_list`` [B, L_batch, k], when ``train_neg_sample_args`` asks for k negatives:
      drawn by the split's sampler for each supervised target, 0 elsewhere;
    - ``<field>_list`` [B, L_batch, *] for each further column of the interactions that the model
      class names in ``sequence_fields``;
    - ``pos_label_list`` [B, L_batch], where interactions have labels and no negatives are drawn:
      the label of each supervised target, 0 elsewhere.

    A step has as many supervised targets as a step of RecBole has rows, on average over an epoch:
    ``train_batch_size``, divided by k with k negatives each (by 1 + k for models of labels). So
    learning rates carry over from prefix training.

    Args:
        config: reads ``window_stride`` besides RecBole's keys.
        dataset: train split of our `SequentialDataset`.

    Raises:
        ValueError: sequence-level training does not support the data set or the settings.
    """

    def __init__(
        self, config: Config, dataset: Dataset, sampler: AbstractSampler, shuffle: bool = False
    ) -> None:
        if not isinstance(dataset.inter_feat, SequenceInteraction):
            raise ValueError(
                "train_level: sequence needs the histories, which benchmark files and RecBole's "
                "own data set classes do not give; set train_level: prefix"
            )
        columns = dataset.inter_feat.interaction
        self.source = columns.source
        length = self.source.max_length
        stride = EngineSettings.of(config).window_stride or default_stride(length)
        self.windows = cut_windows(columns, length if stride == "full" else stride)
        super().__init__(config, dataset, sampler, shuffle=shuffle)
        self.list_field = dataset.iid_field + config["LIST_SUFFIX"]
        self.length_field = dataset.item_list_length_field
        wanted = model_traits.sequence_fields(config.model_class)
        self.further_fields = [field for field in wanted if field in self.source.columns]

    def _all_batches(self) -> Any:
        return WindowBatches(self.windows, self.step, self.shuffle, self.generator)

    def collate_fn(self, index: Tensor) -> Interaction:
        """The windows at index as a batch of sequence rows."""
        start, end = self.windows.start[index], self.windows.end[index]  # [B]
        length = end - start
        items, users = (self.source.columns[f] for f in (self.iid_field, self.uid_field))
        widest = int(length.max())
        # One gather gives inputs and targets: the targets are the inputs shifted by one.
        stretch = items.unfold(0, widest + 1, 1).index_select(0, start)  # [B, L_batch + 1]
        slot = torch.arange(widest)
        real = slot < length[:, None]  # [B, L_batch]
        supervised = real & (slot >= (self.windows.first[index] - start - 1)[:, None])
        user = users[start]
        targets = stretch[:, 1:] * supervised
        batch = {
            self.uid_field: user,
            self.list_field: stretch[:, :-1] * real,
            self.length_field: length,
            f"pos_{self.list_field}": targets,
        }
        for field in self.further_fields:
            column = windows(self.source.columns[field], start, length, widest, None)
            batch[f"{field}{self.config['LIST_SUFFIX']}"] = column
        if self.neg_sample_args["distribution"] != "none":
            batch[f"{self.config['NEG_PREFIX']}{self.list_field}"] = self._negatives(
                user, targets, supervised
            )
        elif (label := self.config["LABEL_FIELD"]) in self.source.columns:
            labels = self.source.columns[label].unfold(0, widest, 1).index_select(0, start + 1)
            batch[f"pos_{label}{self.config['LIST_SUFFIX']}"] = labels * supervised
        return Interaction(batch)

    def _negatives(self, user: Tensor, targets: Tensor, supervised: Tensor) -> Tensor:
        """k negatives for every supervised target: int [B], [B, L], bool [B, L] -> [B, L, k]."""
        users = user[:, None].expand_as(targets)[supervised].numpy()  # [T]
        drawn = self._sampler.sample_by_user_ids(
            users, targets[supervised].numpy(), self.neg_sample_num
        )  # [k · T]
        negatives = targets.new_zeros((*targets.shape, self.neg_sample_num))
        negatives[supervised] = drawn.view(self.neg_sample_num, -1).t()
        return negatives


def target_count(interaction: Interaction, config: Config) -> int:
    """Number of targets in a training batch, over which its loss is a mean; for both levels."""
    field = f"pos_{config['ITEM_ID_FIELD']}{config['LIST_SUFFIX']}"
    if field not in interaction:
        return len(interaction)
    return int((interaction[field] != 0).sum())
