"""The files of an exported model."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from recbole_llm.core.checkpoints.stored import NEVER_STORED, plain_config
from recbole_llm.core.checkpoints.tokens import encode_names
from recbole_llm.core.digest import file_digest
from recbole_llm.core.files import OTHER_FOLDER, write_json, write_whole, written_whole
from recbole_llm.core.marks import Mark
from recbole_llm.report import versions
from recbole_llm.tasks.export.onnx_encoder import StandaloneModel
from recbole_llm.tasks.recommend.recommender import Recommender
from recbole_llm.tasks.recommend.standalone import FILES, FORMAT, ItemLists

README_FILE = "README.md"


def get_ranked_vectors(model: Any) -> Any:
    """Item vectors without the padding row, float32 [n - 1, D]."""
    is_standalone = isinstance(model, StandaloneModel)
    vectors = model.ranked_vectors() if is_standalone else model.item_vectors()
    return np.ascontiguousarray(vectors.detach().numpy()[1:], np.float32)


def write_items(folder: Path, source: Recommender, vectors: Any) -> None:
    import faiss
    from safetensors.numpy import save

    tokens = [str(token) for token in source.item_tokens[1:]]
    fields = {name: list(column)[1:] for name, column in source.fields.items()}
    titles = [source.titles.get(token, "") for token in tokens] if source.titles else None
    content = {"tokens": tokens, "titles": titles, "fields": fields}
    write_file(folder / FILES.items, json.dumps(content, ensure_ascii=False).encode("utf-8"))
    write_file(folder / FILES.vectors, save({"vectors": vectors}))
    with written_whole(folder / FILES.arrays, OTHER_FOLDER) as file:
        np.savez(file, tokens=np.array(tokens, str), vectors=vectors)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    write_file(folder / FILES.faiss, faiss.serialize_index(index).tobytes())


def write_weights(folder: Path, model: nn.Module) -> None:
    from safetensors.torch import save

    state = {k: v.detach().clone().contiguous() for k, v in model.state_dict().items()}
    write_file(folder / FILES.weights, save(state))


def write_histories(folder: Path, source: Recommender) -> None:
    users, scorer = source.find_users(None), source.scorer
    histories = ItemLists.concatenate([scorer.ordered_history(user) for user in users])
    others = ItemLists.concatenate([scorer.filtered_out_items(user) for user in users])
    tokens = encode_names([str(source.user_tokens[user]) for user in users])
    arrays = {"starts": histories.starts, "items": histories.items, **tokens}
    arrays |= {"other_starts": others.starts, "other_items": others.items}
    with written_whole(folder / FILES.users, OTHER_FOLDER) as file:
        np.savez(file, **arrays)


def write_settings(part: Path, name: str, source: Recommender, longest: int, ordered: bool) -> None:
    """Write settings and README, after all other files, whose digests the settings hold."""
    config = plain_config(source.config, NEVER_STORED | Mark.NO_EFFECT_ON_RESULTS)
    content = {
        "format": FORMAT, "model": source.name, "dataset": config["dataset"],
        "longest_history": longest, "ordered": ordered, "settings": config,
        "exported": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "versions": versions(),
        "sha256": {file.name: file_digest(file) for file in sorted(part.iterdir())},
    }  # fmt: skip
    order = _IN_ORDER.format(longest) if ordered else _IN_ANY_ORDER
    readme = _README.format(**content, folder=name, files=FILES, order=order)
    write_file(part / README_FILE, readme.encode("utf-8"))
    write_json(part / FILES.settings, content, OTHER_FOLDER)


def write_file(file: Path, content: bytes) -> None:
    write_whole(file, content, OTHER_FOLDER)


_README = """\
# {model}, trained on {dataset}

Exported on {exported} by RecBole-LLM. It recommends without a data set:

```
recbole-llm recommend --model={folder} --items=ID,ID
```

This needs RecBole-LLM with its `serving` extra: `pip install -e ".[serving]"` in a clone of it, in
which docs/serving.md says how to install it without RecBole and torch, which are not imported.

```python
from recbole_llm.tasks.recommend import Standalone

recommender = Standalone("{folder}")
recommender.recommend(items=["ID", "ID"], k=10)
```

The score of an item is the product of its vector and the state of the user's history.

| file | content |
| --- | --- |
| `{files.encoder}` | the user encoder, see below |
| `{files.vectors}` | `vectors` [n, D], one row per item, in the order of `{files.items}` |
| `{files.arrays}` | the same with `tokens`, for NumPy |
| `{files.faiss}` | the same as a faiss index of inner products: `faiss.read_index` |
| `{files.items}` | ids, titles and fields of the items |
| `{files.users}` | users' histories, if they were exported |
| `{files.weights}` | all weights of the model |
| `{files.settings}` | settings, versions, and the SHA-256 of the other files |

The encoder takes `items`, int64 [B, L], of B users with L items each: positions in the list of
items, counted from 1, {order} There is no padding: all histories of a batch have the same length.
The output is `state`, float32 [B, D].
"""
_IN_ORDER = "the oldest first. L is at most {}."
_IN_ANY_ORDER = "in any order, each once. L is any number from 1."
