"""Commands of trained models: ``recommend``, ``export``, and ``zero-shot``, which trains one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from recbole_llm.commands.shared import ARGS, parse_names, with_configuration


@click.command("zero-shot", context_settings=ARGS)
@click.option("--train", required=True, help="Data sets to train on, separated by commas.")
@click.option("--test", required=True, help="The unseen data set.")
@with_configuration
def zero_shot(train: str, test: str, **options: Any) -> None:
    """Train AlphaRec (or --model) on some data sets, test on another: --train=a,b --test=c."""
    from recbole_llm.tasks.zero_shot.run import zero_shot as do

    do(parse_names(train), test, **options)


@click.command(context_settings=ARGS)
@click.option("--checkpoint", help="File of a trained model.")
@click.option("--model", "folder", help="Folder of an exported model, in place of --checkpoint.")
@click.option(
    "--users",
    "--user",
    "users",
    help="""User ids, separated by commas (an id with a comma in double quotes), or 'all'.""",
)
@click.option(
    "--items",
    "--item",
    "items",
    help="In place of --users: item ids of a new user, oldest first.",
)
@click.option(
    "--histories",
    "--history",
    "histories",
    help='File of new users, lines of {"user": "anna", "items": ["A1"]}.',
)
@click.option("--query", help="What the user is looking for, in words (AlphaRec).")
@click.option("--query-weight", type=float, help="Weight of the query against the history, 0 to 1.")
@click.option(
    "-k", "--k", type=click.IntRange(1), default=10, show_default=True, help="Items for each user."
)
@click.option(
    "--candidates",
    "--candidate",
    "candidates",
    help="File of the only items to recommend, one id a line.",
)
@click.option(
    "--exclude",
    "--excluded",
    "exclude",
    help="File of items never to recommend, one id a line.",
)
@click.option("--where", help="Condition on the items' fields, such as \"category == 'tea'\".")
@click.option("--keep-history", is_flag=True, help="Recommend items that the user has, too.")
@click.option(
    "--format", "file_format", help="csv, jsonl, json or parquet; by default --output's suffix."
)
@click.option("--output", type=click.Path(), help="File to write; by default the screen.")
@with_configuration
def recommend(
    *,
    checkpoint: str | None,
    folder: str | None,
    users: str | None,
    items: str | None,
    histories: str | None,
    candidates: str | None,
    exclude: str | None,
    keep_history: bool,
    file_format: str | None,
    output: str | None,
    config_file_list: list[str],
    argv: list[str],
    **as_given: Any,
) -> None:
    """Recommend items: recommend --checkpoint=FILE --users=u1,u2 [-k 10] [--key=value …].

    Keys such as --data_path, --encoder_base_url or --embedding_path override the checkpoint's.
    """
    from recbole_llm.tasks.recommend.input import read_histories, read_ids
    from recbole_llm.tasks.recommend.request import Request
    from recbole_llm.tasks.recommend.run import ModelSource, recommend_to_file

    if checkpoint and any(argument.startswith("--topk=") for argument in argv):
        raise ValueError("topk: is for the evaluation; set the items for each user by -k 20")
    source = ModelSource(checkpoint, folder, config_file_list, argv)
    request = Request(
        users=users if users in (None, "all") else parse_names(users),
        items=None if items is None else parse_names(items),
        histories=None if histories is None else read_histories(histories),
        mask_history=not keep_history,
        candidates=None if candidates is None else read_ids(candidates),
        exclude=None if exclude is None else read_ids(exclude, least=0),
        **as_given,
    )
    recommend_to_file(source, request, file_format, output)


@click.command(context_settings=ARGS)
@click.option("--checkpoint", required=True, help="File of a trained model.")
@click.option("--output", required=True, type=click.Path(), help="Folder to write.")
@click.option(
    "--histories/--no-histories",
    default=True,
    show_default=True,
    help="Whether to export users' histories; without them the model serves only new users.",
)
@with_configuration
def export(**options: Any) -> Iterable[object]:
    """Export a model for serving: export --checkpoint=FILE --output=FOLDER [--key=value …]."""
    from recbole_llm.tasks.export.run import export as do

    return do(**options)
