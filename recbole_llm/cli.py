"""The command ``recbole-llm``; its subcommand ``run`` is what ``run_recbole_llm.py`` runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

_ARGS = {"ignore_unknown_options": True, "allow_extra_args": True}


def rest_when_idle() -> None:
    """Let waiting OpenMP threads sleep soon, unless the user says otherwise; before torch loads.

    libgomp's threads spin some 300,000 rounds. Where other processes use the same cores, a
    spinning thread keeps the one that it waits for from running, and training takes ten times as
    long and more. 3,000 rounds cost a few percent on free cores; none at all would cost a third.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def run_main(argv: Sequence[str]) -> int:
    """Run with ``--key=value`` arguments; bad input ends in one line and exit status 2."""
    rest_when_idle()
    debug = "--debug" in argv
    return _guarded(lambda: _run([a for a in argv if a != "--debug"]), debug)


def _guarded(action: Callable[[], None], debug: bool = False) -> int:
    try:
        action()
    except (ValueError, OSError, NotImplementedError) as error:
        if debug:
            raise
        click.secho(f"error: {error}", fg="red", err=True)
        return 2
    return 0


def _run(argv: Sequence[str]) -> None:
    arguments, files = _split(argv)
    from recbole_llm.quick_start import run_recbole_llm

    run_recbole_llm(config_file_list=files, argv=arguments)


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Arguments for ``Config``, and the config files among them."""
    from recbole_llm.core.schema import parse_command_line

    pairs = parse_command_line(argv)
    files = pairs.pop("config_files", "").split()
    return [f"--{key}={value}" for key, value in pairs.items()], files


@click.group()
@click.version_option(package_name="recbole-llm")
def main() -> None:
    """LLM-enhanced recommenders for RecBole."""
    rest_when_idle()


@main.command(context_settings=_ARGS)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> None:
    """Train and test: run --model=PAD --dataset=ml-100k [--key=value …]."""
    sys.exit(run_main(arguments))


@main.command()
@click.argument("name", required=False)
def models(name: str | None) -> None:
    """List models, encoders and plugins; with a NAME, that model's keys and their meanings."""
    sys.exit(_guarded(lambda: _models(name)))


def _models(name: str | None) -> None:
    from recbole_llm.tasks.models import describe, list_all

    for line in list_all() if name is None else describe(name):
        click.echo(line)


@main.command(context_settings=_ARGS)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def encode(arguments: tuple[str, ...]) -> None:
    """Encode a data set's item texts: encode --dataset=ml-100k [--encoder=… --key=value …]."""
    sys.exit(_guarded(lambda: _encode(arguments)))


def _encode(argv: Sequence[str]) -> None:
    from recbole_llm.tasks.encode import encode as lines

    arguments, files = _split(argv)
    for line in lines(files, arguments):
        click.echo(line)


@main.command(context_settings=_ARGS)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def prepare(arguments: tuple[str, ...]) -> None:
    """Do a model's offline work: prepare --model=PAD --dataset=ml-100k [--key=value …]."""
    sys.exit(_guarded(lambda: _prepare(arguments)))


def _prepare(argv: Sequence[str]) -> None:
    from recbole_llm.tasks.prepare import prepare as do

    arguments, files = _split(argv)
    reports = [str(report) for report in do(config_file_list=files, argv=arguments)]
    for line in reports or ["the model needs no offline work"]:
        click.echo(line)


@main.command("zero-shot", context_settings=_ARGS)
@click.option("--train", required=True, help="Data sets to train on, separated by commas.")
@click.option("--test", required=True, help="The unseen data set.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def zero_shot_command(train: str, test: str, arguments: tuple[str, ...]) -> None:
    """Train on some data sets, test on another: zero-shot --train=a,b --test=c [--key=value …]."""
    sys.exit(_guarded(lambda: _zero_shot(train, test, arguments)))


def _zero_shot(train: str, test: str, argv: Sequence[str]) -> None:
    from recbole_llm.tasks.zero_shot import zero_shot

    arguments, files = _split(argv)
    zero_shot(_names(train), test, config_file_list=files, argv=arguments)


@main.command()
@click.option("--checkpoint", required=True, help="File of a trained model.")
@click.option("--users", help="User ids, separated by commas, or 'all'.")
@click.option("--items", help="In place of --users: item ids of a new user, oldest first.")
@click.option("--query", help="What the user is looking for, in words (AlphaRec).")
@click.option("--query-weight", type=float, help="Of the query, 0 to 1.")
@click.option("-k", default=10, show_default=True, help="Items a user.")
@click.option("--keep-history", is_flag=True, help="Recommend items that the user has, too.")
@click.option("--format", "kind", type=click.Choice(["csv", "json"]), default="csv")
@click.option("--output", type=click.Path(), help="File to write; by default the screen.")
def recommend(checkpoint: str, kind: str, output: str | None, **options: Any) -> None:
    """Recommend items: recommend --checkpoint=FILE --users=u1,u2 [-k 10]."""
    sys.exit(_guarded(lambda: _recommend(checkpoint, kind, output, **options)))


def _recommend(checkpoint: str, kind: str, output: str | None, **options: Any) -> None:
    from recbole_llm.tasks.recommend import recommend as find

    users, items = options.pop("users"), options.pop("items")
    mask = not options.pop("keep_history")
    users = users if users in (None, "all") else _names(users)
    frame = find(checkpoint, users, items and _names(items), mask_history=mask, **options)
    if kind == "csv":
        text = frame.to_csv(index=False)
    else:
        text = frame.to_json(orient="records", force_ascii=False, indent=1) + "\n"
    with click.open_file(output or "-", "w", encoding="utf-8") as file:
        file.write(text)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
