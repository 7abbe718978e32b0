"""Requests in files: one id per line, or histories with one JSON object per line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from recbole_llm.core.errors import missing_file_error
from recbole_llm.core.problems import Problems
from recbole_llm.tasks.recommend.ranker import Ranker
from recbole_llm.tasks.recommend.request import Request


def read_ids(file: str, least: int = 1) -> list[str]:
    """Read ids, one per line.

    Raises:
        ValueError: no such file, or fewer than `least` ids in it.
    """
    lines = _read_lines(file, "; expected a file with one id per line")
    names = [name for line in lines if (name := line.strip(" \t"))]
    if len(names) < least:
        raise ValueError(f"'{file}' holds no ids; write one per line")
    return names


def read_histories(file: str) -> dict[str, list[str]]:
    """Read new users, one JSON object per line: ``{"user": "anna", "items": ["A1", "B2"]}``. Users
    without a name are named by the line number, and some users may have no items.

    Raises:
        ValueError: no such file, a line of another form, a user twice, or nobody with items.
    """
    histories: dict[str, list[str]] = {}
    for number, line in enumerate(_read_lines(file), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            items = [_parse_id(item) for item in list.copy(row["items"])]
            user = _parse_id(row.pop("user", number))
            if row.keys() != {"items"}:
                raise ValueError(f"unknown keys {sorted(row)}")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"'{file}' line {number} is not of the form "
                f'{{"user": "anna", "items": ["A1", "B2"]}}'
            ) from error
        if user in histories:
            raise ValueError(f"'{file}' line {number} has the user '{user}' again")
        histories[user] = items
    if not any(histories.values()):
        raise ValueError(f"'{file}' holds no histories")
    return histories


def _parse_id(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise TypeError(f"{value!r} is no id")
    return str(value).encode("utf-8").decode("utf-8")  # raises ValueError for half a character


def leave_out_unknown_items(request: Request, ranker: Ranker) -> Request:
    """Remove items from a request that the model does not know, and report them: lists from a shop
    also hold newer items.

    Raises:
        ValueError: the model knows no item of the histories.
    """
    problems = Problems()

    def keep_known(items: Iterable[str], source: str) -> list[str]:
        unknown = [item for item in items if not ranker.item_ids.get(item)]  # 0 is the padding
        problems.add(f"unknown items of {source}, left out", unknown)
        return [item for item in items if ranker.item_ids.get(item)]

    histories, candidates, exclude = request.histories, request.candidates, request.exclude
    if histories is not None:
        kept = {}
        for user, items in histories.items():
            if known := keep_known(items, "histories"):
                kept[user] = known
            else:
                problems.add("users without a known item, left out", [user])
        if not kept:  # `ids` names the unknown ones, with near matches
            ranker.ids("item", next(filter(None, histories.values())))
        histories = kept
    if candidates is not None:  # where none is known, the ranker says so
        candidates = keep_known(candidates, "candidates") or candidates
    if exclude is not None:
        exclude = keep_known(exclude, "exclude")
    for problem in problems:
        print(f"mind: {problem}", file=sys.stderr)
    return replace(request, histories=histories, candidates=candidates, exclude=exclude)


def _read_lines(file: str, wanted: str = "") -> list[str]:
    path = Path(file)
    if file != "-" and (not path.exists() or path.is_dir()):  # a pipe will do: a shell's <(…)
        raise ValueError(f"{missing_file_error('the file', file)}{wanted}")
    if file == "-" and sys.stdin is None:  # a shell's <&-
        raise ValueError("the standard input is closed")
    try:
        content = sys.stdin.buffer.read() if file == "-" else path.read_bytes()
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"'{file}' is no UTF-8 text") from error
    return text.split("\n")  # no splitlines: ids may hold other line separators
