"""Items that came after training, for models that know items by text, and items that went."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.model.abstract_recommender import AbstractRecommender

from recbole_llm.core import model_traits
from recbole_llm.core.checkpoints.tokens import Vocabulary, vocabulary_of
from recbole_llm.core.errors import first_names
from recbole_llm.core.lines import plural
from recbole_llm.core.log import show
from recbole_llm.data.datasets.disk import DiskDataset
from recbole_llm.data.datasets.vocabulary import VocabularyDataset, listed_items, new_items
from recbole_llm.data.settings import EngineSettings
from recbole_llm.features.settings import ItemSettings
from recbole_llm.features.tables.feature_tables import attached_features
from recbole_llm.features.tables.table import EmbeddingTable
from recbole_llm.features.text import encode_new_items
from recbole_llm.models.base import TextItemModel
from recbole_llm.offline.run import load_dataset

_SOURCES = {
    "item_text": "text", "item_image": "picture", "item_multimodal": "text or picture",
}  # fmt: skip


def add_new_items(
    config: Config, model: AbstractRecommender, dataset: Dataset
) -> tuple[Any, Any, Any]:
    """Append the items of the ``.item`` file that training lacked to a model and its data set.

    Args:
        model: trained; it is copied before it takes items.
        dataset: the data set whose ids the model has.

    Returns:
        model; data set; and the data set before its rows became tensors, which includes all
        interactions of new items. If there are no new items, or the model cannot score them: the
        given model and data set, and None.
    """
    feature = ItemSettings.of(config).item_feature
    tokens = new_items(config, dataset) if EngineSettings.of(config).recommend_new_items else []
    if not tokens:
        return model, dataset, None
    reason = _why_unscorable(config, model, dataset)
    if not reason:
        vectors = encode_new_items(config, dataset, tokens)
        reason = _why_mismatched(vectors, attached_features(dataset).get(feature))
    if reason:
        _log(tokens, f"not recommended: {reason}")
        return model, dataset, None
    encoded = set(vectors.tokens)
    lacking = [token for token in tokens if token not in encoded]
    if lacking:
        _log(lacking, f"not recommended: no {_SOURCES[feature]} or vector")
    _log(list(vectors.tokens), f"scored by {_SOURCES[feature]}")
    # The vocabulary fixes users and items: filters by number of interactions would remove new items
    # from histories again.
    unfiltered = config.with_values(user_inter_num_interval=None, item_inter_num_interval=None)
    source = load_dataset(unfiltered, vocabulary=_extend_vocabulary(dataset, vectors.tokens))
    source.number_as(dataset)
    tensors = copy.copy(source)
    tensors._change_feat_format()
    model = copy.deepcopy(model)
    model.add_items(torch.from_numpy(vectors.matrix).to(config["device"]))
    return model, tensors, source


def gone_items(config: Config, dataset: Dataset) -> list[str]:
    """Items of the checkpoint that neither the interactions nor the ``.item`` file have now; none
    if there is no such file, since then nothing says that they were withdrawn."""
    lost = getattr(dataset, "lost", {}).get(dataset.iid_field, [])
    listed = listed_items(config, dataset) if lost else None
    there = set(lost if listed is None else listed)
    gone = [token for token in lost if token not in there]
    if gone:
        few = first_names(gone)
        show(f"{plural(len(gone), 'item')} gone from the data set ({few}): not recommended")
    return gone


def _why_unscorable(config: Config, model: AbstractRecommender, dataset: Dataset) -> str:
    """The reason why new items cannot be scored; "" where they can."""
    if not isinstance(model, TextItemModel):
        return f"{config['model']} knows no item that it was not trained with"
    if not model_traits.takes_items(model):
        return f"{config['model']} reads words here, not vectors"
    if isinstance(dataset, DiskDataset):
        return "interactions on disk keep their numbers (interactions: memory takes new ones)"
    if not isinstance(dataset, VocabularyDataset):
        return f"{type(dataset).__name__} cannot number them"
    return ""


def _why_mismatched(new: EmbeddingTable, known: EmbeddingTable | None) -> str:
    """The reason why new vectors do not match those of training; "" where they do."""
    if not len(new):
        return "not one has a text or vector"
    if known is None or (new.source, new.dimension) != (known.source, known.dimension):
        return "the item vectors of training were not made by this encoder"
    return ""


def _extend_vocabulary(dataset: Dataset, tokens: object) -> Vocabulary:
    """Put further items at the end of the data set's vocabulary."""
    vocabulary = vocabulary_of(dataset)
    items = vocabulary[dataset.iid_field]
    extended = np.append(items.astype(object), np.array(tokens, object))
    return {field: extended if ids is items else ids for field, ids in vocabulary.items()}


def _log(tokens: list[str], outcome: str) -> None:
    show(f"{plural(len(tokens), 'new item')} of the item file ({first_names(tokens)}): {outcome}")
