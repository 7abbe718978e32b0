"""Items that came after training, for models that know items by text."""

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
from recbole_llm.core.lines import counted
from recbole_llm.core.log import show
from recbole_llm.data.disk import DiskDataset
from recbole_llm.data.settings import EngineSettings
from recbole_llm.data.vocabulary import VocabularyDataset, new_items
from recbole_llm.features.feature_tables import attached_features
from recbole_llm.features.settings import ItemSettings
from recbole_llm.features.table import EmbeddingTable
from recbole_llm.features.text import encode_new_items
from recbole_llm.models.base import TextItemModel
from recbole_llm.offline.run import load_dataset

_READ = {
    "item_text": "text", "item_image": "picture", "item_multimodal": "text or picture",
}  # fmt: skip


def with_new_items(
    config: Config, model: AbstractRecommender, dataset: Dataset
) -> tuple[Any, Any, Any]:
    """A model and its data set with the ``.item`` file's further items, behind those of training.

    Args:
        model: trained; it is copied before it takes items.
        dataset: whose ids the model has.

    Returns:
        model; data set; and that before its rows became tensors, with all interactions of new items
        too. What was given, and None, where there are no new items or the model cannot score them.
    """
    feature = ItemSettings.of(config).item_feature
    tokens = new_items(config, dataset) if EngineSettings.of(config).recommend_new_items else []
    if not tokens:
        return model, dataset, None
    reason = _cannot(config, model, dataset)
    if not reason:
        vectors = encode_new_items(config, dataset, tokens)
        reason = _not_alike(vectors, attached_features(dataset).get(feature))
    if reason:
        _say(tokens, f"not recommended: {reason}")
        return model, dataset, None
    found = set(vectors.tokens)
    without = [token for token in tokens if token not in found]
    if without:
        _say(without, f"not recommended: no {_READ[feature]} or vector")
    _say(list(vectors.tokens), f"scored by {_READ[feature]}")
    # Who and what is known is settled: bounds on how often users and items occur would take new
    # items out of histories again.
    unfiltered = config.having(user_inter_num_interval=None, item_inter_num_interval=None)
    source = load_dataset(unfiltered, vocabulary=_grown(dataset, vectors.tokens))
    source.number_as(dataset)
    tensors = copy.copy(source)
    tensors._change_feat_format()
    model = copy.deepcopy(model)
    model.add_items(torch.from_numpy(vectors.matrix).to(config["device"]))
    return model, tensors, source


def _cannot(config: Config, model: AbstractRecommender, dataset: Dataset) -> str:
    """Why new items cannot be scored; "" where they can."""
    if not isinstance(model, TextItemModel):
        return f"{config['model']} knows no item that it was not trained with"
    if not model_traits.takes_items(model):
        return f"{config['model']} reads words here, not vectors"
    if isinstance(dataset, DiskDataset):
        return "interactions on disk keep their numbers (interactions: memory takes new ones)"
    if not isinstance(dataset, VocabularyDataset):
        return f"{type(dataset).__name__} cannot number them"
    return ""


def _not_alike(new: EmbeddingTable, known: EmbeddingTable | None) -> str:
    """Why new vectors do not go with those of training; "" where they do."""
    if not len(new):
        return "not one has a text or vector"
    if known is None or (new.source, new.dimension) != (known.source, known.dimension):
        return "the item vectors of training were not made by this encoder"
    return ""


def _grown(dataset: Dataset, tokens: object) -> Vocabulary:
    """The data set's vocabulary with further items at its end."""
    vocabulary = vocabulary_of(dataset)
    known = vocabulary[dataset.iid_field]
    grown = np.append(known.astype(object), np.array(tokens, object))
    return {field: grown if own is known else own for field, own in vocabulary.items()}


def _say(tokens: list[str], what: str) -> None:
    show(f"{counted(len(tokens), 'new item')} of the item file ({first_names(tokens)}): {what}")
