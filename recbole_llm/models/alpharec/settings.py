"""The checks of AlphaRec's configuration that need no data."""

from __future__ import annotations

from typing import Any

from recbole_llm.core.errors import check_choice

CHOICES = {
    "negatives": ("sampled", "in_batch"),
    "sample_by": ("interaction", "user"),
    "text_map": ("mlp", "linear"),
}


def check_settings(config: Any) -> None:
    """Raise ValueError, naming the key and the way out, for a value that cannot work."""
    for key, known in CHOICES.items():
        check_choice(key, config[key], known)
    own_draws = (config["negatives"], config["sample_by"]) == ("sampled", "interaction")
    if config["train_neg_sample_args"]["distribution"] != "none" and not own_draws:
        raise ValueError(
            "train_neg_sample_args: RecBole's sampler draws interactions and their negatives; "
            "leave it out for sample_by: user and for negatives: in_batch"
        )
    tau, n_neg, n_layers = (config[key] for key in ("tau", "n_neg", "n_layers"))
    if tau <= 0 or n_neg < 1 or n_layers < 0:
        raise ValueError(
            f"AlphaRec needs tau > 0, n_neg >= 1 and n_layers >= 0; got tau={tau}, "
            f"n_neg={n_neg}, n_layers={n_layers}"
        )
