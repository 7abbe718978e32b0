"""The commands ``run``, which ``run_recbole_llm.py`` runs too, and ``models``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from recbole_llm.commands.shared import ARGS, arguments, command, split_arguments

_USAGE = """\
recbole-llm run --model=PAD --dataset=ml-100k [--key=value …]

Train a model and test it.

  --config_files="a.yaml b.yaml"  config files: later ones override earlier ones, --key=value all
  --plugins=mine.py               models of your own, from a file (docs/plugins.md)
  --output=result.json            file for the result, with settings, versions and times
  --verbose                       show what RecBole prints
  --debug                         show the traceback of an error
"""
_MODELS = "recbole-llm models lists the models; run --model=NAME --help lists the keys of one."


def train(argv: Sequence[str]) -> None:
    """Train and test, as `run` does."""
    arguments, files = split_arguments(argv)
    from recbole_llm.core.processes.torchrun import before_torch

    before_torch()
    from recbole_llm.quick_start import run_recbole_llm

    run_recbole_llm(config_file_list=files, argv=arguments)


@click.command(context_settings=ARGS, add_help_option=False)
@arguments
@command
def run(arguments: tuple[str, ...]) -> None:
    """Train and test: run --model=PAD --dataset=ml-100k [--key=value …]."""
    (_help if "--help" in arguments else train)(arguments)


def _help(argv: Sequence[str]) -> None:
    """Print how to run; with a model, also its keys."""
    from recbole_llm.core.plugins.named import load_plugins
    from recbole_llm.core.schema import parse_command_line

    click.echo(_USAGE)
    given, files = split_arguments([a for a in argv if a not in ("--help", "--debug")])
    load_plugins(files, None, given)
    pairs = parse_command_line(given)
    if "model" not in pairs:
        click.echo(_MODELS)
        return
    from recbole_llm.tasks.models import describe  # loads torch, for seconds

    for line in describe(pairs["model"]):
        click.echo(line)


@click.command()
@click.argument("name", required=False)
@click.option("--plugins", help="Plugins of your own to list too: mine.py, or a module's name.")
@command
def models(name: str | None, plugins: str | None) -> Iterable[object]:
    """List models, encoders and plugins; with a NAME, that model's or encoder's keys and their
    meanings."""
    from recbole_llm.core.plugins.named import load_plugins
    from recbole_llm.tasks.models import describe, list_all

    load_plugins(config_dict={"plugins": plugins})
    return list_all() if name is None else describe(name)
