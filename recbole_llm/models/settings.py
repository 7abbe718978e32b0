"""Keys that the sequential methods share; a method's settings extend them with its defaults."""

from __future__ import annotations

from typing import Literal

from recbole_llm.core.settings import Count, FieldName, Natural, Positive, Settings

Loss = Literal["CE", "BCE", "BPR", "SSM"]


class SequentialSettings(Settings):
    """Training and evaluation of a sequential method."""

    loss_type: Loss = "CE"
    """CE (over the catalogue), BCE, BPR or SSM (sampled softmax); train_neg_sample_args gives the
    last three their negatives, one a target by default, of which SSM wants more."""
    train_level: Literal["prefix", "sequence"] = "sequence"
    """'sequence': a loss at every position of a window; 'prefix': RecBole's rows, one target
    each."""
    train_batch_size: Count = 1024
    """Interactions (supervised targets) in a training step, on average."""
    learning_rate: Positive = 0.001
    """Learning rate."""
    stopping_step: Natural = 5
    """Evaluations without improvement on validation that training goes on for."""
    eval_batch_size: Count = 1024
    """Rows in a batch of evaluation."""
    MAX_ITEM_LIST_LENGTH: Count = 50
    """Longest history, in items."""
    valid_metric: FieldName = "NDCG@10"
    """Metric that picks the best epoch, on validation."""
