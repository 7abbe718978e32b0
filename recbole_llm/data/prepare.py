"""Making the three loaders of a data set: RecBole's steps with this package's loaders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recbole.data import dataloader as stock
from recbole.data.dataset import Dataset
from recbole.data.utils import get_dataloader as recbole_dataloader
from recbole.sampler import KGSampler
from recbole.utils import FeatureSource, FeatureType, ModelType

from recbole_llm.core.config import Config
from recbole_llm.core.keys.evaluation import RecBoleEvaluation
from recbole_llm.core.like_defaults import is_of_recbole
from recbole_llm.data.loading.eval_loader import FullSortEvalDataLoader
from recbole_llm.data.loading.loaders import (
    KnowledgeBasedDataLoader,
    TrainDataLoader,
    UserDataLoader,
)
from recbole_llm.data.loading.sampled_eval import NegSampleEvalDataLoader
from recbole_llm.data.loading.samplers import create_samplers
from recbole_llm.data.loading.sequence_loader import SequenceTrainDataLoader
from recbole_llm.data.settings import EngineSettings

OURS = {
    stock.TrainDataLoader: TrainDataLoader,
    stock.UserDataLoader: UserDataLoader,
    stock.KnowledgeBasedDataLoader: KnowledgeBasedDataLoader,
    stock.FullSortEvalDataLoader: FullSortEvalDataLoader,
    stock.NegSampleEvalDataLoader: NegSampleEvalDataLoader,
}


def data_preparation(config: Config, dataset: Dataset) -> tuple[Any, Any, Any]:
    """Split a data set of `create_dataset`; return loaders for training, validation and test.

    Raises:
        ValueError: the model cannot train at ``train_level``, nothing is left to train on, or the
            model reads fields that the ranked items lack.
    """
    settings = EngineSettings.of(config)
    settings.check(config)
    built = dataset.build()
    _check_parts(config, built)
    _check_ranked_fields(config, built[0])
    samplers = create_samplers(config, built)
    train: tuple[Any, ...] = (config, built[0], samplers[0])
    shuffle = config["shuffle"]
    if config["MODEL_TYPE"] == ModelType.KNOWLEDGE:
        args = config["train_neg_sample_args"]
        train = (*train, KGSampler(dataset, args["distribution"], args["alpha"]))
        shuffle = True
    of_valid = config
    if samplers[1] is None:  # RecBole's loader then assumes the test phase, and reads its key
        of_valid = config.with_values(test_neg_sample_args=config["valid_neg_sample_args"])
    return (
        get_dataloader(config, "train", settings.train_level)(*train, shuffle=shuffle),
        get_dataloader(config, "valid")(of_valid, built[1], samplers[1], shuffle=False),
        get_dataloader(config, "test")(config, built[2], samplers[2], shuffle=False),
    )


def get_dataloader(config: Config, phase: str, level: str = "prefix") -> type:
    """The loader class for a phase: RecBole's choice, or this package's subclass of it."""
    cls: type = recbole_dataloader(config, phase)
    if phase == "train" and level == "sequence":
        return SequenceTrainDataLoader
    return OURS.get(cls, cls)


def _check_parts(config: Config, built: Sequence[Any]) -> None:
    """Refuse a split in which a part that it asks for is empty."""
    split = RecBoleEvaluation.of(config).eval_args.split
    left_out = ["validation", "test"]
    if split is not None and not config["benchmark_filename"]:
        left_out = split.lacks()
    for name, part in zip(("training", "validation", "test"), built, strict=True):
        if name not in left_out and not len(part):
            raise ValueError(
                f"dataset '{config['dataset']}': the {name} split is empty: users have too few "
                f"interactions for eval_args ({config['eval_args']}), or filters "
                f"(user_inter_num_interval, val_interval …) leave too few"
            )


def _check_ranked_fields(config: Config, dataset: Dataset) -> None:
    """Refuse a ranking of all items for a context-aware model of RecBole that reads further fields
    of interactions: only an interaction that took place has them."""
    ranks_all = "full" in RecBoleEvaluation.of(config).eval_args.modes()
    if not (ranks_all and config["MODEL_TYPE"] == ModelType.CONTEXT and is_of_recbole(config)):
        return
    numbers = (FeatureType.FLOAT, FeatureType.FLOAT_SEQ)
    read = [
        field
        for field in dataset.fields(source=[FeatureSource.INTERACTION])
        if field != config["LABEL_FIELD"]
        and (dataset.field2type[field] not in numbers or field in config["numerical_features"])
    ]
    if read:
        raise ValueError(
            f"eval_args: mode full ranks all items, and {config['model']} reads {', '.join(read)}, "
            f"which only interactions have; leave that out of load_col, or set mode: uni100"
        )
