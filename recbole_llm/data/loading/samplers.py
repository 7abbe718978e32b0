"""RecBole's negative samplers, drawing the same negatives from the same random stream, vectorized.

RecBole tests each draw against a Python set, row by row. Here the pairs that may not be drawn
are one sorted array of keys ``user · n_items + item``.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from recbole.sampler import RepeatableSampler as RecBoleRepeatableSampler
from recbole.sampler import Sampler as RecBoleSampler
from torch import Tensor

from recbole_llm.core.arrays import BoolArray, IntArray
from recbole_llm.core.config import Config
from recbole_llm.data.rows.split import sorted_unique
from recbole_llm.data.rows.training import training_interactions, training_parts
from recbole_llm.data.rows.user_items import UserItems
from recbole_llm.data.settings import EngineSettings


class _ArrayDrawing:
    """Draws with arrays in place of dictionaries, and popularity from training interactions only.

    RecBole counts the interactions of all phases, so that training negatives reveal held-out
    items. Here popularity counts training interactions only, in every phase: the negatives of
    validation and test are drawn from one known distribution, and an item without training
    interactions is never drawn by popularity.
    """

    train_split: Any
    alpha: float
    distribution: str
    item_num: int
    sampling: Callable[[int], IntArray]

    def _get_candidates_list(self) -> IntArray:
        return training_interactions(self.train_split)[1]

    def _build_alias_table(self) -> None:
        """Vose's alias method in RecBole's order, but in linear time. RecBole pops from the front
        of lists, and leaves an alias of -1 if rounded shares do not add up to 1."""
        items = self._get_candidates_list()
        keys, first, counts = np.unique(items, return_index=True, return_counts=True)
        order = np.argsort(first)  # by first appearance
        weights = [pow(count / len(items), self.alpha) for count in counts[order].tolist()]
        total = sum(weights)
        prob = [weight / total * len(weights) for weight in weights]
        alias = list(range(len(prob)))
        large = deque(number for number, share in enumerate(prob) if share > 1)
        small = deque(number for number, share in enumerate(prob) if share < 1)
        while large and small:
            most, least = large.popleft(), small.popleft()
            alias[least] = most
            prob[most] -= 1 - prob[least]
            if prob[most] != 1:
                (small if prob[most] < 1 else large).append(most)
        self._keys = keys[order]
        self._prob, self._alias = np.array(prob), self._keys[alias]

    def drawing(self, distribution: str, alpha: float) -> Self:
        """The same sampler with the given distribution and power of popularity."""
        if (distribution, alpha) == (self.distribution, self.alpha):
            return self
        sampler = copy.copy(self)
        sampler.alpha = alpha
        sampler.set_distribution(distribution)  # type: ignore[attr-defined]
        return sampler

    def _pop_sampling(self, sample_num: int) -> IntArray:
        index = np.random.randint(0, len(self._keys), sample_num)
        own = self._prob[index] > np.random.random(sample_num)
        return np.where(own, self._keys[index], self._alias[index])

    @property
    def _drawn(self) -> IntArray:
        """The items that can be drawn."""
        return self._keys if self.distribution == "popularity" else np.arange(1, self.item_num)

    def _check_left(self, used: IntArray) -> None:
        """Refuse used items, as the keys of `UserItems`, that leave a user no negatives."""
        drawn = self._drawn
        users = used[np.isin(used % self.item_num, drawn)] // self.item_num
        if (np.bincount(users) == len(drawn)).any():
            raise ValueError(
                "some users have used every item that negatives are drawn from, so they can have "
                "no negatives; drop them with user_inter_num_interval, or add items"
            )

    def _draw_items(self, count: int, refused: Callable[[Any, IntArray], BoolArray]) -> Tensor:
        """Draw items for `count` rows, int [count], and again where refused(rows, items)."""
        values = self.sampling(count)
        check = np.flatnonzero(refused(slice(None), values))
        while len(check):
            values[check] = self.sampling(len(check))
            check = check[refused(check, values[check])]
        return torch.from_numpy(values)


class Sampler(_ArrayDrawing, RecBoleSampler):  # type: ignore[misc]
    """Negatives that the user has not used up to the phase; the first phase is training."""

    @property
    def train_split(self) -> Any:
        """The data set that popularity is counted in."""
        return self.datasets[0]

    def get_used_ids(self) -> dict[str, UserItems]:
        """Phase -> pairs of user and item used in that phase or before."""
        used, keys = {}, np.empty(0, np.int64)
        for phase, dataset in zip(self.phases, self.datasets, strict=True):
            users, items = (
                dataset.inter_feat[field].numpy() for field in (self.uid_field, self.iid_field)
            )
            own = users * self.item_num + items
            keys = sorted_unique(np.concatenate([keys, own]))
            used[phase] = UserItems(keys, self.user_num, self.item_num)
        return used

    def check(self) -> None:
        """Raise ValueError if some user has used every item that can be drawn."""
        self._check_left(self.used_ids.keys)

    def sample_by_key_ids(self, key_ids: IntArray, num: int) -> Tensor:
        """Draw num negatives per user: int [B] -> int [num · B], all users' first ones first."""
        users = np.tile(np.asarray(key_ids), num)
        if len(users) and not 0 <= users.min() <= users.max() < self.user_num:
            raise IndexError("user id out of range")  # RecBole's caller names the id
        return self._draw_items(len(users), lambda rows, v: self.used_ids.contains(users[rows], v))


class RepeatableSampler(_ArrayDrawing, RecBoleRepeatableSampler):  # type: ignore[misc]
    """Negatives other than the row's own item; ``dataset`` is the train split."""

    excluded: UserItems | None = None  # further items that a user never gets as negatives

    def get_used_ids(self) -> UserItems:
        """No used items for any user, as in RecBole, but without an empty set for each."""
        return UserItems(np.empty(0, np.int64), self.user_num, self.item_num)

    @property
    def train_split(self) -> Any:
        """The data set that popularity is counted in."""
        return self.dataset

    def set_phase(self, phase: str) -> RepeatableSampler:
        """The sampler of a phase; ValueError if there is only one item to draw."""
        sampler: RepeatableSampler = super().set_phase(phase)
        if len(self._drawn) < 2:
            raise ValueError("all negatives would be one item, which is each row's own; add items")
        return sampler

    def sample_by_user_ids(self, user_ids: IntArray, item_ids: IntArray, num: int) -> Tensor:
        """Draw num negatives per row: int [B], int [B] -> int [num · B], all first ones first."""
        users, own = (np.tile(np.asarray(ids), num) for ids in (user_ids, item_ids))
        return self._draw_items(len(own), lambda rows, v: self._refused(users[rows], own[rows], v))

    def without_used(self, parts: Sequence[Any]) -> RepeatableSampler:
        """A sampler that never draws an item that the user has in `parts`, the first of which is
        the train split.

        Raises:
            ValueError: some user has every item that can be drawn.
        """
        n = self.item_num
        used = [
            users * n + items
            for part in (self.train_split, *parts[1:])
            for users, items in training_parts(part)
        ]
        for part in parts[1:]:
            held_out = part.inter_feat
            if part.config["benchmark_filename"]:  # its users may be new to training
                users = held_out[part.uid_field].numpy()
                lists = held_out[getattr(part, f"{part.iid_field}_list_field")].numpy()  # [R, L]
                used.append((users[:, None] * n + lists)[lists != 0])
        sampler, keys = copy.copy(self), sorted_unique(np.concatenate(used))
        self._check_left(keys)
        sampler.excluded = UserItems(keys, self.train_split.user_num, n)
        return sampler

    def _refused(self, users: IntArray, own: IntArray, values: IntArray) -> BoolArray:
        same: BoolArray = values == own
        return same if self.excluded is None else same | self.excluded.contains(users, values)


def create_samplers(config: Config, built: Sequence[Any]) -> tuple[Any, Any, Any]:
    """Samplers of the three phases by RecBole's rules; None for a phase that samples nothing.

    The three share one table of used items, but have their own distributions. In RecBole a user's
    own items may be candidates for sequential models, and not for others; fixed candidates exclude
    them for both.
    """
    phases = ["train", "valid", "test"]
    engine = EngineSettings.of(config)
    without = {"train": engine.negatives_exclude == "history"}
    without |= dict.fromkeys(phases[1:], engine.eval_candidates == "fixed")
    base = None
    samplers: list[Any] = []
    for number, phase in enumerate(phases, 1):
        args = config[f"{phase}_neg_sample_args"]
        if args["distribution"] == "none":
            samplers.append(None)
            continue
        alpha = args["alpha"] if phase == "train" else 1.0  # alpha is for training only
        how = args["distribution"], alpha
        if base is not None:
            base = base.drawing(*how)
        elif config["repeatable"]:
            base = RepeatableSampler(phases, built[0], *how)
        else:
            base = Sampler(phases, list(built), *how)
        sampler = base.set_phase(phase)
        draws = args["sample_num"] != "none"  # full ranking does not draw
        if without[phase] and draws and config["repeatable"]:
            sampler = sampler.without_used(built[:number])
        if draws and not config["repeatable"]:
            sampler.check()
        samplers.append(sampler)
    return samplers[0], samplers[1], samplers[2]
