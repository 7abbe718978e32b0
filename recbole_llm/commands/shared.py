"""Shared parts of the commands: how they take ``--key=value``, and how they end."""

from __future__ import annotations

import csv
import functools
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from traceback import walk_tb
from typing import Any

import click

# ``--date_format`` is ``--date-format``, since keys have underscores.
OPTIONS: dict[str, Any] = {"token_normalize_func": lambda name: name.replace("_", "-")}
ARGS: dict[str, Any] = {**OPTIONS, "ignore_unknown_options": True}
_NEEDED = ("recbole", "torch")
_SERVING = ("numpy", "pandas", "tqdm")  # packages that recommend --model=FOLDER needs, too
_SERVING_ALONE = (
    "not installed: this environment only has the packages of recommend --model=FOLDER; "
    "install this package with all of its requirements"
)
arguments = click.argument("arguments", nargs=-1, type=click.UNPROCESSED)


def rest_when_idle() -> None:
    """Let idle OpenMP threads sleep soon, unless OMP_WAIT_POLICY is set; call before torch loads.

    libgomp's threads spin some 300,000 rounds. Where other processes use the same cores, a
    spinning thread keeps the one that it waits for from running, and training takes ten times as
    long or more. 3,000 rounds cost a few percent on free cores; 0 rounds would cost a third.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def run_guarded(action: Callable[[], None], debug: bool = False) -> int:
    """Run an action; report a failure in one line.

    Returns:
        exit status: 0; 2 for bad input; 1 for an unexpected error; 130 if it was interrupted; 141
        if the reader of its output went away.
    """
    try:
        action()
    except KeyboardInterrupt as error:
        _print_error(f"interrupted{'; ' if str(error) else ''}{error}")
        return 130
    except BrokenPipeError:  # the reader of the output, such as `head`, is done
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as after SIGPIPE: not 0, since a training did not finish
    except Exception as error:
        if debug:
            raise
        if type(error).__name__ == "SchemaError" and "KeyboardInterrupt" in str(error):
            _print_error("interrupted")  # while pydantic built a class, as for transformers
            return 130
        if isinstance(error, ImportError) and (missing := [m for m in _NEEDED if not find_spec(m)]):
            needs_more = f"{' and '.join(missing)} {_SERVING_ALONE}"
            needs_one = f"this command needs the package '{error.name}': pip install {error.name}"
            _print_error(f"error: {needs_one if error.name in _SERVING else needs_more}")
            return 2
        return _report_failure(error)
    return 0


def _report_failure(error: Exception) -> int:
    """Report what failed, and in which plugin, if any; return the exit status."""
    from recbole_llm.core.errors import named_error
    from recbole_llm.core.plugins.errors import place_in_plugin, plugin_behind
    from recbole_llm.core.processes.torchrun import MainProcessFailed

    if isinstance(error, MainProcessFailed):  # the first process reports it
        return 2
    plugin, place = plugin_behind(error), place_in_plugin(error)
    start = f"error: plugin '{plugin}':" if plugin else "error:"
    if isinstance(error, (ValueError, OSError, NotImplementedError)):
        words = str(error) or _describe_wordless_error(error)
        _print_error(f"{start} {words}{place}")  # no log has this traceback
        return 2
    words, advice = named_error(error), _bug_report_advice(error, ours=plugin is None)
    _print_error(f"{start} {words}{place}; {advice}")
    return 1


def _describe_wordless_error(error: Exception) -> str:
    """Describe an error without a message, such as RecBole's for a missing method."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    return f"{type(error).__name__} in {frame.f_code.co_qualname}"


def _print_error(text: str) -> None:
    from recbole_llm.core.errors import one_line
    from recbole_llm.core.processes import torchrun
    from recbole_llm.core.secrets import without_credentials

    if not torchrun.claim_error_report():
        return
    text = f"{torchrun.process_prefix()}{text}"
    click.secho(one_line(without_credentials(text), 2000), fg="red", err=True)


def _bug_report_advice(error: Exception, ours: bool) -> str:
    from recbole_llm.core.plugins.errors import loaded_plugins_clause

    try:
        from recbole_llm.core.log import save_traceback

        where, report = f"the traceback is in {save_traceback(error)}", "report it with that file"
    except (OSError, ImportError):  # logs need RecBole, which a serving environment lacks
        where, report = "run it again with --debug", "report it with the traceback"
    if not ours:
        return where
    plugins = loaded_plugins_clause()
    if plugins:
        report = f"if the fault is not the plugin's, {report}"
    bug = f"this is a bug or an unexpected situation{plugins}"
    return f"{bug}: {where}; {report} to the project's issue tracker"


def command(action: Callable[..., Iterable[object] | None]) -> Callable[..., None]:
    """Make a command that prints the lines which its function returns, and reports any failure in
    one line or, with ``--debug``, with its traceback."""

    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(action)
    def run_and_exit(debug: bool, **options: Any) -> None:
        def print_lines() -> None:
            for line in action(**options) or ():
                click.echo(line)

        sys.exit(run_guarded(print_lines, debug))

    return run_and_exit


def with_configuration(action: Callable[..., Iterable[object] | None]) -> Callable[..., None]:
    """Make a `command` that takes ``--key=value`` of the configuration, and passes it to its
    function as `argv` and `config_file_list`."""

    @functools.wraps(action)
    def with_arguments(arguments: tuple[str, ...], **options: Any) -> Iterable[object] | None:
        argv, files = split_arguments(arguments)
        return action(argv=argv, config_file_list=files, **options)

    return arguments(command(with_arguments))


def with_executor(action: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a command that can work on a Ray cluster."""
    where = click.option(
        "--executor",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Where to run: this machine, or a Ray cluster (extra ray).",
    )
    address = click.option(
        "--ray_address",
        help="Address of the Ray cluster; by default RAY_ADDRESS, or a Ray started here.",
    )
    return where(address(action))


def split_arguments(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments into those for ``Config``, and the config files that they name."""
    if not argv:  # commands of an exported model have none, and no RecBole
        return [], []
    from recbole_llm.core.schema import parse_command_line

    pairs = parse_command_line(argv)
    named = pairs.pop("config_files", "")
    try:
        # On Windows, a backslash is no escape; posix=False would leave the quotes in the names.
        files = shlex.split(named if os.name == "posix" else named.replace("\\", "/"))
    except ValueError as error:  # such as a single apostrophe
        raise ValueError(
            f"config_files: '{named}': {error}; put a name with spaces or quotes in quotes"
        ) from None
    return [f"--{key}={value}" for key, value in pairs.items()], files


def parse_names(text: str) -> list[str]:
    """Split a list of names at commas and line ends; a name with commas stands in double quotes."""
    lines = re.split(r"\r\n?|\n", text)  # other line ends may be part of ids
    rows = csv.reader(lines, skipinitialspace=True)
    return [name.strip() for row in rows for name in row if name.strip()]
