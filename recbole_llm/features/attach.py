"""Features by name: built once, kept on the data set, shared with its copies and splits.

>>> features_of(dataset)["item_text"].matrix  # doctest: +SKIP

``dataset.features`` holds {name: table}. A table that the user puts there by hand is never
replaced: see `feature_tables`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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
from recbole_llm.core.processes.randomness import keep_random_state
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
    """The features of a data set, each built on first access; features with ``when="split"`` need
    the training split.

    In a distributed run, every process must access a feature: the main one builds it first.
    """

    def __init__(self, config: Config, dataset: Dataset) -> None:
        self._config, self._dataset = config, dataset

    def __getitem__(self, name: str) -> EmbeddingTable:
        """A feature's table, float32 [n, D], in the order of RecBole's ids; row 0, padding, is 0.

        Raises:
            ValueError: the name is unknown; templates, fields, encoder, cache folder or vectors are
                at fault; or the data set is not split yet. The message is one line.
        """
        tables = attached_features(self._dataset)
        if tables.is_put_by_hand(name):
            return tables[name]
        spec = get_registry().find(FeatureSpec, name)
        if name in tables and tables.built_under[name] == _settings_digest(self._config, spec):
            return tables[name]
        with distributed.main_first(), keep_random_state():  # others read the store
            table = build_feature(spec, self._config, self._dataset)
        _attach(self._config, self._dataset, spec, table)
        return table

    def build_all(self, names: Iterable[str]) -> dict[str, EmbeddingTable]:
        """The tables of these features; those that the data set lacks are built."""
        return {name: self[name] for name in names}


def features_of(dataset: Dataset, config: Config | None = None) -> Features:
    """The features of a data set, under its own configuration or another one."""
    return Features(dataset.config if config is None else config, dataset)


def item_embeddings(config: Config, dataset: Dataset) -> EmbeddingTable:
    """The table of the feature that `item_feature` names, by default ``item_text``. RecBole's
    ``get_preload_weight(ITEM_ID_FIELD)`` returns its matrix."""
    return features_of(dataset, config)[ItemSettings.of(config).item_feature]


def encode_dataset(config: Config, dataset: Dataset) -> Encoded:
    """Rebuild and attach the items' table, and report what was encoded; a table that was put there
    by hand stays."""
    spec = get_registry().find(FeatureSpec, ItemSettings.of(config).item_feature)
    tables = attached_features(dataset)
    if tables.is_put_by_hand(spec.name):
        return Encoded(tables[spec.name], None)
    with keep_random_state():
        encoded = encode_items(config, dataset)
    _attach(config, dataset, spec, encoded.table)
    return encoded


def model_reads(config: Config) -> tuple[str, ...]:
    """Names of the features that a run reads, for its model and for `item_init`; ``item_text`` is
    replaced by the feature that `item_feature` names."""
    reads = spec_of(config).reads
    if config["item_init"] == "llm":
        reads = (*reads, "item_text")
    item_feature = ItemSettings.of(config).item_feature
    return tuple(dict.fromkeys(item_feature if name == "item_text" else name for name in reads))


def reads_items(config: Config) -> bool:
    """Whether a configuration's run reads the vectors that `item_embeddings` gives."""
    return ItemSettings.of(config).item_feature in model_reads(config)


def attach_features(config: Config, dataset: Dataset) -> None:
    """Build the model's features that come from the loaded data set, before it is split."""
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
    """Digest of the settings that a table depends on. For a feature of the training split these are
    all settings, since its builder may read any key."""
    read = vector_settings(config, spec)
    if spec.when == "split":
        read |= plain_config(config, without=Mark.NO_EFFECT_ON_RESULTS)
    return digest(spec.name, read)


def _attach(config: Config, dataset: Dataset, spec: FeatureSpec, table: EmbeddingTable) -> None:
    """Attach a built table to a data set, but not to its earlier copies, such as other splits."""
    settings = _settings_digest(config, spec)
    dataset.features = attached_features(dataset).with_built(spec.name, table, settings)
    item_feature = ItemSettings.of(config).item_feature
    field = {item_feature: dataset.iid_field, "user_text": dataset.uid_field}.get(spec.name)
    # Weights that the user configured take precedence.
    if field is not None and field not in (config["preload_weight"] or {}):
        dataset._preloaded_weight = {**dataset._preloaded_weight, field: table.matrix}
