"""From a configuration to a loaded data set of the right class."""

from __future__ import annotations

import pickle
from logging import getLogger
from pathlib import Path
from typing import Any

import yaml
from recbole.data import create_dataset as recbole_create_dataset
from recbole.utils import ModelType, set_color
from recbole.utils.argument_list import dataset_arguments

from recbole_llm.core.errors import did_you_mean
from recbole_llm.core.plugins import get_registry
from recbole_llm.core.registry import resolve
from recbole_llm.core.schema import ITEM_FEATURES, item_features, learns_labels

UNREADABLE = (EOFError, pickle.UnpicklingError, AttributeError, ImportError, IndexError)
# What a saved data set was made under, besides what RecBole itself compares.
SETTINGS = ("numerical_features", "discretization")


def create_dataset(config: Any, dataset_class: type | None = None) -> Any:
    """Load the data set, from a saved copy where ``dataset_save_path`` has one that matches.

    Args:
        config: the configuration.
        dataset_class: by default ours for sequential models, RecBole's own choice for the rest.

    Raises:
        ValueError: the data set's folder or files are not there.
    """
    check_files(config)
    try:
        return _create(config, dataset_class or _own_class(config))
    except ValueError as error:
        if "feat is empty" not in str(error):
            raise
        raise ValueError(
            f"dataset '{config['dataset']}': no interactions are left after filtering; loosen "
            f"user_inter_num_interval, item_inter_num_interval or val_interval"
        ) from error


def _create(config: Any, cls: type[Any] | None) -> Any:
    if cls is None:
        dataset = recbole_create_dataset(config)
        if dataset.config is config:
            return dataset
        return _present(config, dataset) or type(dataset)(config)
    default = Path(config["checkpoint_dir"]) / f"{config['dataset']}-{cls.__name__}.pth"
    path = Path(config["dataset_save_path"] or default)
    saved = _load_saved(config, path)
    if saved is not None:
        return saved
    dataset = cls(config)
    if config["save_dataset"]:
        dataset.save()
    return dataset


def _own_class(config: Any) -> type[Any] | None:
    """The class that the model's spec names; else, for a sequential model, our index-only one,
    unless RecBole has a class for this very model (``GRU4RecKG`` …); None: RecBole's choice."""
    from recbole.data import dataset as recbole_datasets

    spec = get_registry().models.get(config["model"])
    if spec is not None and spec.dataset is not None:
        return resolve(spec.dataset)  # type: ignore[no-any-return]
    own = hasattr(recbole_datasets, f"{config['model']}Dataset")
    if own or config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        return None
    return resolve("recbole_llm.data.sequence:SequentialDataset")  # type: ignore[no-any-return]


def _load_saved(config: Any, path: Path) -> Any:
    """The pickled data set, if it was made under the same data set arguments (RecBole's rule)."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            dataset = pickle.load(file)
    except UNREADABLE as error:
        raise ValueError(
            f"saved dataset '{path}' cannot be read ({type(error).__name__}: {error}); "
            f"delete the file"
        ) from error
    if any(
        config[key] != dataset.config[key] for key in [*dataset_arguments, "seed", "repeatable"]
    ):
        return None
    getLogger().info(set_color("Load filtered dataset from", "pink") + f": [{path}]")
    return _present(config, dataset)


def _present(config: Any, dataset: Any) -> Any:
    """A data set made under another configuration, under this one; None where it does not fit."""
    if any(config[key] != dataset.config[key] for key in SETTINGS):
        return None
    dataset.config = config  # it splits by the configuration that it holds
    vars(dataset).pop("features", None)  # made anew, so that a changed encoder or text shows
    return dataset


def check_files(config: Any) -> None:
    """Fail early, and with the way out, where RecBole would try a download or crash later."""
    folder, name = Path(config["data_path"]), config["dataset"]
    if not folder.is_dir():
        known = _downloadable()
        if name in known:
            return
        here = sorted(p.name for p in folder.parent.iterdir()) if folder.parent.is_dir() else []
        raise ValueError(
            f"dataset '{name}': the folder '{folder}' does not exist; "
            f"{did_you_mean(name, [*here, *known, 'ml-100k'])} put {name}.inter there, or set "
            f"data_path to the folder that holds '{name}/'"
        )
    names = config["benchmark_filename"]
    wanted = [f"{name}.{part}.inter" for part in names] if names else [f"{name}.inter"]
    for file in wanted:
        if not (folder / file).is_file():
            raise ValueError(f"dataset '{name}': '{folder / file}' does not exist")
        _check_columns(config, folder / file)
    if (folder / f"{name}.item").is_file():
        _check_item_features(config, folder / f"{name}.item")


def _columns(config: Any, file: Path) -> list[str]:
    with file.open(encoding=config["encoding"] or "utf-8") as opened:
        header = opened.readline().rstrip("\n").split(config["field_separator"])
    return [column.split(":")[0] for column in header]


def _check_item_features(config: Any, file: Path) -> None:
    model, columns, load_col = config["model"], _columns(config, file), config["load_col"]
    for feature in item_features(model, config):
        if feature not in columns:
            raise ValueError(
                f"'{file}' has no column '{feature}', which {model} reads of the items; its "
                f"columns are {', '.join(columns)}: name others with --{ITEM_FEATURES[model]}=…"
            )
        if load_col is not None and feature not in load_col.get("item", ()):
            raise ValueError(
                f"load_col: leaves out the items' column '{feature}', which {model} reads"
            )


def _check_columns(config: Any, file: Path) -> None:
    columns = _columns(config, file)
    needed = ["USER_ID_FIELD", "ITEM_ID_FIELD"]
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL and not config["benchmark_filename"]:
        needed.append("TIME_FIELD")
    for key in needed:
        if config[key] not in columns:
            raise ValueError(
                f"'{file}' has no column '{config[key]}' ({key}), which {config['model']} needs; "
                f"its columns are {', '.join(columns)}: name the right one with --{key}=…"
            )
    label = config["LABEL_FIELD"]
    if _needs_label(config) and label not in columns:
        raise ValueError(
            f"'{file}' has no column '{label}' (LABEL_FIELD), which {config['model']} learns; its "
            f"columns are {', '.join(columns)}: name the right one with --LABEL_FIELD=…, or make "
            f"labels of ratings, with --threshold=\"{{'rating': 4}}\"; with train_neg_sample_args "
            f"and a ranking eval_args.mode (full, uni100) none are needed"
        )


def _needs_label(config: Any) -> bool:
    """Whether labels must be in the file: they come neither from a threshold nor from negatives."""
    if not learns_labels(config.model_class):
        return False
    negatives = config["train_neg_sample_args"]["distribution"] != "none"
    rated = "labeled" in config["eval_args"]["mode"].values()
    return not config["threshold"] and (rated or not negatives)


def _downloadable() -> list[str]:
    import recbole

    file = Path(recbole.__file__).parent / "properties" / "dataset" / "url.yaml"
    return list(yaml.safe_load(file.read_text(encoding="utf-8")))
