"""The roles of a table's columns: given by the user, or guessed from their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from recbole_llm.core.errors import near_hint
from recbole_llm.tasks.convert.sources import Source

# In lower case and without punctuation; the first name that a table has is taken.
KNOWN = {
    "user": ("userid", "user", "customerid", "customer", "reviewerid", "uid", "visitorid",
             "clientid", "client", "buyerid", "memberid", "accountid", "sessionid"),
    "item": ("itemid", "item", "parentasin", "asin", "productid", "product", "sku", "movieid",
             "articleid", "trackid", "bookid", "songid", "iid"),
    "time": ("timestamp", "datetime", "date", "unixreviewtime", "createdat", "createdon",
             "orderdate", "ordertime", "orderedat", "orderedon", "eventtime", "purchasedate",
             "purchasedat", "boughtat", "visitedat", "ts", "time"),
    "rating": ("rating", "overall", "stars", "ratings"), "label": ("label",), "keep": (),
}  # fmt: skip
OPTIONAL = ("rating", "time", "label")
NONE = "none"  # a value for these roles: no column is to be guessed


def normalize_name(name: str) -> str:
    """A column's name in lower case, without punctuation and without RecBole's type."""
    return re.sub(r"[^a-z0-9]", "", name.partition(":")[0].lower())


def find_column(role: str, given: str | None, columns: Sequence[str], source: Source) -> str | None:
    """Find a role's column: the given one, else one with a known name; None for `NONE`.

    Raises:
        ValueError: the table lacks the given column.
    """
    if given == NONE and role in OPTIONAL and NONE not in columns:
        return None
    if given is not None:
        return check_column(role, given, columns, source)
    by_name = {normalize_name(column): column for column in reversed(columns)}
    return next((by_name[name] for name in KNOWN[role] if name in by_name), None)


def check_column(option: str, name: str, columns: Sequence[str], source: Source) -> str:
    """Refuse a column that an option names but the table lacks; returns the name.

    Raises:
        ValueError: the table has no such column.
    """
    if name in columns:
        return name
    near = near_hint(name, columns)
    raise ValueError(
        f"{source.option(option)}: '{source}' has no column '{name}'; {near}its "
        f"columns are {', '.join(columns)}"
    )


def check_roles(roles: Mapping[str, str | None], columns: Sequence[str], source: Source) -> None:
    """Refuse a table without a column of users or items, and name every role without a column.

    Args:
        roles: {role: the given column}.
    """
    lacking = [
        role for role, given in roles.items() if not find_column(role, given, columns, source)
    ]
    if set(lacking) <= set(OPTIONAL):
        return
    lacking = [role for role in lacking if roles[role] != NONE]
    options = ", ".join(source.option(role, "…") for role in lacking)
    optional = " (which may be left out)" if "time" in lacking else ""
    raise ValueError(
        f"'{source}' has no column whose name is known for the {' or the '.join(lacking)}"
        f"{optional}; name {'it' if len(lacking) == 1 else 'them'} with {options}: its columns are "
        f"{', '.join(columns)}"
    )
