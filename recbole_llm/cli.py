"""The command ``recbole-llm``; its subcommand ``run`` is what ``run_recbole_llm.py`` runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from recbole_llm.command import (
    ARGS,
    arguments,
    command,
    executed,
    guarded,
    names,
    rest_when_idle,
    split,
)

_USAGE = """\
recbole-llm run --model=PAD --dataset=ml-100k [--key=value …]

Train a model and test it.

  --config_files="a.yaml b.yaml"  files of keys; the later beats the earlier, --key=value all files
  --output=result.json            file for the result, with settings, versions and times
  --verbose                       show all that RecBole prints
  --debug                         show the traceback of an error
"""
_MODELS = "recbole-llm models lists the models; run --model=NAME --help lists the keys of one."


def run_main(argv: Sequence[str]) -> int:
    """Run with ``--key=value`` arguments; whatever fails ends in one line.

    Returns:
        exit status: 0, 2 for bad input, 1 for what nobody foresaw, 130 where it was interrupted.
    """
    rest_when_idle()
    if "--help" in argv:
        return guarded(lambda: _help(argv))
    debug = "--debug" in argv
    return guarded(lambda: _run([a for a in argv if a != "--debug"]), debug)


def _run(argv: Sequence[str]) -> None:
    arguments, files = split(argv)
    from recbole_llm.core.distributed import before_torch

    before_torch()
    from recbole_llm.quick_start import run_recbole_llm

    run_recbole_llm(config_file_list=files, argv=arguments)


@click.group()
@click.version_option(package_name="recbole-llm")
@click.pass_context
def main(context: click.Context) -> None:
    """LLM-enhanced recommenders for RecBole."""
    from recbole_llm.core.distributed import started_together

    rest_when_idle()
    if started_together() and context.invoked_subcommand != "run":
        raise click.ClickException(
            f"{context.invoked_subcommand} takes one process: start it without torchrun"
        )


@main.command(context_settings=ARGS, add_help_option=False)
@arguments
@command
def run(arguments: tuple[str, ...]) -> None:
    """Train and test: run --model=PAD --dataset=ml-100k [--key=value …]."""
    (_help if "--help" in arguments else _run)(arguments)


def _help(argv: Sequence[str]) -> None:
    """How to run; with a model, its keys too."""
    from recbole_llm.core.schema import parse_command_line
    from recbole_llm.tasks.models import describe

    click.echo(_USAGE)
    pairs = parse_command_line([a for a in argv if a not in ("--help", "--debug")])
    for line in describe(pairs["model"]) if "model" in pairs else [_MODELS]:
        click.echo(line)


@main.command()
@click.argument("name", required=False)
@command
def models(name: str | None) -> None:
    """List models, encoders and plugins; with a NAME, that model's keys and their meanings."""
    from recbole_llm.tasks.models import describe, list_all

    for line in list_all() if name is None else describe(name):
        click.echo(line)


@main.command()
@click.argument("interactions", type=click.Path())
@click.option("--output", required=True, help="Folder of the data set, such as dataset/shop.")
@click.option("--items", type=click.Path(), help="Table of the items, one row an item.")
@click.option("--user", help="Column of users.")
@click.option("--item", help="Column of items, in both tables.")
@click.option("--time", help="Column of times: numbers, or dates in any form.")
@click.option("--rating", help="Column of ratings.")
@click.option("--text", help="Columns that describe an item, separated by commas.")
@click.option("--date-format", help="Form of the dates where it is unclear, such as %d/%m/%Y.")
@click.option("--encoding", default="utf-8-sig", help="Of text files.")
@command
def convert(interactions: str, output: str, text: str | None, **options: Any) -> None:
    """Make a data set of your own tables: convert orders.csv --items=… --output=dataset/shop.

    INTERACTIONS is a table with a row an interaction: CSV, JSON lines (Amazon's reviews, too; both
    also as .gz) or Parquet; or a folder of MovieLens. Columns that are not named are guessed by
    their names; the summary says what became of each. Without --items, --text names columns of
    INTERACTIONS that describe items.
    """
    from tqdm import tqdm

    from recbole_llm.tasks.convert.run import convert as do
    from recbole_llm.tasks.convert.summary import Roles

    items, encoding = options.pop("items"), options.pop("encoding")
    roles = Roles(text=None if text is None else names(text), **options)
    with tqdm(unit=" rows", leave=False, disable=None) as bar:
        summary = do(interactions, output, items, roles, encoding, lambda rows: bar.update(rows))
    for line in summary.lines():
        click.echo(line)


@main.command(context_settings=ARGS)
@click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    help="Who encodes: this machine, or a Ray cluster.",
)
@click.option("--jobs", type=int, help="Models at once, on Ray; the cluster is --ray_address.")
@arguments
@command
def encode(arguments: tuple[str, ...], **of_encoder: Any) -> None:
    """Encode a data set's item texts: encode --dataset=ml-100k [--encoder=… --key=value …]."""
    from recbole_llm.tasks.encode import encode as lines

    argv, files = split(arguments)
    argv += [f"--encoder_{key}={value}" for key, value in of_encoder.items() if value is not None]
    for line in lines(files, argv):
        click.echo(line)


@main.command(context_settings=ARGS)
@click.option("--stage", help="A stage that no model asks for by itself, such as mirm.")
@arguments
@command
def prepare(stage: str | None, arguments: tuple[str, ...]) -> None:
    """Do a model's offline work: prepare --model=PAD --dataset=ml-100k [--key=value …]."""
    from recbole_llm.tasks.prepare import prepare as do

    argv, files = split(arguments)
    reports = [str(report) for report in do(config_file_list=files, argv=argv, stage=stage)]
    for line in reports or ["the model needs no offline work"]:
        click.echo(line)


@main.command(context_settings=ARGS)
@click.option("--models", required=True, help='Models: "SASRec; name: SASRec --item_init=llm".')
@click.option("--seeds", default="3", show_default=True, help="How many, or which: 2020,2021.")
@click.option("--jobs", default=1, show_default=True, help="Runs at once.")
@click.option("--baseline", help="The model that the others are tested against; else the first.")
@click.option("--tune", type=int, help="Trials of each model, to find its settings first.")
@click.option("--output", default="comparison", show_default=True, help="Folder of all results.")
@executed
@arguments
@command
def compare(models: str, seeds: str, arguments: tuple[str, ...], **options: Any) -> None:
    """Compare models: compare --models="SASRec; PAD --gamma=0.1" --dataset=ml-100k [--key=value …].

    Every run is a process of its own. Repeat the command to go on after a stop: runs that are done
    are not repeated.
    """
    from recbole_llm.tasks.compare.run import compare as do

    argv, files = split(arguments)
    for line in do(models, seeds=seeds, config_file_list=files, argv=argv, **options):
        click.echo(line)


@main.command(context_settings=ARGS)
@click.option("--model", required=True, help="Its name.")
@click.option("--trials", required=True, type=int, help="In all, with those done before.")
@click.option("--jobs", default=1, show_default=True, help="Trials at once.")
@click.option("--search", help="Keys: learning_rate; hidden_size=[64,128]; x=0.1..0.5.")
@click.option("--output", default="tuning", show_default=True, help="Folder of all results.")
@executed
@arguments
@command
def tune(model: str, trials: int, arguments: tuple[str, ...], **options: Any) -> None:
    """Find a model's settings on validation: tune --model=PAD --trials=20 [--key=value …].

    Keys that are set are not searched. Repeat the command to go on after a stop.
    """
    from recbole_llm.tasks.compare.tuning import tune as do

    argv, files = split(arguments)
    for line in do(model, trials, config_file_list=files, argv=argv, **options):
        click.echo(line)


@main.command(hidden=True, context_settings=ARGS)
@click.argument("scores")
@click.argument("what", type=click.Choice(["run", "trial"]))
@arguments
@command
def cell(scores: str, what: str, arguments: tuple[str, ...]) -> None:
    """A run of a comparison, in a process that ends with its parent."""
    from recbole_llm.tasks.compare.child import begin, run_trial

    begin(scores)
    argv, files = split(arguments)
    if what == "trial":
        run_trial(files, argv)
    else:
        _run(arguments)


@main.command("zero-shot", context_settings=ARGS)
@click.option("--train", required=True, help="Data sets to train on, separated by commas.")
@click.option("--test", required=True, help="The unseen data set.")
@arguments
@command
def zero_shot_command(train: str, test: str, arguments: tuple[str, ...]) -> None:
    """Train on some data sets, test on another: zero-shot --train=a,b --test=c [--key=value …]."""
    from recbole_llm.tasks.zero_shot import zero_shot

    argv, files = split(arguments)
    zero_shot(names(train), test, config_file_list=files, argv=argv)


@main.command(context_settings=ARGS)
@click.option("--checkpoint", help="File of a trained model.")
@click.option("--model", "folder", help="Folder of an exported model, in place of --checkpoint.")
@click.option("--users", help="User ids, separated by commas, or 'all'.")
@click.option("--items", help="In place of --users: item ids of a new user, oldest first.")
@click.option("--histories", help="File of new users: JSON lines of user, items.")
@click.option("--query", help="What the user is looking for, in words (AlphaRec).")
@click.option("--query-weight", type=float, help="Of the query, 0 to 1.")
@click.option("-k", default=10, show_default=True, help="Items a user.")
@click.option("--candidates", help="File of the only items to recommend, one id a line.")
@click.option("--exclude", help="File of items never to recommend, one id a line.")
@click.option("--where", help="Condition on the items' fields, such as \"category == 'tea'\".")
@click.option("--keep-history", is_flag=True, help="Recommend items that the user has, too.")
@click.option("--format", "kind", help="csv, jsonl, json or parquet; else as --output is called.")
@click.option("--output", type=click.Path(), help="File to write; by default the screen.")
@arguments
@command
def recommend(
    users: str | None, items: str | None, arguments: tuple[str, ...], **options: Any
) -> None:
    """Recommend items: recommend --checkpoint=FILE --users=u1,u2 [-k 10] [--key=value …].

    Keys such as --data_path, --encoder_base_url or --embedding_path beat the checkpoint's.
    """
    from recbole_llm.tasks.recommend_files import recommend_to_file

    argv, files = split(arguments)
    known = users if users in (None, "all") else names(users)
    recommend_to_file(files, argv, users=known, items=items and names(items), **options)


@main.command(context_settings=ARGS)
@click.option("--checkpoint", required=True, help="File of a trained model.")
@click.option("--output", required=True, type=click.Path(), help="Folder to write.")
@click.option(
    "--histories/--no-histories",
    default=True,
    show_default=True,
    help="Whether users' interactions go with it; without, it takes new users alone.",
)
@arguments
@command
def export(checkpoint: str, output: str, histories: bool, arguments: tuple[str, ...]) -> None:
    """Make a model stand alone: export --checkpoint=FILE --output=FOLDER [--key=value …]."""
    from recbole_llm.tasks.export import export as do

    argv, files = split(arguments)
    for line in do(checkpoint, output, histories, config_file_list=files, argv=argv):
        click.echo(line)
