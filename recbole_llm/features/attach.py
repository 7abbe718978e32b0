"""Features by name: built once, kept on the data set, shared with its copies and splits.

>>> features_of(dataset)["item_text"].matrix  # doctest: +SKIP

``dataset.features`` holds {name: table}, and a table that is put there by hand stays.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data.dataset import Dataset

from recbole_llm.core.checkpoints.stored import plain_config
from recbole_llm.core.checks import key_marks
from recbole_llm.core.digest import digest
from recbole_llm.core.marks import Mark
from recbole_llm.core.plugins.loading import get_registry
from recbole_llm.core.plugins.registry import FeatureSpec, resolve
from recbole_llm.core.plugins.specs import spec_of
from recbole_llm.core.processes import distributed
from recbole_llm.features.built import build_feature
from recbole_llm.features.encoders.base import encoder_spec
from recbole_llm.features.settings import (
    EncoderSettings,
    ItemSettings,
    PromptSettings,
    StoreSettings,
)
from recbole_llm.features.table import EmbeddingTable
from recbole_llm.features.text import Encoded, encode_items


class Features:
    """The features of a data set, each built when it is first asked for; features of
    ``when="split"`` need the training split.

    Where several processes are one run, all of them ask, and the first builds before the others.
    """

    def __init__(self, config: Config, dataset: Dataset) -> None:
        self._config, self._dataset = config, dataset

    def __getitem__(self, name: str) -> EmbeddingTable:
        """The table: float32 [n, D] in the order of RecBole's ids; row 0, padding, is zero.

        Raises:
            ValueError: in one line: an unknown name; templates, fields, encoder, cache folder or
                vectors at fault; a data set that is not split yet.
        """
        if (table := _put_by_hand(self._dataset, name)) is not None:
            return table
        table, spec = attached(self._dataset).get(name), get_registry().feature(name)
        if table is not None and _made_under(self._dataset)[name] == _settings(self._config, spec):
            return table
        with distributed.main_first(), _random_state_kept():  # the others find what is stored
            table = build_feature(spec, self._config, self._dataset)
        return _keep(self._config, self._dataset, spec, table)


def features_of(dataset: Dataset, config: Config | None = None) -> Features:
    """The features of a data set, under its own configuration or another one."""
    return Features(dataset.config if config is None else config, dataset)


def attached(dataset: Dataset) -> Mapping[str, EmbeddingTable]:
    """The features that a data set holds by now."""
    return vars(dataset).get("features", {})


def _made_under(dataset: Dataset) -> Mapping[str, str]:
    """By feature, the settings that it was made under; without those put there by hand."""
    return vars(dataset).get("features_made_under", {})


def _put_by_hand(dataset: Dataset, name: str) -> EmbeddingTable | None:
    return None if name in _made_under(dataset) else attached(dataset).get(name)


def item_embeddings(config: Config, dataset: Dataset) -> EmbeddingTable:
    """The feature that `item_feature` names, by default ``item_text``; its matrix is also what
    ``get_preload_weight(ITEM_ID_FIELD)`` returns."""
    return features_of(dataset, config)[ItemSettings.of(config).item_feature]


def encode_dataset(config: Config, dataset: Dataset) -> Encoded:
    """Make and attach the items' vectors anew, with a report of what was encoded; those that were
    put there by hand stay."""
    spec = get_registry().feature(ItemSettings.of(config).item_feature)
    if (table := _put_by_hand(dataset, spec.name)) is not None:
        return Encoded(table, None)
    with _random_state_kept():
        encoded = encode_items(config, dataset)
    _keep(config, dataset, spec, encoded.table)
    return encoded


def reads_of(config: Config) -> tuple[str, ...]:
    """Names of the features that a configuration's run reads: the model's, and `item_init`'s.
    For ``item_text`` stands what `item_feature` names."""
    reads = spec_of(config).reads
    if config["item_init"] == "llm":
        reads = (*reads, "item_text")
    own = ItemSettings.of(config).item_feature
    return tuple(dict.fromkeys(own if name == "item_text" else name for name in reads))


def reads_items(config: Config) -> bool:
    """Whether a configuration's run reads the vectors that `item_embeddings` gives."""
    return ItemSettings.of(config).item_feature in reads_of(config)


def attach_features(config: Config, dataset: Dataset) -> None:
    """Build what the model reads of the loaded data set, before it is split."""
    for name in reads_of(config):
        if get_registry().feature(name).when == "loaded":
            features_of(dataset, config)[name]


def vector_settings(config: Config, spec: FeatureSpec) -> dict[str, Any]:
    """The settings that a feature's vectors depend on: {``class.key``: value}."""
    own = [resolve(c) for c in (encoder_spec(config).settings, spec.settings) if c]
    classes = [ItemSettings, PromptSettings, EncoderSettings, StoreSettings, *own]
    marks = key_marks()
    return {
        f"{cls.__name__}.{key}": value
        for cls in classes
        for key, value in cls.of(config).model_dump(mode="json").items()
        if not marks[key] & Mark.FREE
    }


def _settings(config: Config, spec: FeatureSpec) -> str:
    """Of a feature of the training split, whose builder may read any key, all settings count."""
    read = vector_settings(config, spec)
    if spec.when == "split":
        read |= plain_config(config, without=Mark.FREE)
    return digest(spec.name, read)


def _keep(
    config: Config, dataset: Dataset, spec: FeatureSpec, table: EmbeddingTable
) -> EmbeddingTable:
    """Put a table on a data set; copies made before, such as other splits, do not see it."""
    dataset.features_made_under = {**_made_under(dataset), spec.name: _settings(config, spec)}
    dataset.features = {**attached(dataset), spec.name: table}
    own = ItemSettings.of(config).item_feature
    field = {own: dataset.iid_field, "user_text": dataset.uid_field}.get(spec.name)
    # The user's own goes first.
    if field is not None and field not in (config["preload_weight"] or {}):
        dataset._preloaded_weight[field] = table.matrix
    return table


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Within it, loading an encoder may draw random numbers: the split and the weights that come
    after must not depend on whether the vectors were stored already."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
