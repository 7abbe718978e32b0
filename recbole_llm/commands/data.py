"""Commands before a training: ``convert``, ``encode``, ``prepare``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from recbole_llm.commands.shared import ARGS, OPTIONS, command, parse_names, with_configuration


@click.command(context_settings=OPTIONS)
@click.argument("interactions", type=click.Path())
@click.option("--output", required=True, help="Folder of the data set, such as dataset/shop.")
@click.option("--items", type=click.Path(), help="Table of the items, one item in each row.")
@click.option("--users", type=click.Path(), help="Table of the users, one user in each row.")
@click.option("--user", help="Column of users, in both tables.")
@click.option("--item", help="Column of items, in both tables.")
@click.option("--time", help="Column of times: numbers, or any dates. 'none' takes no column.")
@click.option("--rating", help="Column of ratings. 'none' takes no column.")
@click.option("--label", help="Column of labels: 1 or true, 0 or false. 'none' takes no column.")
@click.option(
    "--keep",
    help="Further columns of INTERACTIONS: ids or words, several words, or numbers: "
    "action,tags:token_seq,price:float.",
)
@click.option("--text", help="Columns that describe an item, separated by commas.")
@click.option("--user-text", help="Columns of --users to take; by default all.")
@click.option("--date-format", help="Format of the dates if it is unclear, such as %d.%m.%Y.")
@click.option(
    "--encoding",
    default="utf-8-sig",
    help="Encoding of the text files that are not UTF-8, such as cp1252 (Windows).",
)
@command
def convert(
    interactions: str,
    output: str,
    text: str | None,
    user_text: str | None,
    keep: str | None,
    **options: Any,
) -> Iterable[object]:
    """Make a data set from your own tables: convert orders.csv --items=… --output=dataset/shop.

    INTERACTIONS is a table with one interaction in each row: CSV, JSON lines (as Amazon's reviews)
    or Parquet; or a folder of MovieLens. CSV and JSON lines may be .gz files. Columns that no
    option names are guessed by their names; the summary says how each was used. Without --items,
    --text names columns of INTERACTIONS that describe items.
    """
    from tqdm import tqdm

    from recbole_llm.tasks.convert.run import convert as do
    from recbole_llm.tasks.convert.summary import Roles

    tables = {name: options.pop(name) for name in ("items", "users", "encoding")}
    texts, user_texts = (None if t is None else parse_names(t) for t in (text, user_text))
    roles = Roles(text=texts, user_text=user_texts, keep=parse_names(keep or ""), **options)
    with tqdm(unit=" rows", leave=False, disable=None) as bar:
        summary = do(interactions, output, roles=roles, progress=bar.update, **tables)
    return summary.lines()


@click.command(context_settings=ARGS)
@click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    help="Where to encode: this machine, or a Ray cluster.",
)
@click.option("--jobs", type=int, help="Models at once on a Ray cluster (--ray_address).")
@click.option("--output", type=click.Path(), help="File of the vectors to write: vectors.npz.")
@with_configuration
def encode(
    argv: list[str], config_file_list: list[str], output: str | None, **of_encoder: Any
) -> Iterable[object]:
    """Encode a data set's item texts: encode --dataset=ml-100k [--encoder=… --key=value …]."""
    from recbole_llm.tasks.encode import encode as do

    given = [f"--encoder_{key}={value}" for key, value in of_encoder.items() if value is not None]
    return do(config_file_list, [*argv, *given], output)


@click.command(context_settings=ARGS)
@click.option("--stage", help="A stage that no model requires, such as mirm.")
@with_configuration
def prepare(**options: Any) -> Iterable[object]:
    """Do a model's offline work: prepare --model=PAD --dataset=ml-100k [--key=value …]."""
    from recbole_llm.tasks.prepare import prepare as do

    return do(**options) or ["the data set is ready; the model has no offline stages"]
