"""A check that an earlier run's weights were not trained on what this run holds out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_llm.core.checkpoints.stored import plain_config
from recbole_llm.core.config import Config
from recbole_llm.core.errors import one_line
from recbole_llm.data.settings import splits_at_random

_KEYS = (
    "dataset", "benchmark_filename", "eval_args", "exact_times", "rm_dup_inter", "val_interval",
    "user_inter_num_interval", "item_inter_num_interval", "filter_inter_by_user_or_item",
    "USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD",
)  # fmt: skip


def check_same_split(then: Mapping[str, Any], config: Config, file: object) -> None:
    """Refuse a checkpoint of another split: its training may have seen what this run holds out.

    Args:
        then: the settings that the checkpoint stores.
        config: this run's settings.
        file: path of the checkpoint, for the message.

    Raises:
        ValueError: the splits differ; the message names the key.
    """
    now = plain_config(config)
    keys = [*_KEYS, *(["split_seed", "seed"] if splits_at_random(config) else [])]
    if now.get("split_seed") is not None:
        keys = [key for key in keys if key != "seed"]
    for key in (key for key in keys if key in then and key in now):
        before, here = _split(key, then[key]), _split(key, now[key])
        if before != here:
            raise ValueError(
                f"'{file}' was trained on another split ({key}: {one_line(before)}, now "
                f"{one_line(here)}), perhaps on what this run holds out; change it back, or "
                f"train anew"
            )


def _split(key: str, value: Any) -> Any:
    """`eval_args` without `mode`, which does not affect the split; other values unchanged."""
    if key != "eval_args" or not isinstance(value, Mapping):
        return value
    return {name: part for name, part in value.items() if name != "mode"}
