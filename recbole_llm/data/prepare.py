"""From a data set to its three loaders: RecBole's steps, with this package's loaders."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from typing import Any

from recbole.data import dataloader as stock
from recbole.data.transform import construct_transform
from recbole.data.utils import get_dataloader as recbole_dataloader
from recbole.data.utils import load_split_dataloaders, save_split_dataloaders
from recbole.sampler import KGSampler
from recbole.utils import ModelType, set_color

from recbole_llm.data.create import UNREADABLE
from recbole_llm.data.eval_loader import FullSortEvalDataLoader
from recbole_llm.data.loaders import TrainDataLoader
from recbole_llm.data.sampled_eval import NegSampleEvalDataLoader
from recbole_llm.data.samplers import create_samplers
from recbole_llm.data.sequence_loader import SequenceTrainDataLoader
from recbole_llm.data.settings import EngineSettings

OURS = {
    stock.TrainDataLoader: TrainDataLoader,
    stock.FullSortEvalDataLoader: FullSortEvalDataLoader,
    stock.NegSampleEvalDataLoader: NegSampleEvalDataLoader,
}
# What saved loaders must have been made under, besides what RecBole itself compares.
SETTINGS = (
    "train_level", "window_stride", "shuffle", "exact_times",
    "train_neg_sample_args", "valid_neg_sample_args", "test_neg_sample_args",
)  # fmt: skip


def data_preparation(config: Any, dataset: Any) -> tuple[Any, Any, Any]:
    """Split the data set and make its loaders; or take saved ones that match (RecBole's rule).

    Args:
        config: the configuration.
        dataset: the data set, as `create_dataset` gave it.

    Returns:
        loaders for training, validation and test.

    Raises:
        ValueError: the model cannot train at ``train_level``, its loaders cannot be saved, or
            nothing is left to train on.
    """
    settings = EngineSettings.of(config)
    settings.check(config)
    level = settings.train_level
    if config["save_dataloaders"] and config["MODEL_TYPE"] == ModelType.KNOWLEDGE:
        raise ValueError(
            f"save_dataloaders: RecBole cannot save the loaders of knowledge-based models such as "
            f"'{config['model']}'; leave it out"
        )
    loaders = _load(config, dataset)
    if loaders is None:
        loaders = _build(config, dataset, level)
        if config["save_dataloaders"]:
            _save(config, loaders)
    else:
        dataset._change_feat_format()
    _log(config)
    return loaders


def get_dataloader(config: Any, phase: str, level: str = "prefix") -> type:
    """The loader class for a phase: ours where RecBole would take the one that it extends."""
    cls: type = recbole_dataloader(config, phase)
    if phase == "train" and level == "sequence":
        return SequenceTrainDataLoader
    return OURS.get(cls, cls)


def _build(config: Any, dataset: Any, level: str) -> tuple[Any, Any, Any]:
    built = dataset.build()
    if not len(built[0]):
        raise ValueError(
            f"dataset '{config['dataset']}': the training split is empty; check eval_args "
            f"({config['eval_args']}) and the filters (user_inter_num_interval, val_interval …)"
        )
    samplers = create_samplers(config, built)
    train: tuple[Any, ...] = (config, built[0], samplers[0])
    shuffle = config["shuffle"]
    if config["MODEL_TYPE"] == ModelType.KNOWLEDGE:
        args = config["train_neg_sample_args"]
        train = (*train, KGSampler(dataset, args["distribution"], args["alpha"]))
        shuffle = True
    return (
        get_dataloader(config, "train", level)(*train, shuffle=shuffle),
        get_dataloader(config, "valid")(config, built[1], samplers[1], shuffle=False),
        get_dataloader(config, "test")(config, built[2], samplers[2], shuffle=False),
    )


def _save(config: Any, loaders: Sequence[Any]) -> None:
    loaders[0].made_under = {key: config[key] for key in SETTINGS}
    generators = [loader.generator for loader in loaders]
    save_split_dataloaders(config, loaders)
    # RecBole's function leaves the live loaders without generators, hence unseeded.
    for loader, generator in zip(loaders, generators, strict=True):
        loader.generator = generator
        loader.sampler.generator = generator


def _load(config: Any, dataset: Any) -> tuple[Any, Any, Any] | None:
    """Saved loaders made under these settings and with these features, else None."""
    loaders = _read(config)
    if loaders is None:
        return None
    made_under = getattr(loaders[0], "made_under", {})
    stale = [key for key in SETTINGS if key not in made_under or made_under[key] != config[key]]
    if _fingerprints(loaders[0]._dataset) != _fingerprints(dataset):
        stale.append("features")
    if stale:
        getLogger().info(f"Saved dataloaders are not used: {', '.join(stale)} changed")
        return None
    for loader in loaders:
        loader.transform = construct_transform(config)  # it also names its fields in the config
    return loaders


def _read(config: Any) -> tuple[Any, Any, Any] | None:
    try:
        loaders: tuple[Any, Any, Any] | None = load_split_dataloaders(config)
    except UNREADABLE as error:
        name = f"{config['dataset']}-for-{config['model']}-dataloader.pth"
        file = config["dataloaders_save_path"] or f"{config['checkpoint_dir']}/{name}"
        raise ValueError(
            f"saved dataloaders '{file}' cannot be read ({type(error).__name__}: {error}); "
            f"delete the file"
        ) from error
    return loaders


def _fingerprints(dataset: Any) -> dict[str, str]:
    """Fingerprints of the features that a data set holds, by name."""
    features = getattr(dataset, "features", {})
    return {name: str(table.fingerprint) for name, table in features.items()}


def _log(config: Any) -> None:
    for title, keys in (
        ("Training", ("train_level", "train_batch_size", "train_neg_sample_args")),
        ("Evaluation", ("eval_batch_size", "eval_memory_mib", "eval_args")),
    ):
        pairs = [(set_color(k, "cyan"), set_color(f"[{config[k]}]", "yellow")) for k in keys]
        text = " ".join(f"{key} = {value}" for key, value in pairs)
        getLogger().info(set_color(f"[{title}]: ", "pink") + text)
