"""Commands that train many times, ``compare`` and ``tune``, and ``cell``, which trains once."""

from __future__ import annotations

from typing import Any

import click

from recbole_llm.commands.run import train
from recbole_llm.commands.shared import (
    ARGS,
    arguments,
    command,
    split_arguments,
    with_configuration,
    with_executor,
)


@click.command(context_settings=ARGS)
@click.option("--models", required=True, help='Models: "SASRec; name: SASRec --item_init=llm".')
@click.option("--seeds", default="3", show_default=True, help="How many, or which: 2020,2021.")
@click.option("--jobs", default=1, show_default=True, help="Runs at the same time.")
@click.option("--baseline", help="Model that the others are tested against; by default the first.")
@click.option("--tune", type=int, help="Tune each model first, with this many trials.")
@click.option("--output", default="comparison", show_default=True, help="Folder of all results.")
@with_executor
@with_configuration
def compare(**options: Any) -> None:
    """Compare models: compare --models="SASRec; PAD --gamma=0.1" --dataset=ml-100k [--key=value …].

    Each run is a separate process. Repeat the command to continue after a stop: finished runs are
    not repeated.
    """
    from recbole_llm.tasks.compare.run import compare as do

    do(**options)


@click.command(context_settings=ARGS)
@click.option("--model", required=True, help="The model's name.")
@click.option("--trials", required=True, type=int, help="Trials in total, with earlier ones.")
@click.option("--jobs", default=1, show_default=True, help="Trials at the same time.")
@click.option("--search", help="Keys to search: learning_rate; hidden_size=[64,128]; x=0.1..0.5.")
@click.option("--output", default="tuning", show_default=True, help="Folder of all results.")
@with_executor
@with_configuration
def tune(**options: Any) -> None:
    """Find a model's settings on validation: tune --model=PAD --trials=20 [--key=value …].

    Keys that are set are not searched. Repeat the command to continue after a stop.
    """
    from recbole_llm.tasks.compare.run import tune as do

    do(**options)


@click.command(hidden=True, context_settings=ARGS)
@click.argument("scores")
@click.argument("what", type=click.Choice(["run", "trial"]))
@arguments
@command
def cell(scores: str, what: str, arguments: tuple[str, ...]) -> None:
    """Do one run of a comparison or one trial of tuning, in a process that ends with its parent."""
    from recbole_llm.tasks.compare.child import begin, run_trial

    begin(scores)
    argv, files = split_arguments(arguments)
    if what == "trial":
        run_trial(files, argv)
    else:
        train(arguments)
