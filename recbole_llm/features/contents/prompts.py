"""Texts of items and users, rendered from their fields, that an encoder reads.

Items are described by the data set's ``.item`` file, users by the items of their *training*
history. A plugin's hook ``item_texts`` or ``user_texts`` replaces these texts.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from keyword import iskeyword
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole.data.dataset import Dataset

from recbole_llm.core.config import Config
from recbole_llm.core.errors import near_hint
from recbole_llm.core.lines import bar, plural, shows_progress
from recbole_llm.data.reading.files import Table, file_format
from recbole_llm.data.rows.training import training_histories
from recbole_llm.features.contents.lengths import TokenLimit, shorten_to_limit
from recbole_llm.features.contents.plugin_texts import ask_plugins, check_tokens
from recbole_llm.features.contents.templates import PromptError
from recbole_llm.features.contents.titles import find_title_field
from recbole_llm.features.settings import PromptSettings

Texts = dict[str, str]  # token -> text
Rows = dict[str, dict[str, str]]  # token -> {field: text}
_BAR_FROM = 20_000  # texts; fewer take too little time for a progress bar


def item_texts(config: Config, dataset: Dataset, tokens: Sequence[str] | None = None) -> Texts:
    """A text for each item of the data set that has one.

    Args:
        tokens: the items; None: all that have an id.

    Returns:
        {item token: text}; items without a row or with an empty text are left out.

    Raises:
        ValueError: no ``.item`` file, no text fields in it, a template that does not fit it.
    """
    all_items = tokens is None
    tokens = _known_tokens(dataset, dataset.iid_field) if tokens is None else tokens
    plugin_texts = ask_plugins("item_texts", config, dataset)
    if plugin_texts is not None:
        if all_items:  # new items may have no text
            check_tokens("item_texts", plugin_texts, tokens)
        return _select_texts(plugin_texts, tokens)
    file = item_file(config, dataset)
    rows = file.rows_by_id(dataset.iid_field)
    if all_items:
        _report_new_items(len(rows.keys() - {*tokens, *getattr(dataset, "filtered_items", ())}))
    template = PromptSettings.of(config).item_template(config["dataset"])
    labels = {f: _label(f, file.types) for f in descriptive_fields(config, file, dataset.iid_field)}
    if "fields" in template.variables() and not labels:
        raise PromptError(
            f"'{file.path}' has no text field (token or token_seq) besides the id; it has "
            f"{file.describe_fields()}; add a title, set item_prompt, or give vectors with "
            f"encoder: precomputed"
        )
    template.check({*file.types, "fields", "item"})
    texts = {}
    for token in _progress_bar(config, [t for t in tokens if t in rows], "Item prompts"):
        row = rows[token]
        fields = {label: row[field] for field, label in labels.items() if row[field]}
        texts[token] = template.render({**row, "item": row, "fields": fields})
    return {token: content for token, content in texts.items() if content}


def descriptive_fields(config: Config, file: Table, id_field: str) -> list[str]:
    """Fields that describe an item in words, without its id and the path of its picture."""
    return file.text_fields(without=(id_field, config["item_image_field"]))


def _label(field: str, fields: Container[str]) -> str:
    """A field's name in words, without the ``_`` that `convert` appends to a Python keyword."""
    word = field.removesuffix("_")
    return (word if iskeyword(word) and word not in fields else field).replace("_", " ")


def user_texts(config: Config, train_dataset: Dataset, limit: TokenLimit | None = None) -> Texts:
    """Texts by token of the users with training interactions, made from these interactions only. A
    text over the limit loses the user's oldest items.

    Raises:
        ValueError: the data set is not split yet, no titles, a template that does not fit.
    """
    tokens = _known_tokens(train_dataset, train_dataset.uid_field)
    plugin_texts = ask_plugins("user_texts", config, train_dataset)
    if plugin_texts is not None:
        check_tokens("user_texts", plugin_texts, tokens)
        return _select_texts(plugin_texts, tokens)
    template = PromptSettings.of(config).user_template(config["dataset"])
    rows, titles = _rows_and_titles(config, train_dataset)
    users = _read_rows(config, train_dataset, "user", train_dataset.uid_field)
    item_tokens = train_dataset.field2id_token[train_dataset.iid_field]
    user_tokens = train_dataset.field2id_token[train_dataset.uid_field]
    longest = PromptSettings.of(config).user_prompt_max_items
    histories = {
        str(user_tokens[user]): [str(item_tokens[i]) for i in items[-longest:]]
        for user, items in training_histories(train_dataset)
    }

    def render(user: str, count: int) -> str:
        history = histories[user][-count:]
        return template.render(
            {
                "titles": [titles[t] for t in history if titles.get(t)],
                "items": [rows[t] for t in history if t in rows],
                "user": users.get(user, {}),
            }
        )

    lengths = {user: len(items) for user, items in histories.items()}
    told = _progress_bar(config, list(lengths.items()), "User prompts")
    texts = {user: render(user, count) for user, count in told}
    if limit is not None:
        texts.update(shorten_to_limit(render, texts, lengths, limit))
    return {token: content for token, content in texts.items() if content}


def item_titles(config: Config, dataset: Dataset) -> Texts:
    """Titles of items: the texts of a plugin's ``item_texts``, else those in the ``.item`` file.

    Returns:
        {item token: title}, from the field that `item_title_field` names or stands for.

    Raises:
        ValueError: no ``.item`` file, or no text field in it.
    """
    return _rows_and_titles(config, dataset)[1]


def titles_if_any(config: Config, dataset: Dataset) -> Texts:
    """`item_titles`, or {} if the data set has no titles; ValueError if it has none although
    `item_title_field` is set."""
    try:
        return item_titles(config, dataset)
    except PromptError:
        if PromptSettings.of(config).item_title_field is not None:
            raise
        return {}


def item_file(config: Config, dataset: Dataset) -> Table:
    """The data set's ``.item`` file; ValueError if there is none."""
    return _read_atomic(config, dataset, "item")


def item_rows(config: Config, dataset: Dataset) -> Rows:
    """The rows of the ``.item`` file by item token; {} if there is no such file."""
    return _read_rows(config, dataset, "item", dataset.iid_field)


def _rows_and_titles(config: Config, dataset: Dataset) -> tuple[Rows, Texts]:
    """Rows and titles by item token; texts of a plugin's `item_texts` are titles without rows."""
    plugin_texts = ask_plugins("item_texts", config, dataset)
    if plugin_texts is not None:
        return {}, plugin_texts
    file = item_file(config, dataset)
    field = _title_field(config, file, dataset.iid_field)
    rows = file.rows_by_id(dataset.iid_field)
    return rows, {token: row[field] for token, row in rows.items()}


def _title_field(config: Config, file: Table, id_field: str) -> str:
    chosen = PromptSettings.of(config).item_title_field
    if chosen is not None and chosen not in file.types:
        raise PromptError(
            f"item_title_field: '{file.path}' has no field '{chosen}'; "
            f"{near_hint(chosen, file.types)}it has {file.describe_fields()}"
        )
    found = chosen or find_title_field(descriptive_fields(config, file, id_field))
    if found is None:
        raise PromptError(
            f"'{file.path}' has no text field to name items by; it has {file.describe_fields()}; "
            f"add a title"
        )
    return found


def _atomic_path(dataset: Dataset, suffix: str) -> Path:
    return Path(dataset.dataset_path) / f"{dataset.dataset_name}.{suffix}"


def _read_rows(config: Config, dataset: Dataset, suffix: str, field: str) -> Rows:
    exists = _atomic_path(dataset, suffix).is_file()
    return _read_atomic(config, dataset, suffix).rows_by_id(field) if exists else {}


def _read_atomic(config: Config, dataset: Dataset, suffix: str) -> Table:
    """Read an atomic file; in token sequences, a separator other than a space becomes ``", "``."""
    path = _atomic_path(dataset, suffix)
    if not path.is_file():
        raise PromptError(
            f"dataset '{dataset.dataset_name}' has no file '{path}' to make texts from; write one "
            f"with a title field (recbole-llm convert --items=FILE does), or give vectors: "
            f"--encoder=precomputed --embedding_path=FILE"
        )
    table = Table.read(path, *file_format(config))
    if (sign := config["seq_separator"] or " ") != " ":
        for field in (field for field, kind in table.types.items() if kind == "token_seq"):
            table.columns[field][:] = [text.replace(sign, ", ") for text in table.columns[field]]
    return table


def _known_tokens(dataset: Dataset, field: str) -> list[str]:
    """All tokens of an id field except RecBole's padding."""
    return [str(token) for token in dataset.field2id_token[field][1:]]


def _report_new_items(count: int) -> None:
    if count:
        getLogger("recbole_llm").info(
            f"{plural(count, 'more item')} without interactions in the item file: models that know "
            f"items by text recommend new items (recommend_new_items), training and evaluation "
            f"leave them out (item_catalogue)"
        )


def _select_texts(texts: Mapping[str, str], tokens: Sequence[str]) -> Texts:
    return {t: str(texts[t]) for t in tokens if texts.get(t)}


def _progress_bar(config: Config, things: Sequence[Any], title: str) -> Any:
    shown = shows_progress(config) and len(things) >= _BAR_FROM
    return bar(things, desc=title, shown=shown)
