"""The features made of texts: from fields and histories to an aligned table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from logging import getLogger
from typing import NamedTuple

import numpy as np
from recbole.config import Config
from recbole.data.dataset import Dataset

from recbole_llm.core.digest import digest, short_digests, texts_digest
from recbole_llm.core.errors import first_names
from recbole_llm.core.plugins.loading import get_registry
from recbole_llm.features.actors import encode_of
from recbole_llm.features.align import align
from recbole_llm.features.encoders.base import Encoder, EncoderError, create_encoder, holds_table
from recbole_llm.features.images import items_read
from recbole_llm.features.lengths import TokenLimit, report_cut
from recbole_llm.features.pipeline import EncodeReport, encode_texts
from recbole_llm.features.prompts import Texts, user_texts
from recbole_llm.features.settings import EncoderSettings, ItemSettings, Policy, StoreSettings
from recbole_llm.features.table import EmbeddingTable, TableError, has_vector
from recbole_llm.features.vectors import EmbeddingStore


class Encoded(NamedTuple):
    """The vectors of a data set's items or users, and how they came about."""

    table: EmbeddingTable  # aligned to RecBole's ids
    encoding: EncodeReport | None  # None for precomputed vectors


@dataclass(frozen=True)
class _Kind:
    """How the features differ."""

    feature: str
    name: str = "item"  # or user
    policy_key: str = "missing_embedding"

    def tokens(self, dataset: Dataset) -> list[str]:
        """In the order of RecBole's ids, padding first."""
        field = dataset.iid_field if self.name == "item" else dataset.uid_field
        return [str(token) for token in dataset.field2id_token[field]]


def user_text(config: Config, dataset: Dataset) -> EmbeddingTable:
    """Build the feature ``user_text``: of users' texts, from the training split alone."""
    kind = _Kind("user_text", "user", "missing_user_embedding")
    return _encoded(config, dataset, kind).table


def item_states(config: Config, dataset: Dataset) -> EmbeddingTable:
    """Build the feature ``item_states``: a decoder's hidden states over the items' texts."""
    encoder = create_encoder(config)
    if not (holds_table(encoder) or hasattr(encoder, "layer")):
        raise ValueError(  # noqa: TRY004
            f"encoder: '{EncoderSettings.of(config).encoder}' has no hidden states, which "
            f"'item_states' are; set encoder: causal_lm, and encoder_layer"
        )
    return encode_items(config, dataset, "item_text").table


def encode_items(config: Config, dataset: Dataset, feature: str | None = None) -> Encoded:
    """The items' vectors of a feature (None: of `item_feature`) with a report; what was encoded
    before is read from the store."""
    return _encoded(config, dataset, _Kind(feature or ItemSettings.of(config).item_feature))


def _builder(feature: str) -> Callable[[Config, Dataset], EmbeddingTable]:
    return lambda config, dataset: encode_items(config, dataset, feature).table


# Build the features of these names.
item_text, item_image, item_multimodal = map(
    _builder, ("item_text", "item_image", "item_multimodal")
)


def _encoded(config: Config, dataset: Dataset, kind: _Kind) -> Encoded:
    # Everything that can fail at once is tried before anything that takes long.
    encoder = create_encoder(config)
    policy: Policy = getattr(StoreSettings.of(config), kind.policy_key)
    if holds_table(encoder):
        table, encoding = encoder.table(kind.name), None
    else:
        limit = TokenLimit.of(encoder, config)
        with closing(EmbeddingStore.from_config(config)) as store:
            if kind.name == "user":
                texts = user_texts(config, dataset, limit)
            else:
                texts, encoder = items_read(config, dataset, kind.feature, encoder)
            _check_texts(dataset, kind, texts, policy)
            if kind.feature == "item_text":  # users' texts are made to fit
                report_cut(texts, kind.name, limit)
            table, encoding = _encode(config, kind.name, encoder, store, texts)
    aligned = align(table, kind.tokens(dataset), policy, kind.name, kind.policy_key)
    return Encoded(aligned, encoding)


def encode_new_items(config: Config, dataset: Dataset, tokens: Sequence[str]) -> EmbeddingTable:
    """Vectors of items that have no id, of those that have a usable one: [m, D], m of the tokens.

    The data set's ``.item`` file describes them.
    """
    encoder = create_encoder(config)
    if holds_table(encoder):
        table = encoder.table("item")
    else:
        feature = ItemSettings.of(config).item_feature
        texts, encoder = items_read(config, dataset, feature, encoder, tokens)
        with closing(EmbeddingStore.from_config(config)) as store:
            report_cut(texts, "new item", TokenLimit.of(encoder, config))
            table = _encode(config, "new item", encoder, store, texts)[0]
    usable = np.isfinite(table.matrix).all(axis=1) & has_vector(table.matrix)
    row_of = {token: row for row, token in enumerate(table.tokens) if usable[row]}
    found = [token for token in tokens if token in row_of]
    rows = table.matrix[[row_of[token] for token in found]]
    return EmbeddingTable(rows, found, table.fingerprint, table.source)


def encode_named(config: Config, texts: Texts, kind: str) -> EmbeddingTable:
    """Vectors of any texts by name, in the order of the texts; what is stored is not encoded.

    Raises:
        ValueError: the encoder cannot be loaded, fails, or holds ready-made vectors only.
    """
    encoder = create_encoder(config)
    if holds_table(encoder):
        raise ValueError(  # noqa: TRY004
            f"encoder: '{EncoderSettings.of(config).encoder}' holds ready-made vectors, so it "
            f"cannot encode {kind} texts"
        )
    report_cut(texts, kind, TokenLimit.of(encoder, config))
    with closing(EmbeddingStore.from_config(config)) as store:
        return _encode(config, kind, encoder, store, texts)[0]


def _encode(
    config: Config, kind: str, encoder: Encoder, store: EmbeddingStore, texts: Texts
) -> tuple[EmbeddingTable, EncodeReport]:
    settings = EncoderSettings.placed(config)
    plugin = get_registry().plugin_of("encoder", settings.encoder)
    try:
        matrix, report = encode_texts(
            encoder,
            store,
            list(texts.values()),
            settings.encoder_batch_size,
            f"Encoding {kind}s",
            config["show_progress"] is not False,
            encode_of(settings),
        )
    except EncoderError as error:
        if plugin is None:
            raise
        raise EncoderError(f"encoder '{settings.encoder}' of plugin '{plugin}': {error}") from error
    content = texts_digest(texts.keys(), texts.values())
    fingerprint = digest(encoder.fingerprint, store.dtype.name, content)
    getLogger("recbole_llm").info(f"{kind} embeddings: {report}, {matrix.shape[1]} wide")
    source = digest(encoder.fingerprint, store.dtype.name)
    short = short_digests(text.encode("utf-8", "surrogatepass") for text in texts.values())
    return EmbeddingTable(matrix, list(texts), fingerprint, source, short), report


def _check_texts(dataset: Dataset, kind: _Kind, texts: Texts, policy: str) -> None:
    """Texts that are missing under the policy ``error`` end the run before anything is encoded."""
    tokens = kind.tokens(dataset)[1:]
    what = {"item_image": "picture", "item_multimodal": "text or picture"}.get(kind.feature, "text")
    key, keeper = f"{kind.name}_prompt", f"{kind.name} file"
    names = f"the ids in the {keeper}"
    if kind.feature == "item_image":
        key, keeper = "item_image_folder", "pictures"
        names = "item_image_field or the files' names"
    if not texts:
        raise ValueError(
            f"dataset '{dataset.dataset_name}': not one {kind.name} has a {what}; check {key}, and "
            f"{names}"
        )
    missing = [token for token in tokens if token not in texts]
    if missing and policy == "error":
        raise TableError(
            f"{len(missing)} of {len(tokens)} {kind.name}s have no {what}: "
            f"{first_names(missing)}; complete the {keeper}, or set {kind.policy_key} to zeros or "
            f"mean"
        )
