"""The features made of texts: from fields and histories to an aligned table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from logging import getLogger
from typing import NamedTuple

import numpy as np
from recbole.config import Config
from recbole.data.dataset import Dataset

from recbole_llm.core.digest import digest, short_digests, texts_digest
from recbole_llm.core.errors import first_names
from recbole_llm.core.lines import shows_progress
from recbole_llm.core.plugins.loading import get_registry
from recbole_llm.core.plugins.registry import EncoderSpec
from recbole_llm.features.actors import choose_executor
from recbole_llm.features.contents.keys import C, content_key
from recbole_llm.features.contents.lengths import TokenLimit, report_cut
from recbole_llm.features.contents.plugin_texts import name_source
from recbole_llm.features.contents.prompts import Texts, item_texts, user_texts
from recbole_llm.features.encoders.base import (
    Encoder,
    EncoderError,
    PictureEncoder,
    create_encoder,
    holds_table,
)
from recbole_llm.features.images import ItemEncoder, check_encoder_reads, item_contents
from recbole_llm.features.pipeline import ContentEncoder, EncodeReport, encode_contents
from recbole_llm.features.settings import EncoderSettings, ItemSettings, Policy, StoreSettings
from recbole_llm.features.stored.vectors import EmbeddingStore
from recbole_llm.features.tables.align import align
from recbole_llm.features.tables.table import EmbeddingTable, TableError, has_vector


class Encoded(NamedTuple):
    """The vectors of a data set's items or users, and how they came about."""

    table: EmbeddingTable  # aligned to RecBole's ids
    encoding: EncodeReport | None  # None for precomputed vectors


def user_text(config: Config, dataset: Dataset) -> EmbeddingTable:
    """Build the feature ``user_text``: vectors of users' texts, from the training split alone."""
    # Whatever can fail immediately is tried before anything that takes long.
    encoder = create_encoder(config)
    policy = StoreSettings.of(config).missing_user_embedding
    if holds_table(encoder):
        table = encoder.table("user")
    else:
        limit = TokenLimit.of(encoder, config)
        with closing(EmbeddingStore.from_config(config)) as store:
            texts = user_texts(config, dataset, limit)
            _check_complete(dataset, "user_text", texts, policy)
            table, _ = _encode(config, "user", encoder, store, texts)
    tokens = _tokens_by_id(dataset, "user_text")
    return align(table, tokens, policy, "user", "missing_user_embedding")


def item_text(config: Config, dataset: Dataset) -> EmbeddingTable:
    """Build the feature ``item_text``: vectors of the items' texts."""
    return encode_items(config, dataset, "item_text").table


def item_image(config: Config, dataset: Dataset) -> EmbeddingTable:
    """Build the feature ``item_image``: vectors of the items' pictures."""
    return encode_items(config, dataset, "item_image").table


def item_multimodal(config: Config, dataset: Dataset) -> EmbeddingTable:
    """Build the feature ``item_multimodal``: vectors of the items' texts and pictures together."""
    return encode_items(config, dataset, "item_multimodal").table


def item_states(config: Config, dataset: Dataset) -> EmbeddingTable:
    """Build the feature ``item_states``: a decoder's hidden states over the items' texts."""
    encoder = create_encoder(config)
    if not (holds_table(encoder) or hasattr(encoder, "layer")):
        raise ValueError(  # noqa: TRY004
            f"encoder: '{EncoderSettings.of(config).encoder}' has no hidden states, which "
            f"'item_states' needs; set encoder: causal_lm, and encoder_layer"
        )
    return encode_items(config, dataset, "item_text").table


def encode_items(config: Config, dataset: Dataset, feature: str | None = None) -> Encoded:
    """The items' vectors for a feature (None: `item_feature`), with a report; vectors that were
    encoded before are read from the store."""
    feature = feature or ItemSettings.of(config).item_feature
    encoder = create_encoder(config)
    policy = StoreSettings.of(config).missing_embedding
    report = None
    if holds_table(encoder):
        table = encoder.table("item")
    else:
        table, report = _encode_items(config, dataset, feature, encoder)
    return Encoded(align(table, _tokens_by_id(dataset, feature), policy), report)


def encode_new_items(config: Config, dataset: Dataset, tokens: Sequence[str]) -> EmbeddingTable:
    """Usable vectors of items that have no id: [m, D] for the m tokens with such a vector.

    The data set's ``.item`` file describes these items.
    """
    encoder = create_encoder(config)
    if holds_table(encoder):
        table = encoder.table("item")
    else:
        feature = ItemSettings.of(config).item_feature
        table, _ = _encode_items(config, dataset, feature, encoder, tokens)
    usable = np.isfinite(table.matrix).all(axis=1) & has_vector(table.matrix)
    row_of = {token: row for row, token in enumerate(table.tokens) if usable[row]}
    known = [token for token in tokens if token in row_of]
    rows = table.matrix[[row_of[token] for token in known]]
    return EmbeddingTable(rows, known, table.fingerprint, table.source)


def _encode_items(
    config: Config,
    dataset: Dataset,
    feature: str,
    encoder: Encoder,
    new: Sequence[str] | None = None,
) -> tuple[EmbeddingTable, EncodeReport]:
    """Vectors of all items that have an id, or of `new` ones, of which some may lack content."""
    kind = "item" if new is None else "new item"
    limit = TokenLimit.of(encoder, config)
    policy = StoreSettings.of(config).missing_embedding
    with closing(EmbeddingStore.from_config(config)) as store:
        check_encoder_reads(encoder, feature)
        if feature == "item_text" or not isinstance(encoder, PictureEncoder):
            texts = item_texts(config, dataset, new)
            if new is None:
                _check_complete(dataset, feature, texts, policy)
            report_cut(texts, kind, limit)
            return _encode(config, kind, encoder, store, texts)
        contents = item_contents(config, dataset, feature, new)
        if new is None:
            _check_complete(dataset, feature, contents, policy)
        pictures = ItemEncoder(encoder, ItemSettings.of(config).item_image_max_pixels)
        return _encode(config, kind, pictures, store, contents)


def encode_named(config: Config, texts: Texts, kind: str) -> EmbeddingTable:
    """Vectors of any texts by name, in the order of the texts; stored vectors are reused.

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
    config: Config,
    kind: str,
    encoder: ContentEncoder[C],
    store: EmbeddingStore,
    contents: Mapping[str, C],
) -> tuple[EmbeddingTable, EncodeReport]:
    settings = EncoderSettings.placed(config)
    plugin = get_registry().foreign_plugin_of(EncoderSpec, settings.encoder)
    try:
        matrix, report = encode_contents(
            encoder,
            store,
            list(contents.values()),
            settings.encoder_batch_size,
            f"Encoding {kind}s",
            shows_progress(config),
            choose_executor(settings),
        )
    except EncoderError as error:
        if plugin is None:
            raise
        raise EncoderError(f"encoder '{settings.encoder}' of plugin '{plugin}': {error}") from error
    keys = [content_key(content) for content in contents.values()]
    fingerprint = digest(encoder.fingerprint, store.dtype.name, texts_digest(contents, keys))
    getLogger("recbole_llm").info(f"{kind} embeddings: {report}, {matrix.shape[1]} wide")
    source = digest(encoder.fingerprint, store.dtype.name)
    short = short_digests(key.encode("utf-8", "surrogatepass") for key in keys)
    return EmbeddingTable(matrix, list(contents), fingerprint, source, short), report


# By feature: what an item or user may lack, what holds it, and what to check if all lack it.
_SOURCES = {
    "item_text": ("text", "item file", "item_prompt, and the ids in the item file"),
    "item_image": (
        "picture", "pictures", "item_image_folder, and item_image_field or the files' names"
    ),
    "item_multimodal": (
        "text or picture", "item file", "item_prompt, and the ids in the item file"
    ),
    "user_text": ("text", "user file", "user_prompt, and the ids in the user file"),
}  # fmt: skip


def _check_complete(
    dataset: Dataset, feature: str, contents: Collection[str], policy: Policy
) -> None:
    """Refuse missing contents under the policy ``error``, before anything is encoded."""
    content, source, to_check = _SOURCES[feature]
    kind, key = "item", "missing_embedding"
    if feature == "user_text":
        kind, key = "user", "missing_user_embedding"
    if not contents:
        raise ValueError(
            f"dataset '{dataset.dataset_name}': not one {kind} has a {content}; check {to_check}"
        )
    tokens = _tokens_by_id(dataset, feature)[1:]
    missing = [token for token in tokens if token not in contents]
    if missing and policy == "error":
        reads_texts = feature != "item_image"
        named = name_source(f"{kind}_texts", source) if reads_texts else f"the {source}"
        raise TableError(
            f"{len(missing)} of {len(tokens)} {kind}s have no {content}: {first_names(missing)}; "
            f"complete {named}, or set {key} to zeros or mean"
        )


def _tokens_by_id(dataset: Dataset, feature: str) -> list[str]:
    """The tokens of the items or users in the order of RecBole's ids, padding first."""
    field = dataset.uid_field if feature == "user_text" else dataset.iid_field
    return [str(token) for token in dataset.field2id_token[field]]
