"""The command ``recommend``: from files of ids and histories to a file of recommendations."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pandas import DataFrame
from tqdm import tqdm

from recbole_llm.core.errors import absent
from recbole_llm.core.lines import counted, say_meanwhile
from recbole_llm.core.problems import Problems
from recbole_llm.tasks.output import kind_of, write
from recbole_llm.tasks.ranking import Ranker
from recbole_llm.tasks.standalone import Standalone
from recbole_llm.tasks.whom import check_whom


def recommend_to_file(
    config_file_list: Sequence[str],
    argv: Sequence[str],
    *,
    checkpoint: str | None,
    folder: str | None,
    k: int,
    kind: str | None,
    output: str | None,
    keep_history: bool,
    candidates: str | None,
    exclude: str | None,
    where: str | None,
    histories: str | None,
    **whom: Any,
) -> None:
    """Recommend from a checkpoint or an exported folder; the options are the command's."""
    if (not checkpoint) == (not folder):
        raise ValueError("name a model: --checkpoint=FILE, or --model=FOLDER of an exported one")
    if checkpoint and Path(checkpoint).is_dir():
        raise ValueError(
            f"checkpoint '{checkpoint}' is a folder; of an exported model write "
            f"--model={checkpoint}"
        )
    output = None if output == "-" else output  # the screen
    kind = kind_of(kind, output)
    check_whom(histories=histories, **whom)
    only = None if candidates is None else read_ids(candidates)
    never = None if exclude is None else read_ids(exclude, least=0)
    new = None if histories is None else read_histories(histories)
    query = whom.get("query") is not None
    if checkpoint is not None and (whom.get("users") is None or query):
        _check_asked(checkpoint, query, config_file_list, argv)
    say_meanwhile(f"loading {checkpoint or folder}")
    ranker = _loaded(checkpoint, folder, config_file_list, argv)
    new = None if new is None else known_histories(new, ranker)
    wanted = ranker.wanted(histories=new, **whom)
    if only is not None:  # where none is known, the ranker says so
        only = known_items(only, "candidates", ranker) or only
    if never is not None:
        never = known_items(never, "exclude", ranker)
    allowed = ranker.allowed(only, never, where)
    frames = ranker.stream(wanted, k, not keep_history, allowed)
    hidden = True if output is None else None  # None: unless the screen is a terminal
    with tqdm(total=wanted.count, unit=" users", leave=False, disable=hidden) as bar:
        rows = write(_counted(frames, bar), kind, output)
    if output is not None:
        found = f"{counted(wanted.count, 'user')}, {counted(rows, 'recommendation')}"
        print(f"{found} → {output}", file=sys.stderr)


def _check_asked(checkpoint: str, query: bool, files: Sequence[str], argv: Sequence[str]) -> None:
    """Refuse, before data and texts are loaded, what no model of the checkpoint's class can do."""
    from recbole_llm.core.checkpoints.checkpoint import load_checkpoint
    from recbole_llm.core.plugins.loading import get_model
    from recbole_llm.core.plugins.named import load_plugins
    from recbole_llm.tasks.scorer import check_asked

    load_plugins(files, None, argv)
    name = str(load_checkpoint(checkpoint)["config"].get("model"))
    check_asked(name, get_model(name), query)


def _loaded(
    checkpoint: str | None, folder: str | None, config_file_list: Sequence[str], argv: Sequence[str]
) -> Ranker:
    if folder is not None:
        if argv or config_file_list:
            given = " ".join([*argv, *config_file_list])
            raise ValueError(
                f"an exported model takes no settings: leave out {given}, or see the options by "
                f"recbole-llm recommend --help"
            )
        return Standalone(folder)
    from recbole_llm.tasks.recommend import Recommender

    return Recommender.of(str(checkpoint), config_file_list, None, argv)


def _counted(frames: Iterator[DataFrame], bar: Any) -> Iterator[DataFrame]:
    for frame in frames:
        yield frame
        bar.update(frame["user"].nunique())


def read_ids(file: str, least: int = 1) -> list[str]:
    """Ids, one a line.

    Raises:
        ValueError: no such file, or fewer in it than the least number.
    """
    lines = _lines(file, "; what is wanted is a file, one id a line")
    names = [name for line in lines if (name := line.strip(" \t"))]
    if len(names) < least:
        raise ValueError(f"'{file}' holds no ids; write one a line")
    return names


def read_histories(file: str) -> dict[str, list[str]]:
    """New users, a JSON object a line: ``{"user": "anna", "items": ["A1", "B2"]}``; a user without
    a name is called by the line's number, and not all of them need have items.

    Raises:
        ValueError: no such file, a line of another form, a user twice, or nobody with items.
    """
    found: dict[str, list[str]] = {}
    for number, line in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            items = [_id(item) for item in list.copy(row["items"])]
            user = _id(row.pop("user", number))
            if row.keys() != {"items"}:
                raise ValueError(f"unknown keys {sorted(row)}")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"'{file}' line {number} is not of the form "
                f'{{"user": "anna", "items": ["A1", "B2"]}}'
            ) from error
        if user in found:
            raise ValueError(f"'{file}' line {number} has the user '{user}' again")
        found[user] = items
    if not any(found.values()):
        raise ValueError(f"'{file}' holds no histories")
    return found


def _id(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise TypeError(f"{value!r} is no id")
    return str(value).encode("utf-8").decode("utf-8")  # raises ValueError for half a character


def known_histories(histories: Mapping[str, Sequence[str]], ranker: Ranker) -> dict[str, list[str]]:
    """The histories without items that the model does not know, which are counted and named.

    Raises:
        ValueError: the model knows none of their items.
    """
    problems, found = Problems(), dict[str, list[str]]()
    for user, items in histories.items():
        kept = [item for item in items if ranker.item_ids.get(item)]  # 0 is the padding
        unknown = [item for item in items if not ranker.item_ids.get(item)]
        problems.add("unknown items of histories, left out", unknown)
        if kept:
            found[user] = kept
        else:
            problems.add("users without a known item, left out", [user])
    if not found:
        ranker.ids("item", next(filter(None, histories.values())))  # names them, with near matches
    _tell(problems)
    return found


def known_items(ids: Sequence[str], option: str, ranker: Ranker) -> list[str]:
    """The items that the model knows: a shop's list has newer ones too, which are counted and
    named."""
    problems = Problems()
    known = ranker.item_ids
    problems.add(f"unknown items of {option}, left out", [i for i in ids if not known.get(i)])
    _tell(problems)
    return [i for i in ids if known.get(i)]


def _tell(problems: Problems) -> None:
    for problem in problems:
        print(f"mind: {problem}", file=sys.stderr)


def _lines(file: str, wanted: str = "") -> list[str]:
    path = Path(file)
    if not path.exists() or path.is_dir():  # a pipe will do: /dev/stdin, or a shell's <(…)
        raise ValueError(f"{absent('the file', file)}{wanted}")
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"'{file}' is no UTF-8 text") from error
    return text.split("\n")  # alone: ids may have other characters that end lines elsewhere
