"""Loading the data set of a configuration, in the class that its model needs."""

from __future__ import annotations

import os
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole.data.dataset import Dataset
from recbole.utils import ModelType

from recbole_llm.core.checkpoints.tokens import Vocabulary
from recbole_llm.core.config import Config
from recbole_llm.core.errors import near_hint
from recbole_llm.core.plugins.registry import resolve
from recbole_llm.core.plugins.specs import spec_of
from recbole_llm.core.schema import RECBOLE, item_features
from recbole_llm.core.yaml_files import read_yaml
from recbole_llm.data.datasets import dataset as ours
from recbole_llm.data.datasets.grouped_splits import GroupedSplits
from recbole_llm.data.datasets.sequence import SequentialDataset
from recbole_llm.data.datasets.vocabulary import VocabularyDataset, check_vocabulary
from recbole_llm.data.reading.column_checks import (
    check_columns,
    check_graph_files,
    check_item_columns,
)
from recbole_llm.data.reading.parsing import conversion_command
from recbole_llm.data.settings import EngineSettings

OF_MODELS = {
    "DIEN": ours.DIENDataset, "GRU4RecKG": ours.KGSeqDataset, "KSR": ours.KGSeqDataset,
}  # fmt: skip
OF_TYPES = {
    ModelType.SEQUENTIAL: SequentialDataset,
    ModelType.KNOWLEDGE: ours.KnowledgeBasedDataset,
    ModelType.DECISIONTREE: ours.DecisionTreeDataset,
}
_PICKLES = ("save_dataset", "dataset_save_path", "save_dataloaders", "dataloaders_save_path")
_TABLES = (".csv", ".tsv", ".parquet", ".json", ".jsonl", ".gz", ".txt")


def create_dataset(config: Config, vocabulary: Vocabulary | None = None) -> Any:
    """Load the data set from its atomic files.

    Args:
        vocabulary: tokens of a checkpoint or of another data set, whose ids this one is to have.

    Raises:
        ValueError: the data set's folder or a file is missing, a file is malformed, or the files
            do not fit the vocabulary.
    """
    check_files(config)
    _check_order(config)
    ignored = [key for key in _PICKLES if config[key]]
    if ignored:
        getLogger("recbole_llm").warning(
            f"{' and '.join(ignored)}: without effect; loading a pickle can run any code, and "
            f"reading the atomic files is as fast"
        )
    try:
        cls = _choose_class(config)
        if issubclass(cls, VocabularyDataset):
            return cls(config, vocabulary) if vocabulary else cls(config)
        dataset = cls(config)  # RecBole's or a plugin's class, with ids in file order
        check_vocabulary(dataset.field2id_token, vocabulary or {})
        return dataset
    except ValueError as error:
        if "feat is empty" not in str(error):
            raise
        raise ValueError(
            f"dataset '{config['dataset']}': no interactions are left after filtering; loosen "
            f"user_inter_num_interval, item_inter_num_interval or val_interval; or check that the "
            f".inter file has rows, and that the .item and .user files spell ids as it does"
        ) from error


def dataset_class(model: str, kind: ModelType) -> type[Any]:
    """This package's data set class in place of the one that RecBole chooses for a model."""
    return OF_MODELS.get(model) or OF_TYPES.get(kind, ours.Dataset)


def _choose_class(config: Config) -> type[Any]:
    """The model's data set class, or `DiskDataset` with ``interactions: disk``."""
    spec = spec_of(config)
    settings = EngineSettings.of(config)
    if spec.dataset is not None:
        cls = resolve(spec.dataset, f"data set of model '{spec.name}'")
        if not (isinstance(cls, type) and issubclass(cls, Dataset)):
            raise ValueError(
                f"data set of model '{spec.name}': {cls!r} extends no data set class of RecBole"
            )
    else:
        cls = dataset_class(spec.stock_name, config["MODEL_TYPE"])
    if settings.split_seed is not None and not issubclass(cls, GroupedSplits):
        raise ValueError(
            f"split_seed: {config['model']} has its own data set class, {cls.__name__}, which "
            f"draws splits by seed; leave split_seed out, or derive the class from "
            f"{GroupedSplits.__module__}:{GroupedSplits.__name__}"
        )
    if settings.interactions == "memory":
        return cls
    from recbole_llm.data.datasets.disk import DiskDataset

    if not issubclass(DiskDataset, cls):
        raise ValueError(
            f"interactions: disk is for sequential models without their own data set class, and "
            f"{config['model']} is not one; set interactions: memory"
        )
    return DiskDataset


def check_files(config: Config) -> None:
    """Raise an error that names the fix where RecBole would try a download or crash later."""
    folder, name = Path(config["data_path"]), config["dataset"]
    if not folder.is_dir() or len(Path(name).parts) > 1:
        _check_not_a_path(folder, name)
    if not folder.is_dir():
        known = list(read_yaml(RECBOLE / "properties" / "dataset" / "url.yaml"))  # downloadable
        if name in known:
            return
        beside = sorted(folder.parent.iterdir()) if folder.parent.is_dir() else []
        here = [p.name for p in beside if p.is_dir()]
        raise ValueError(
            f"dataset '{name}': the folder '{folder}' does not exist; "
            f"{near_hint(name, [*here, *known, 'ml-100k'])}put {name}.inter there, or set "
            f"data_path to the folder that holds '{name}/'"
        )
    names = config["benchmark_filename"]
    wanted = [f"{name}.{part}.inter" for part in names] if names else [f"{name}.inter"]
    for file in wanted:
        if not (folder / file).is_file():
            raise ValueError(
                f"dataset '{name}': '{folder / file}' does not exist{_advise_conversion(folder)}"
            )
        check_columns(config, folder / file)
    if config["MODEL_TYPE"] == ModelType.KNOWLEDGE:
        check_graph_files(config, folder)
    features = item_features(spec_of(config).stock_name, config)
    if features and (folder / f"{name}.item").is_file():
        check_item_columns(config, folder / f"{name}.item", features)


def _check_not_a_path(folder: Path, name: str) -> None:
    """Refuse a path given as the name, or the data set's own folder given as data_path.

    Raises:
        ValueError: its message says how to write both keys.
    """
    for place in (Path(name), folder.parent):
        own = place.resolve().name
        if own in (name, Path(name).name) and (place / f"{own}.inter").is_file():
            raise ValueError(
                f"dataset '{name}': '{place / own}.inter' is there: write --dataset={own} "
                f"--data_path={Path(os.path.normpath(place / '..'))}"
            )


def _advise_conversion(folder: Path) -> str:
    """Advice on converting a table that the folder holds; "" without one."""
    found = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in _TABLES]
    return f"; make it from your table: {conversion_command(found[0])}" if found else ""


def _check_order(config: Config) -> None:
    """Refuse a shuffle where order of time matters, and a split that RecBole lacks."""
    args, time = config["eval_args"], config["TIME_FIELD"]
    if args["order"] != "TO" and "TS" in (args["split"] or ()):
        raise ValueError("eval_args: split TS needs order: TO; RO shuffles what TS cuts by time")
    if "TS" in (args["split"] or ()) and not hasattr(Dataset, "time_based_split"):
        raise ValueError(
            "eval_args: split TS came with RecBole 1.2.1, and an older version is installed; split "
            "by RS with order: TO, or by LS"
        )
    if args["order"] != "TO" and config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
        raise ValueError(
            f"eval_args: order: {args['order']} shuffles interactions, which {config['model']} "
            f"reads in order of time; set order: TO"
        )
    if args["order"] == "TO" and time in (config["discretization"] or ()):
        raise ValueError(
            f"discretization: '{time}' is TIME_FIELD, whose buckets do not order interactions; "
            f"leave it out, or set eval_args.order: RO"
        )
