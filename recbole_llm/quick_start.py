"""One call from a configuration to a tested model: RecBole's signatures without its ray import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from logging import getLogger
from typing import Any

from recbole.data.dataset import Dataset
from recbole.utils import ModelType, dict2str, set_color

from recbole_llm.core import model_traits
from recbole_llm.core.checkpoints.checkpoint import load_checkpoint, load_model_state, require
from recbole_llm.core.checkpoints.stored import check_required_keys, trusted_settings
from recbole_llm.core.checkpoints.tokens import unpack
from recbole_llm.core.config import Config
from recbole_llm.core.log import close_log, log_ends_with_errors
from recbole_llm.core.metrics import as_floats
from recbole_llm.core.plugins.loading import get_plugin_manager
from recbole_llm.core.plugins.named import load_plugins
from recbole_llm.core.plugins.specs import spec_of_class
from recbole_llm.core.processes import distributed
from recbole_llm.core.runtime import one_thread
from recbole_llm.data.datasets.vocabulary import report_changes
from recbole_llm.data.rows.training import training_digest
from recbole_llm.evaluation.beyond import run_reads
from recbole_llm.features.tables.checkpointed import check_features
from recbole_llm.offline.run import PreparedData
from recbole_llm.report import Report
from recbole_llm.steps import build_model, build_trainer, load_data, progress_shown, start
from recbole_llm.trainers.resume import resumable
from recbole_llm.trainers.resume_point import load_run


@one_thread()
@distributed.as_one_run()
@log_ends_with_errors()
def run_recbole_llm(
    model: str | type | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    saved: bool = True,
    argv: Sequence[str] = (),
) -> dict[str, Any]:
    """Train and test a model, ours or RecBole's, in every process that ``torchrun`` started.

    Args:
        model: model name or class.
        dataset: data set name; ``data_path`` says where it is.
        config_file_list: YAML files.
        config_dict: parameters.
        saved: whether checkpoints are written, including the one that ``resume`` reads. Without
            them, the weights of the last epoch are tested, not the best ones, as in RecBole; only
            training in phases keeps the best ones in memory.
        argv: ``--key=value`` arguments, which override the rest.

    Returns:
        best_valid_score, valid_score_bigger, best_valid_result, test_result (RecBole's keys) and,
        when saved, checkpoint (its path).
    """
    config = Config(model, dataset, config_file_list, config_dict, argv)
    if config["resume"] is not None:
        load_run(config["resume"], config)  # fails here rather than after the encoding of texts
    report = Report(config)
    start(config, trains=True)
    logger = getLogger()
    logger.info(config)
    data = load_data(config)
    logger.info(data.dataset)
    network = build_model(config, data.train_dataset)
    logger.info(network)
    trainer = build_trainer(config, network)
    report.begin(data, trainer)
    if config["resume"] is not None:
        trainer.resume_run(config["resume"])
    with resumable(trainer, saved):
        result = _fit_and_test(config, trainer, data, saved)
        _log_result(result)
        report.end(trainer, result)
        if distributed.is_main():
            with distributed.as_single_process():  # a hook may load the model
                get_plugin_manager().hook.on_result(config=config, result=result)
    close_log()
    return result


def _log_result(result: Mapping[str, Any]) -> None:
    """Log RecBole's lines, but not its hardware table, which measures the CPU load for a second."""
    logger = getLogger()
    for key, name in (("best_valid_result", "best valid "), ("test_result", "test result")):
        logger.info(set_color(name, "yellow") + ": " + dict2str(result[key] or {}))


@one_thread()
@log_ends_with_errors()
def objective_function(
    config_dict: Mapping[str, Any] | None = None,
    config_file_list: Sequence[str] | None = None,
    saved: bool = True,
) -> dict[str, Any]:
    """Run one trial of RecBole's HyperTuning, quietly and without a report.

    Returns:
        model, and what `run_recbole_llm` returns.
    """
    settings = {key: _whole_as_int(value) for key, value in (config_dict or {}).items()}
    config = Config(config_file_list=config_file_list, config_dict=settings)
    config["state"], config["show_progress"] = "WARNING", False
    start(config, trains=True)
    data = load_data(config)
    trainer = build_trainer(config, build_model(config, data.train_dataset))
    result = _fit_and_test(config, trainer, data, saved, verbose=False)
    close_log()
    return {"model": config["model"], **result}


def _whole_as_int(value: Any) -> Any:
    """Return a whole number as an int; Hyperopt (quniform) gives it as a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


@log_ends_with_errors()
def load_data_and_model(
    model_file: str,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
) -> tuple[Any, ...]:
    """Load a trained model with its data from a checkpoint of this package (``weights_only``).

    Users, items and categories are matched by name. Names that the data set has gained since
    training are left out, and names that it has lost have no interactions; both are logged. Only
    the settings that the model needs are taken from the checkpoint. Files other than the data
    set's, endpoints and names of environment variables must come from the caller.

    Args:
        model_file: the checkpoint.
        config_file_list, config_dict, argv: the caller's settings, which override the stored ones.
            A model class that is not registered is passed as ``model`` in `config_dict`.

    Returns:
        config, model, dataset, train_data, valid_data, test_data.

    Raises:
        ValueError: the checkpoint is missing or damaged, belongs to other item vectors, or needs a
            setting that is not given.
    """
    load_plugins(config_file_list, config_dict, argv)
    checkpoint = load_checkpoint(model_file)
    require(checkpoint, ("state_dict", "tokens"), model_file)
    given = (config_dict or {}).get("model")
    spec = spec_of_class(given) if isinstance(given, type) else None
    stored = trusted_settings(checkpoint["config"], model_file, spec)
    config = Config(None, None, config_file_list, config_dict, argv, stored=stored)
    if config["model"] != stored["model"]:
        raise ValueError(f"checkpoint '{model_file}' is of {stored['model']}: leave out model")
    if config["MODEL_TYPE"] == ModelType.DECISIONTREE:
        raise ValueError(
            f"checkpoint '{model_file}' is of {config['model']}: decision trees can only be tested "
            f"by the run that trains them; train again"
        )
    try:
        vocabulary = unpack(checkpoint["tokens"])
    except ValueError as error:
        raise ValueError(f"checkpoint '{model_file}' {error}") from None
    if run_reads(config):
        check_required_keys(config, checkpoint.get("needs"), model_file)
    start(config)
    getLogger().info(config)
    data = load_data(config, vocabulary)
    report_changes(data.dataset)
    _report_split(config, checkpoint, data.train_dataset)
    compared = check_features(data.train_dataset, checkpoint.get("features"), model_file)
    model = build_model(config, data.train_dataset)
    load_model_state(model, checkpoint, model_file, compared)
    return config, model, *data


def _report_split(config: Config, checkpoint: Mapping[str, Any], dataset: Dataset) -> None:
    """Warn if a model that is built on training interactions gets others than in its training."""
    built_on = model_traits.built_on_training(config.model_class)
    if built_on and checkpoint.get("trained_on") != training_digest(dataset):
        getLogger("recbole_llm").warning(
            f"the training interactions are not those of the checkpoint, since the files changed "
            f"or (eval_args.order RO) are in another order; what {config['model']} builds from "
            f"them, such as a graph or examples, is built from the present ones"
        )


def _fit_and_test(
    config: Config, trainer: Any, data: PreparedData, saved: bool, verbose: bool = True
) -> dict[str, Any]:
    with progress_shown(config, trainer) as bars:
        score, best = trainer.fit(
            data.train, data.valid, verbose=verbose, saved=saved, show_progress=bars
        )
        test = trainer.evaluate(data.test, load_best_model=saved, show_progress=bars)
    result = {
        "best_valid_score": score,
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": as_floats(best),
        "test_result": as_floats(test),
    }
    return {**result, "checkpoint": trainer.saved_model_file} if saved else result
