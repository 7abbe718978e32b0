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

    text_map: Literal["mlp", "linear"] = "mlp"
    """The map from text to preference: mlp, or linear (the homomorphism probe); section 3.1."""
    text_whitening: Share = 0.75
    """0: the text vectors as they are (authors); up to 1: their directions are evened out before
    the map, which then learns in fewer epochs. Chosen on validation."""
    embedding_size: Count = 128
    """Width of the preference vectors; authors: 64. Chosen on validation."""
    map_hidden_size: Count | None = 1024
    """Hidden width of the mlp; None: half the text vectors' width, as the authors, whose vectors
    make that 1,536. Chosen on validation."""
    n_layers: Natural = 2
    """Layers of graph convolution, averaged with layer 0; authors: 2."""
    tau: Positive = 0.2
    """Temperature of InfoNCE; authors: 0.15 to 0.2. Chosen on validation."""
    negatives: Literal["sampled", "in_batch"] = "sampled"
    """Negatives of InfoNCE: sampled (n_neg a row), or in_batch (the other rows' items that the
    user has not)."""
    n_neg: Count = 256
    """Sampled negatives a row, uniform over the items that the user has not; authors: 256."""
    sample_by: Literal["interaction", "user"] = "interaction"
    """What a batch draws uniformly: interaction, or user (authors), then one of the user's
    items."""
    query_weight: Share = 0.5
    """Weight of a text query against the user's own text, 0 to 1; section 3.4."""
    query_neighbors: Natural = 10
    """Items whose texts stand for a query: those nearest to it, their vectors weighted by softmax
    (cosine / 0.05). 0: the query's own vector (authors), which is unlike any item's, and which a
    whitened map makes nonsense of (results/quality.md)."""
    query_text_share: Share = 0.5
    """Share of plain text similarity to a query in the scores, times the query's weight; 0: none
    (authors)."""
    train_neg_sample_args: NegativeSampling | Literal["None"] | None = None
    """None: the model draws its negatives itself, by the same rule and faster; else RecBole's
    sampler."""
    learning_rate: Positive = 0.001
    """Learning rate of Adam; authors: 5e-4. Chosen on validation."""
    train_batch_size: Count = 4096
    """Interactions a batch; authors: 4096."""
    eval_batch_size: Count = 4096
    """Users a batch when evaluating."""
    valid_metric: FieldName = "NDCG@10"
    """Metric that picks the best epoch, on validation (authors: on the test set)."""

    def check(self, config: ConfigLike) -> None:
        """RecBole's sampler draws interactions, and their negatives."""
        sampling = self.train_neg_sample_args
        drawn = isinstance(sampling, NegativeSampling) and sampling.drawn
        if drawn and (self.negatives, self.sample_by) != ("sampled", "interaction"):
            raise ValueError(
                "train_neg_sample_args: RecBole's sampler draws interactions and their negatives; "
                "leave it out for sample_by: user and for negatives: in_batch"
            )
