"""The examples that a model keeps, with their texts."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from recbole.config import Config
from recbole.data.dataset import Dataset
from torch import Tensor, nn

from recbole_llm.features.attach import features_of, item_embeddings
from recbole_llm.features.tables.table import Matrix
from recbole_llm.layers.embedding import FrozenEmbedding
from recbole_llm.models.llmcf.examples import Examples, training_examples
from recbole_llm.models.llmcf.settings import ThoughtSettings

NONE = -1  # row that stands for a missing example


class ExampleColumns(NamedTuple):
    """E examples; the columns have these names in a checkpoint, too."""

    users: Tensor  # int [E]
    histories: Tensor  # int [E, L]
    items: Tensor  # int [E]
    labels: Tensor  # int [E], ones first
    thoughts: Tensor  # [E, D]

    @classmethod
    def of(cls, examples: Examples, thoughts: Matrix) -> ExampleColumns:
        """The columns of drawn examples and of the vectors of their thoughts."""
        arrays = (examples.users, examples.histories, examples.items, examples.labels, thoughts)
        return cls(*map(torch.from_numpy, arrays))


class ExampleStore(nn.Module):
    """E examples, with the text vectors of all items.

    A checkpoint holds the examples and the vectors of their chains of thought. A trained model
    therefore keeps them, even if training interactions and texts change. With a data set whose ids
    come from a checkpoint, the store is empty until the checkpoint is loaded.

    Args:
        dataset: the training split.
    """

    users: Tensor
    histories: Tensor
    items: Tensor
    labels: Tensor
    thoughts: Tensor
    lengths: Tensor  # int [E], of the histories
    history_text: Tensor  # [E, D], mean text vectors of the histories

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__()
        items = item_embeddings(config, dataset)
        self.text = FrozenEmbedding(items.matrix, items.fingerprint)
        self.n_users = dataset.user_num
        loaded_later = bool(getattr(dataset, "vocabulary", None))
        columns = _no_examples(items.matrix) if loaded_later else _draw_examples(config, dataset)
        for name, column in columns._asdict().items():
            self.register_buffer(name, column)
        self._derive()

    @property
    def columns(self) -> ExampleColumns:
        """The examples."""
        return ExampleColumns(*(getattr(self, name) for name in ExampleColumns._fields))

    def _derive(self) -> None:
        """Compute what follows from the examples."""
        self.register_buffer("lengths", (self.histories != 0).sum(1), persistent=False)
        self.register_buffer("history_text", self.mean_text(self.histories), persistent=False)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Torch's method, for as many examples as the state has.

        Raises:
            ValueError: examples of unknown users, items or labels, or columns of unequal lengths.
        """
        for name, column in self.columns._asdict().items():
            loaded = state_dict.get(prefix + name)
            if isinstance(loaded, Tensor):
                setattr(self, name, column.new_empty(loaded.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._check()
        self._derive()

    def _check(self) -> None:
        """Check the columns, since anybody may have written a checkpoint."""
        columns, count, n_items = self.columns, len(self.users), len(self.text.weight)
        _check_column("users", columns.users, (count,), self.n_users)
        _check_column("items", columns.items, (count,), n_items)
        _check_column("labels", columns.labels, (count,), 2)
        _check_column("thoughts", columns.thoughts, (count, self.text.dimension))
        width = columns.histories.shape[1:2]
        _check_column("histories", columns.histories, (count, *width), n_items)

    def mean_text(self, item_seq: Tensor) -> Tensor:
        """Mean text vector of the real items: int [*, L] -> [*, D]."""
        flat = item_seq.reshape(-1, item_seq.shape[-1])
        total = F.embedding_bag(flat, self.text.weight, mode="sum")  # the padding's row is zero
        mean = total / (flat != 0).sum(1, keepdim=True).clamp(min=1)
        return mean.view(*item_seq.shape[:-1], self.text.dimension)


def _check_column(
    name: str, column: Tensor, shape: tuple[int, ...], limit: int | None = None
) -> None:
    """Raise ValueError for another shape, and for ids that are not below the limit."""
    known = limit is None or bool(((column >= 0) & (column < limit)).all())
    if column.shape != shape or not known:
        raise ValueError(
            f"the checkpoint's examples are damaged: memory.{name} does not fit "
            f"this model; train again, or choose another file"
        )


def _no_examples(vectors: Matrix) -> ExampleColumns:
    """Return columns without rows, for item vectors [n, D]."""
    ids = torch.zeros(0, dtype=torch.int64)
    return ExampleColumns(ids, ids[:, None], ids, ids, torch.from_numpy(vectors[:0]))


def _draw_examples(config: Config, dataset: Dataset) -> ExampleColumns:
    """Draw training examples, with the vectors of their chains of thought or of the texts that
    replace them. Examples whose text is empty are left out."""
    examples = training_examples(config, dataset)
    if ThoughtSettings.of(config).thoughts != "llm":
        return ExampleColumns.of(examples, item_embeddings(config, dataset).matrix[examples.items])
    table = features_of(dataset, config)["example_text"]
    row_of = {name: row for row, name in enumerate(table.tokens)}
    kept = [i for i, name in enumerate(examples.names) if name in row_of]
    if not kept:
        raise ValueError(
            "thoughts: the language model wrote nothing about any example; choose another "
            "generator_model, or set thoughts: item_text"
        )
    examples = examples.select(kept)
    return ExampleColumns.of(examples, table.matrix[[row_of[name] for name in examples.names]])
