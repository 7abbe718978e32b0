"""AlphaRec's keys."""

from __future__ import annotations

from typing import ClassVar, Literal

from recbole_llm.core.keys.training import NegativeSampling
from recbole_llm.core.settings import (
    Between,
    ConfigLike,
    Count,
    FieldName,
    Natural,
    Positive,
    Settings,
    Share,
    Space,
)


class AlphaRecSettings(Settings):
    """AlphaRec (Sheng et al., ICLR 2025, arXiv 2407.05441). "authors" is their released code."""

    search_space: ClassVar[Space] = {
        "tau": Between(0.05, 0.5),
        "n_layers": (1, 2, 3),
        "text_whitening": (0.0, 0.5, 0.75, 1.0),
        "n_neg": (64, 256),
        "map_hidden_size": (512, 1024, 2048),
    }

    read_with = {"n_neg": ("negatives", ("sampled",)), "map_hidden_size": ("text_map", ("mlp",))}

    text_map: Literal["mlp", "linear"] = "mlp"
    """The map from text to preference: mlp, or linear (the homomorphism probe); section 3.1."""
    text_whitening: Share = 0.75
    """Degree of whitening of the text vectors before the map, which then learns in fewer epochs.
    0: none (authors); 1: full. Chosen on validation."""
    embedding_size: Count = 128
    """Width of the preference vectors; authors: 64. Chosen on validation."""
    map_hidden_size: Count | None = 1024
    """Hidden width of the mlp; None: half the text vectors' width, as the authors do (theirs is
    1,536). Chosen on validation."""
    n_layers: Natural = 2
    """Layers of graph convolution, averaged with layer 0; authors: 2."""
    tau: Positive = 0.2
    """Temperature of InfoNCE; authors: 0.15 to 0.2. Chosen on validation."""
    negatives: Literal["sampled", "in_batch"] = "sampled"
    """Negatives of InfoNCE: sampled (n_neg per row), or in_batch (the other rows' items,
    without the user's own)."""
    n_neg: Count = 256
    """Sampled negatives per row, uniform over items that the user does not have; authors: 256."""
    sample_by: Literal["interaction", "user"] = "interaction"
    """What a batch draws uniformly: interactions (interaction), or users and then one item of each
    (user; authors)."""
    query_weight: Share = 0.5
    """Weight of a text query against the user's own text, 0 to 1; section 3.4."""
    query_neighbors: Natural = 10
    """Number of items nearest to a query. The mean of their text vectors, weighted by
    softmax(cosine / 0.05), replaces the query's vector. 0: the query's own (authors), which is
    unlike any item's and ranks badly without query_text_share (results/quality.md)."""
    query_text_share: Share = 0.5
    """Share of plain text similarity to a query in the scores, multiplied by query_weight; 0: none
    (authors)."""
    train_neg_sample_args: NegativeSampling | Literal["None"] | None = None
    """None: the model draws its negatives itself, by the same rule and faster; otherwise
    RecBole's sampler draws them."""
    learning_rate: Positive = 0.001
    """Learning rate of Adam; authors: 5e-4. Chosen on validation."""
    train_batch_size: Count = 4096
    """Interactions per batch; authors: 4096."""
    eval_batch_size: Count = 4096
    """Users per evaluation batch."""
    valid_metric: FieldName = "NDCG@10"
    """Metric that picks the best epoch, on validation (authors: on the test set)."""

    def check(self, config: ConfigLike) -> None:
        """Raise ValueError for RecBole's sampler with sample_by: user or negatives: in_batch."""
        sampling = self.train_neg_sample_args
        drawn = isinstance(sampling, NegativeSampling) and sampling.drawn
        if drawn and (self.negatives, self.sample_by) != ("sampled", "interaction"):
            raise ValueError(
                "train_neg_sample_args: RecBole's sampler draws interactions and their negatives; "
                "leave it out for sample_by: user and for negatives: in_batch"
            )
