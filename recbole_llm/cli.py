"""The command ``recbole-llm``."""

from __future__ import annotations

import sys

import click

from recbole_llm.commands.compare import cell, compare, tune
from recbole_llm.commands.data import convert, encode, prepare
from recbole_llm.commands.run import models, run
from recbole_llm.commands.shared import rest_when_idle
from recbole_llm.commands.trained import export, recommend, zero_shot


@click.group()
@click.version_option(package_name="recbole-llm")
@click.pass_context
def main(context: click.Context) -> None:
    """LLM-enhanced recommenders for RecBole."""
    from recbole_llm.core.processes.torchrun import started_together

    rest_when_idle()
    if hasattr(sys.stdout, "reconfigure"):  # not every encoding has "→" and the names in the data
        sys.stdout.reconfigure(errors="backslashreplace")
    if started_together() and context.invoked_subcommand != "run":
        raise click.ClickException(
            f"{context.invoked_subcommand} runs in one process: start it without torchrun"
        )


for _command in (
    run, models, convert, encode, prepare, compare, tune, cell, zero_shot, recommend, export,
):  # fmt: skip
    # The list of commands omits the example, which would be cut.
    _command.short_help = f"{(_command.help or '').partition(':')[0].rstrip('.')}."
    main.add_command(_command)
