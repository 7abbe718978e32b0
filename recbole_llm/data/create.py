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

from recbole_llm.registry import resolve, suggest


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
        return recbole_create_dataset(config)
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
    """Our index-only class, unless RecBole has a class for this very model (``GRU4RecKG`` …)."""
    from recbole.data import dataset as recbole_datasets

    own = hasattr(recbole_datasets, f"{config['model']}Dataset")
    if own or config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        return None
    return resolve("recbole_llm.data.sequence:SequentialDataset")  # type: ignore[no-any-return]


def _load_saved(config: Any, path: Path) -> Any:
    """The pickled data set, if it was made under the same data set arguments (RecBole's rule)."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        dataset = pickle.load(file)
    if any(
        config[key] != dataset.config[key] for key in [*dataset_arguments, "seed", "repeatable"]
    ):
        return None
    getLogger().info(set_color("Load filtered dataset from", "pink") + f": [{path}]")
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
            f"dataset '{name}': the folder '{folder}' does not exist;"
            f"{suggest(name, [*here, *known, 'ml-100k'])} put {name}.inter there, or set data_path "
            f"to the folder that holds '{name}/'"
        )
    names = config["benchmark_filename"]
    wanted = [f"{name}.{part}.inter" for part in names] if names else [f"{name}.inter"]
    for file in wanted:
        if not (folder / file).is_file():
            raise ValueError(f"dataset '{name}': '{folder / file}' does not exist")
        _check_columns(config, folder / file)


def _check_columns(config: Any, file: Path) -> None:
    with file.open(encoding=config["encoding"] or "utf-8") as opened:
        header = opened.readline().rstrip("\n").split(config["field_separator"])
    columns = [column.split(":")[0] for column in header]
    needed = ["USER_ID_FIELD", "ITEM_ID_FIELD"]
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL and not config["benchmark_filename"]:
        needed.append("TIME_FIELD")
    for key in needed:
        if config[key] not in columns:
            raise ValueError(
                f"'{file}' has no column '{config[key]}' ({key}), which {config['model']} needs; its "
                f"columns are {', '.join(columns)}: name the right one with --{key}=…"
            )


def _downloadable() -> list[str]:
    import recbole

    file = Path(recbole.__file__).parent / "properties" / "dataset" / "url.yaml"
    return list(yaml.safe_load(file.read_text(encoding="utf-8")))
