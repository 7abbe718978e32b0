"""Item and user vectors of a data set: the whole way from its fields to an aligned table."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from logging import getLogger
from typing import TYPE_CHECKING, Any

from recbole_llm.features.align import POLICIES, Coverage, align
from recbole_llm.features.digest import digest, texts_digest
from recbole_llm.features.encoders.base import Encoder, TableSource, create_encoder
from recbole_llm.features.errors import TableError, first_names
from recbole_llm.features.pipeline import EncodeReport, encode_texts
from recbole_llm.features.prompts import Texts, item_texts, user_texts
from recbole_llm.features.settings import choice, count
from recbole_llm.features.store import EmbeddingStore
from recbole_llm.features.table import EmbeddingTable
from recbole_llm.hookspecs import hookimpl

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import Dataset

_BATCH_SIZE = 256
_KEYS = (
    "encoder", "encoder_model", "encoder_revision", "encoder_pooling", "encoder_layer",
    "encoder_prefix", "encoder_normalize", "encoder_max_length", "encoder_dtype",
    "encoder_base_url", "encoder_dimensions", "embedding_path", "user_embedding_path",
    "embedding_store_dtype", "missing_embedding", "missing_user_embedding", "item_prompt",
    "user_prompt", "user_prompt_max_items", "item_title_field",
)  # fmt: skip


@dataclass(frozen=True)
class AttachReport:
    """The vectors of a data set's items or users, and how they came about.

    Args:
        table: aligned to RecBole's ids.
        coverage: tokens with and without a vector.
        encoding: counts of texts; None for precomputed vectors.
    """

    table: EmbeddingTable
    coverage: Coverage
    encoding: EncodeReport | None


@dataclass(frozen=True)
class _Kind:
    """How items and users differ."""

    name: str  # item or user
    texts: Callable[[Any, Any], Texts]
    policy_key: str
    policy: str  # default

    @property
    def attribute(self) -> str:
        return f"{self.name}_embeddings"

    def field(self, dataset: Any) -> str:
        return str(dataset.iid_field if self.name == "item" else dataset.uid_field)

    def tokens(self, dataset: Any) -> list[str]:
        """In the order of RecBole's ids, padding first."""
        return [str(token) for token in dataset.field2id_token[self.field(dataset)]]


# A user without training history is no defect of the data, so zeros are the default there.
_ITEM = _Kind("item", item_texts, "missing_embedding", "error")
_USER = _Kind("user", user_texts, "missing_user_embedding", "zeros")


def item_embeddings(config: Config, dataset: Dataset) -> EmbeddingTable:
    """The items' vectors in the order of RecBole's ids, float32 [n, D]; row 0, padding, is zero.

    The table stays on the data set (``dataset.item_embeddings``), whose copies and splits share
    it, and ``dataset.get_preload_weight(ITEM_ID_FIELD)`` returns its matrix.

    Raises:
        ValueError: in one line: templates, fields, encoder, cache folder or vectors at fault.
    """
    return _cached(config, dataset, _ITEM)


def user_embeddings(config: Config, train_dataset: Dataset) -> EmbeddingTable:
    """The users' vectors in the order of RecBole's ids, float32 [n, D]; row 0, padding, is zero.

    Args:
        config: the configuration.
        train_dataset: the training split: texts are made from its interactions alone.

    Raises:
        ValueError: as of :func:`item_embeddings`, or the data set is not split yet.
    """
    return _cached(config, train_dataset, _USER)


def encode_dataset(config: Config, dataset: Dataset) -> AttachReport:
    """Make and attach the items' vectors, whatever is attached already; what was encoded before
    is read from the store."""
    return _attach(config, dataset, _ITEM)


@hookimpl
def prepare_dataset(config: Config, dataset: Dataset) -> None:
    """Attach item vectors where the model needs them.

    Vectors of a data set that was saved are made anew, so that a changed encoder or text shows.
    """
    if config["needs_text"]:
        _attach(config, dataset, _ITEM)


def _cached(config: Any, dataset: Any, kind: _Kind) -> EmbeddingTable:
    table: EmbeddingTable | None = getattr(dataset, kind.attribute, None)
    made_under = getattr(dataset, f"{kind.attribute}_settings", None)
    # A table without settings was put there by hand, and stays.
    if table is not None and made_under in (None, _settings(config)):
        return table
    return _attach(config, dataset, kind).table


def _settings(config: Any) -> str:
    return digest([str(config[key]) for key in _KEYS])


def _attach(config: Any, dataset: Any, kind: _Kind) -> AttachReport:
    report = _build(config, dataset, kind)
    setattr(dataset, kind.attribute, report.table)
    setattr(dataset, f"{kind.attribute}_settings", _settings(config))
    _preload(config, dataset, kind.field(dataset), report.table)
    return report


def _preload(config: Any, dataset: Any, field: str, table: EmbeddingTable) -> None:
    """RecBole's own seam for pre-trained vectors; what the user put there goes first."""
    if field not in (config["preload_weight"] or {}):
        dataset._preloaded_weight[field] = table.matrix


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Within it, loading an encoder may draw random numbers: the split and the weights that come
    after must not depend on whether the vectors were stored already."""
    import numpy as np
    import torch

    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)


@_random_state_kept()
def _build(config: Any, dataset: Any, kind: _Kind) -> AttachReport:
    # Everything that can fail at once is tried before anything that takes long.
    policy = choice(config, kind.policy_key, POLICIES, kind.policy)
    encoder = create_encoder(config)
    if isinstance(encoder, TableSource):
        table, encoding = encoder.table(kind.name), None
    else:
        with closing(EmbeddingStore.from_config(config)) as store:
            texts = kind.texts(config, dataset)
            _check_texts(dataset, kind, texts, policy)
            table, encoding = _encode(config, kind, encoder, store, texts)
        getLogger("recbole_llm").info(f"{kind.name} embeddings: {encoding}, {table.dimension} wide")
    aligned, coverage = align(table, kind.tokens(dataset), policy, kind.name, kind.policy_key)
    return AttachReport(aligned, coverage, encoding)


def _encode(
    config: Any, kind: _Kind, encoder: Encoder, store: EmbeddingStore, texts: Texts
) -> tuple[EmbeddingTable, EncodeReport]:
    matrix, report = encode_texts(
        encoder,
        store,
        list(texts.values()),
        count(config, "encoder_batch_size", _BATCH_SIZE),
        f"Encoding {kind.name}s",
        config["show_progress"] is not False,
    )
    content = texts_digest(texts.keys(), texts.values())
    fingerprint = digest(encoder.fingerprint, store.dtype.name, content)
    return EmbeddingTable(matrix, list(texts), fingerprint), report


def _check_texts(dataset: Any, kind: _Kind, texts: Texts, policy: str) -> None:
    """Texts that are missing under the policy ``error`` end the run before anything is encoded."""
    tokens = kind.tokens(dataset)[1:]
    if not texts:
        raise ValueError(
            f"dataset '{dataset.dataset_name}': not one {kind.name} has a text; check "
            f"{kind.name}_prompt and the tokens of its {kind.name} file"
        )
    missing = [token for token in tokens if token not in texts]
    if missing and policy == "error":
        raise TableError(
            f"{len(missing)} of {len(tokens)} {kind.name}s have no text: {first_names(missing)}; "
            f"complete the {kind.name} file, or set {kind.policy_key} to zeros or mean"
        )
