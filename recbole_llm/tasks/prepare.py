"""The offline work of a model, without training it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recbole_llm.core.config import Config
from recbole_llm.offline.run import prepare_data
from recbole_llm.offline.stage import StageReport
from recbole_llm.quick_start import start


def prepare(
    model: str | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
) -> list[StageReport]:
    """Do a model's stages that are missing; a run does the same.

    Args:
        model: model name.
        dataset: data set name.
        config_file_list: YAML files.
        config_dict: parameters.
        argv: ``--key=value`` arguments, which beat the rest.

    Returns:
        a report of each stage, in order.

    Raises:
        ValueError: in one line: settings, files, or a stage at fault.
    """
    config = Config(model, dataset, config_file_list, config_dict, argv)
    start(config)
    reports: list[StageReport] = []
    prepare_data(config, reports.append)
    return reports
