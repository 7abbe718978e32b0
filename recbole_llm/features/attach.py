"""Features by name: built once, kept on the data set, shared with its copies and splits.

>>> features_of(dataset)["item_text"].matrix  # doctest: +SKIP

``dataset.features`` holds {name: table}, and a table that is put there by hand stays: see
`feature_tables`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
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
from recbole_llm.features.build import build_feature
from recbole_llm.features.encoders.base import encoder_spec
from recbole_llm.features.settings import (
    EncoderSettings,
    ItemSettings,
    PromptSettings,
    StoreSettings,
)
from recbole_llm.features.tables.feature_tables import attached_features
from recbole_llm.features.tables.table import EmbeddingTable
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
        tables = attached_features(self._dataset)
        if tables.is_put_by_hand(name):
            return tables[name]
        spec = get_registry().find(FeatureSpec, name)
        if name in tables and tables.built_under[name] == _settings_digest(self._config, spec):
            return tables[name]
        with distributed.main_first(), _keep_random_state():  # the others find what is stored
            table = build_feature(spec, self._config, self._dataset)
        _attach(self._config, self._dataset, spec, table)
        return table

    def build_all(self, names: Iterable[str]) -> dict[str, EmbeddingTable]:
        """The tables of these names; those that the data set lacks are built."""
        return {name: self[name] for name in names}


def features_of(dataset: Dataset, config: Config | None = None) -> Features:
    """The features of a data set, under its own configuration or another one."""
    return Features(dataset.config if config is None else config, dataset)


def item_embeddings(config: Config, dataset: Dataset) -> EmbeddingTable:
    """The feature that `item_feature` names, by default ``item_text``; its matrix is also what
    ``get_preload_weight(ITEM_ID_FIELD)`` returns."""
    return features_of(dataset, config)[ItemSettings.of(config).item_feature]


def encode_dataset(config: Config, dataset: Dataset) -> Encoded:
    """Make and attach the items' vectors anew, with a report of what was encoded; those that were
    put there by hand stay."""
    spec = get_registry().find(FeatureSpec, ItemSettings.of(config).item_feature)
    tables = attached_features(dataset)
    if tables.is_put_by_hand(spec.name):
        return Encoded(tables[spec.name], None)
    with _keep_random_state():
        encoded = encode_items(config, dataset)
    _attach(config, dataset, spec, encoded.table)
    return encoded


def model_reads(config: Config) -> tuple[str, ...]:
    """Names of the features that a configuration's run reads: the model's, and `item_init`'s.
    For ``item_text`` stands what `item_feature` names."""
    reads = spec_of(config).reads
    if config["item_init"] == "llm":
        reads = (*reads, "item_text")
    item_feature = ItemSettings.of(config).item_feature
    return tuple(dict.fromkeys(item_feature if name == "item_text" else name for name in reads))


def reads_items(config: Config) -> bool:
    """Whether a configuration's run reads the vectors that `item_embeddings` gives."""
    return ItemSettings.of(config).item_feature in model_reads(config)


def attach_features(config: Config, dataset: Dataset) -> None:
    """Build what the model reads of the loaded data set, before it is split."""
    known = get_registry()
    loaded = (
        name for name in model_reads(config) if known.find(FeatureSpec, name).when == "loaded"
    )
    features_of(dataset, config).build_all(loaded)


def vector_settings(config: Config, spec: FeatureSpec) -> dict[str, Any]:
    """The settings that a feature's vectors depend on: {``class.key``: value}."""
    own = [resolve(c) for c in (encoder_spec(config).settings, spec.settings) if c]
    classes = [ItemSettings, PromptSettings, EncoderSettings, StoreSettings, *own]
    marks = key_marks()
    return {
        f"{cls.__name__}.{key}": value
        for cls in classes
        for key, value in cls.of(config).model_dump(mode="json").items()
        if not marks[key] & Mark.NO_EFFECT_ON_RESULTS
    }


def _settings_digest(config: Config, spec: FeatureSpec) -> str:
    """Digest of the settings that a table depends on: all of them for a feature of the training
    split, whose builder may read any key."""
    read = vector_settings(config, spec)
    if spec.when == "split":
        read |= plain_config(config, without=Mark.NO_EFFECT_ON_RESULTS)
    return digest(spec.name, read)


def _attach(config: Config, dataset: Dataset, spec: FeatureSpec, table: EmbeddingTable) -> None:
    """Put a built table on a data set; copies made before, such as other splits, do not see it."""
    settings = _settings_digest(config, spec)
    dataset.features = attached_features(dataset).with_built(spec.name, table, settings)
    item_feature = ItemSettings.of(config).item_feature
    field = {item_feature: dataset.iid_field, "user_text": dataset.uid_field}.get(spec.name)
    # Weights that the user names go first.
    if field is not None and field not in (config["preload_weight"] or {}):
        dataset._preloaded_weight[field] = table.matrix


@contextmanager
def _keep_random_state() -> Iterator[None]:
    """Undo random draws, such as of loading an encoder: the split and the weights that come after
    must not depend on whether the vectors were stored already."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
