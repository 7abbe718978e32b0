"""A trained model as a folder that needs no data set, no RecBole and no torch to recommend."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from recbole_llm.core.checkpoints.checkpoint import load_checkpoint
from recbole_llm.core.checkpoints.stored import NEVER_STORED, plain_config
from recbole_llm.core.checkpoints.tokens import characters
from recbole_llm.core.digest import file_digest
from recbole_llm.core.errors import needing, one_line
from recbole_llm.core.files import (
    OTHER_FOLDER,
    files_moved_together,
    remove_left_parts,
    writable_folder,
    write_json,
    write_whole,
    written_whole,
)
from recbole_llm.core.lines import counted, quoted, say_meanwhile
from recbole_llm.core.marks import Mark
from recbole_llm.core.plugins.loading import get_model
from recbole_llm.core.plugins.named import load_plugins
from recbole_llm.models.base import SequenceTraining
from recbole_llm.report import versions
from recbole_llm.tasks.onnx_encoder import (
    StandaloneModel,
    check_exportable,
    disagreement,
    onnx_encoder,
)
from recbole_llm.tasks.recommend import Recommender
from recbole_llm.tasks.standalone import FILES, FORMAT, Lists

_README_FILE = "README.md"
_CHECKED = 20  # histories on which the exported encoder must agree with torch


def export(
    checkpoint: str | Path,
    output: str | Path,
    histories: bool = True,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
) -> list[str]:
    """Write a trained model as a folder that `Recommender.load` reads.

    Args:
        checkpoint: of a model of this package: sequential, or AlphaRec.
        histories: whether users' interactions go with it, from which known users are scored.
        config_file_list, config_dict, argv: settings that beat the checkpoint's.

    Returns:
        lines that say what was written.

    Raises:
        ValueError: a model of another kind, a package that is missing, a folder that cannot be
            written, or an exported encoder that does not agree with the model.
    """
    folder = Path(output)
    with needing("export"):
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    remove_left_parts(folder)
    _check_free(folder)
    load_plugins(config_file_list, config_dict, argv)
    _check_class(checkpoint, config_dict or {})
    with writable_folder(folder, OTHER_FOLDER):  # before the work
        say_meanwhile(f"loading {checkpoint}")
        source = Recommender.of(checkpoint, config_file_list, config_dict, argv)
        model: Any = source.scorer.model.to("cpu")
        ordered = isinstance(model, SequenceTraining)
        longest = int(source.config["MAX_ITEM_LIST_LENGTH"]) if ordered else 0
        with torch.no_grad():
            encoder = onnx_encoder(model, longest)
        say_meanwhile(f"writing {folder}")
        replaced = _described(folder)
        with torch.no_grad(), files_moved_together(folder, FILES.settings, OTHER_FOLDER) as part:
            _write(part / FILES.encoder, encoder)
            _write_items(part, source, _vectors(model))
            _write_weights(part, model)
            if histories:
                _write_histories(part, source)
            _write_settings(part, folder.resolve().name, source, longest, ordered)
            users = source.known_ids(None)[:_CHECKED]
            example = [source.scorer.ordered_history(user) for user in users]
            worst = disagreement(part, model, example, longest)
    if not histories:
        (folder / FILES.users).unlink(missing_ok=True)  # another model's
    return list(_said(folder, source, worst, histories, replaced))


def _check_free(folder: Path) -> None:
    """Refuse the folder of something else, such as a project, whose own files would be lost, or of
    checkpoints, among which a model is hard to copy or remove."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    others = [name for name in names if not name.startswith(".")]
    if others and FILES.vectors not in names:
        raise ValueError(
            f"'{folder}' has a {others[0]} already, and holds no exported model; {OTHER_FOLDER}"
        )


def _described(folder: Path) -> str | None:
    """Which model is there."""
    file = folder / FILES.settings
    if not file.is_file():
        return None
    try:
        old = json.loads(file.read_bytes())
        return one_line(f"{old['model']}, trained on {old['dataset']}, of {old['exported']}")
    except (ValueError, KeyError, TypeError):
        return "what was there before"


def _check_class(checkpoint: str | Path, config_dict: Mapping[str, Any]) -> None:
    """Refuse a model that cannot be exported by its class, before data and decoders are loaded."""
    name = str(load_checkpoint(checkpoint)["config"].get("model"))
    given = config_dict.get("model")  # of a class that no plugin registers
    check_exportable(name, given if isinstance(given, type) else get_model(name))


def _said(
    folder: Path, source: Recommender, worst: float, histories: bool, replaced: str | None
) -> Iterator[str]:
    files = ", ".join(sorted(name for name in (_README_FILE, *FILES) if (folder / name).exists()))
    yield f"{source.name} with {counted(len(source.item_tokens) - 1, 'item')} in {folder}/: {files}"
    if replaced is not None:
        yield f"replaced {replaced}"
    yield f"checked: user states are those of the checkpoint up to {worst:.0e}"
    option, tokens = ("users", source.user_tokens) if histories else ("items", source.item_tokens)
    who = f"--{option}={quoted(str(tokens[1]))}"
    yield f"next     recbole-llm recommend {shlex.join([f'--model={folder}', who])}"


def _vectors(model: Any) -> Any:
    """Item vectors without the padding's, float32 [n - 1, D]."""
    own = isinstance(model, StandaloneModel)
    vectors = model.ranked_vectors() if own else model.item_vectors()
    return np.ascontiguousarray(vectors.detach().numpy()[1:], np.float32)


def _write_items(folder: Path, source: Recommender, vectors: Any) -> None:
    import faiss
    from safetensors.numpy import save

    tokens = [str(token) for token in source.item_tokens[1:]]
    fields = {name: list(column)[1:] for name, column in source.fields.items()}
    titles = [source.titles.get(token, "") for token in tokens] if source.titles else None
    content = {"tokens": tokens, "titles": titles, "fields": fields}
    _write(folder / FILES.items, json.dumps(content, ensure_ascii=False).encode("utf-8"))
    _write(folder / FILES.vectors, save({"vectors": vectors}))
    with written_whole(folder / FILES.arrays, OTHER_FOLDER) as file:
        np.savez(file, tokens=np.array(tokens, str), vectors=vectors)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    _write(folder / FILES.faiss, faiss.serialize_index(index).tobytes())


def _write_weights(folder: Path, model: nn.Module) -> None:
    from safetensors.torch import save

    state = {k: v.detach().clone().contiguous() for k, v in model.state_dict().items()}
    _write(folder / FILES.weights, save(state))


def _write_histories(folder: Path, source: Recommender) -> None:
    users, scorer = source.known_ids(None), source.scorer
    owns = [scorer.ordered_history(user) for user in users]
    others = [scorer.left_out(user) for user in users]
    tokens = characters([str(source.user_tokens[user]) for user in users])
    read, besides = Lists.of(owns), Lists.of(others)
    arrays = {"starts": read.starts, "items": read.items, **tokens}
    arrays |= {"other_starts": besides.starts, "other_items": besides.items}
    with written_whole(folder / FILES.users, OTHER_FOLDER) as file:
        np.savez(file, **arrays)


def _write_settings(
    part: Path, name: str, source: Recommender, longest: int, ordered: bool
) -> None:
    """Last, since it holds digests of the others."""
    config = plain_config(source.config, NEVER_STORED | Mark.NO_EFFECT_ON_RESULTS)
    content = {
        "format": FORMAT, "model": source.name, "dataset": config["dataset"],
        "longest_history": longest, "ordered": ordered, "settings": config,
        "exported": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "versions": versions(),
        "sha256": {file.name: file_digest(file) for file in sorted(part.iterdir())},
    }  # fmt: skip
    read = _IN_ORDER.format(longest) if ordered else _IN_ANY_ORDER
    readme = _README.format(**content, folder=name, files=FILES, read=read)
    _write(part / _README_FILE, readme.encode("utf-8"))
    write_json(part / FILES.settings, content, OTHER_FOLDER)


def _write(file: Path, content: bytes) -> None:
    write_whole(file, content, OTHER_FOLDER)


_README = """\
# {model}, trained on {dataset}

Exported on {exported} by RecBole-LLM. It recommends without a data set:

```
recbole-llm recommend --model={folder} --items=ID,ID
```

That needs RecBole-LLM with its `serving` extra, in a clone of it: `pip install -e ".[serving]"`;
docs/serving.md there says how to install it without RecBole and torch, which are not imported.

```python
from recbole_llm.tasks.standalone import Standalone

recommender = Standalone("{folder}")
recommender.recommend(items=["ID", "ID"], k=10)
```

The score of an item is the product of its vector and the state of the user's history.

| file | content |
| --- | --- |
| `{files.encoder}` | the user encoder, see below |
| `{files.vectors}` | `vectors` [n, D], a row an item in the order of `{files.items}` |
| `{files.arrays}` | the same with `tokens`, for NumPy |
| `{files.faiss}` | the same as a faiss index of inner products: `faiss.read_index` |
| `{files.items}` | ids, titles and fields of the items |
| `{files.users}` | users' histories, if they were exported |
| `{files.weights}` | all weights of the model |
| `{files.settings}` | settings, versions, and the SHA-256 of the other files |

The encoder takes `items`, int64 [B, L], of B users with L items each: places in the list of items,
counted from 1, {read} There is no padding: histories of another length are another batch. It gives
`state`, float32 [B, D].
"""
_IN_ORDER = "the oldest first. L is at most {}."
_IN_ANY_ORDER = "in any order, each once. L is any number from 1."
