"""Which checkpoints ``recommend`` takes."""

from __future__ import annotations

from recbole.utils import ModelType

from recbole_llm.core.config import Config


def can_recommend(config: Config) -> bool:
    """Whether `recommend` takes a checkpoint: not for trees, nor for ready-made lists of items, nor
    for models that read more of an interaction than its user and item."""
    kind = config["MODEL_TYPE"]
    lists = kind == ModelType.SEQUENTIAL and config["benchmark_filename"]
    further = kind == ModelType.CONTEXT and _reads_further_fields(config)
    return not (kind == ModelType.DECISIONTREE or lists or further)


def _reads_further_fields(config: Config) -> bool:
    """Whether a context-aware model, which reads all its columns, has some of interactions alone.

    Ratings and times are numbers, of which it reads only those that numerical_features names.
    """
    columns = (config["load_col"] or {}).get("inter")
    if columns is None:  # all columns of the file
        return True
    known = {config[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "LABEL_FIELD")}
    numbers = {config[key] for key in ("RATING_FIELD", "TIME_FIELD")}
    return bool({*columns} - known - (numbers - {*config["numerical_features"]}))
