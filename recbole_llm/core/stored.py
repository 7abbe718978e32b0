"""What a checkpoint stores of a configuration, and what is taken of it: nothing stored is trusted.

A stored key is taken if a settings class of the model, of RecBole's parts or of this package's
declares it, or RecBole's file of the model has it, and it is not among those that are the
machine's and the user's own. All values then pass the checks of any configuration.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from enum import Enum
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from recbole_llm.core.checks import declared_keys
from recbole_llm.core.plugins import find_model
from recbole_llm.core.registry import ModelSpec
from recbole_llm.core.schema import RECBOLE
from recbole_llm.core.yaml_files import read_yaml

if TYPE_CHECKING:
    from recbole.config import Config as RecBoleConfig

    from recbole_llm.core.config import Config

# Whose result is elsewhere in a checkpoint: in the weights, in eval_args.
DONE = frozenset(("item_init", "protocol"))
NEVER = DONE | frozenset((
    # files and folders
    "checkpoint_dir", "config_files", "save_dataset", "dataset_save_path", "save_dataloaders",
    "dataloaders_save_path", "embedding_path", "user_embedding_path", "embedding_cache_dir",
    "encoder_adapter", "item_image_folder", "output", "user_metrics", "pad_pretrained",
    "id_pretrained", "pre_model_path", "resume", "pretrain_path", "mf_pretrain_path",
    "mlp_pretrain_path", "warm_up", "xgb_model",
    # addresses, and names of the environment
    "encoder_base_url", "encoder_api_key_env", "log_wandb", "wandb_project", "ip", "port",
    "ray_address",
    # the machine
    "gpu_id", "use_gpu", "worker", "nproc", "world_size", "offset", "local_rank", "encoder_device",
    "cpu_threads", "tune_malloc", "device", "encoder_executor", "encoder_jobs",
))  # fmt: skip
# Keys that a run's numbers do not depend on, beside those.
FREE = frozenset((
    "data_path", "state", "show_progress", "log_flops", "strict_config", "detect_anomaly",
    "encoder_batch_size", "verbose", "interactions", "sort_memory_mib",
))  # fmt: skip
# Of those that are never taken, what makes a model's features.
_OF_LOADING = (
    "embedding_path", "user_embedding_path", "embedding_cache_dir", "encoder_adapter",
    "item_image_folder", "encoder_base_url", "encoder_api_key_env",
)  # fmt: skip
_OF_NAMES = ("encoder_model", "decoder_model")  # of hubs, or of files
_EVALUATED = frozenset(("teacher",))  # KD_DAGFM passes it to eval()
_TEMPLATES = ("item_prompt", "user_prompt")
_NAME = re.compile(r"[\w@.+-]{1,100}")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def needed_again(config: Config) -> list[str]:
    """The user's settings that no checkpoint keeps and its loading needs, as arguments."""
    given = {k: v for k, v in config.external_config_dict.items() if v is not None}
    named = [k for k in _OF_LOADING if k in given]
    named += [k for k in _OF_NAMES if k in given and not _harmless(k, given[k])]
    return [f"--{key}={given[key]}" for key in named]


def plain_config(config: RecBoleConfig, without: Collection[str] = NEVER) -> dict[str, Any]:
    """A RecBole configuration as numbers, strings, lists and dicts, without what is never taken."""
    return {k: _plain(v) for k, v in config.final_config_dict.items() if k not in without}


def _plain(value: object) -> Any:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value) if isinstance(value, Path) else repr(value)


def taken(stored: object, file: object) -> dict[str, Any]:
    """What is taken of a stored configuration.

    Args:
        stored: a checkpoint's ``config``.
        file: the checkpoint, for messages.

    Raises:
        ValueError: it names no model and data set, or unknown ones.
    """
    if not isinstance(stored, dict) or not all(isinstance(key, str) for key in stored):
        raise ValueError(f"checkpoint '{file}' holds no configuration of a trained model")
    for key in ("model", "dataset", "data_path"):
        if not isinstance(stored.get(key), str) or not stored[key]:
            raise ValueError(f"checkpoint '{file}' does not say its {key}")
    model, dataset = stored["model"], stored["dataset"]
    if {"/", "\\", "\0"} & set(dataset) or dataset in (".", ".."):
        raise ValueError(f"checkpoint '{file}': '{dataset}' is no name of a data set")
    keys = _allowed(find_model(model), stored)
    settings = {k: v for k, v in stored.items() if k in keys and _harmless(k, v)}
    sampling = settings.get("train_neg_sample_args")
    if isinstance(sampling, dict) and sampling.get("distribution") == "none":
        settings["train_neg_sample_args"] = None  # as the user wrote it
    folder = Path(stored["data_path"])  # of the data set, which Config adds itself
    own = {"model": model, "dataset": dataset, "data_path": str(folder.parent)}
    return {**settings, **own}


def _allowed(spec: ModelSpec, stored: Mapping[str, Any]) -> set[str]:
    config = cast("Config", defaultdict(lambda: None, stored))
    # A plugin's sequential model reads loss_type whether or not its settings name it.
    declared = declared_keys(config, spec) | {"loss_type"}
    files = [RECBOLE / "properties" / "model" / f"{spec.name}.yaml", Path(spec.config or "")]
    of_files = {key for file in files if file.is_file() for key in read_yaml(file)}
    plain = {k for k in of_files - declared - _EVALUATED if _of_names(stored.get(k))}
    return (declared | plain) - NEVER


def _of_names(value: object) -> bool:
    """Whether all texts in a value of an undeclared key are plain names."""
    if isinstance(value, str):
        return bool(_NAME.fullmatch(value))
    if isinstance(value, dict):
        return all(_of_names(part) for pair in value.items() for part in pair)
    return all(map(_of_names, value)) if isinstance(value, list) else True


def _harmless(key: str, value: object) -> bool:
    """Whether a declared key's text leads to no file of this machine."""
    if key in _OF_NAMES and isinstance(value, str):
        return bool(_HUB_NAME.fullmatch(value)) and ".." not in value
    if key in _TEMPLATES and isinstance(value, str):
        return "{{" in value or "{%" in value or bool(_NAME.fullmatch(value))
    names = value if isinstance(value, list) else [value]
    if key in ("benchmark_filename", "additional_feat_suffix"):  # parts of file names
        return not any(isinstance(n, str) and _leads_away(n) for n in names)
    return True


def _leads_away(name: str) -> bool:
    return len(PurePosixPath(name).parts) > 1 or len(PureWindowsPath(name).parts) > 1
