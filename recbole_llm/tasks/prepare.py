"""The offline work of a model, without training it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recbole_llm.core.config import Config
from recbole_llm.core.model_traits import prepare_training
from recbole_llm.core.plugins.loading import get_registry
from recbole_llm.core.plugins.named import load_plugins
from recbole_llm.core.plugins.registry import StageSpec
from recbole_llm.data.prepare import data_preparation
from recbole_llm.offline.run import load_dataset, prepare_data
from recbole_llm.offline.stage import StageReport, stage_class
from recbole_llm.steps import build_model, start


def prepare(
    model: str | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
    stage: str | None = None,
) -> list[StageReport]:
    """Carry out the missing stages of a model, as a run does, and report on each. Vectors that have
    no stage, such as those of users' texts, are stored, too.

    Args:
        model, dataset, config_file_list, config_dict, argv: as `run_recbole_llm` takes them.
        stage: name of the only stage to carry out; None: all stages of the model.

    Raises:
        ValueError: in one line: invalid settings or files, or a stage that fails.
    """
    load_plugins(config_file_list, config_dict, argv)  # a plugin may define the stage
    spec = None if stage is None else get_registry().find(StageSpec, stage)
    config = Config(model, dataset, config_file_list, config_dict, argv, stage=stage)
    start(config)
    if spec is None:
        reports: list[StageReport] = []
        loaded = prepare_data(config, reports.append)
        # Texts of users or behaviors have no stage; a model has them encoded before its training.
        prepare_training(build_model(config, loaded.train_dataset), loaded.train)
        return reports
    data = load_dataset(config)
    if spec.when == "split":
        data = data_preparation(config, data)[0].dataset
    return [stage_class(spec)(config, data).complete()]
