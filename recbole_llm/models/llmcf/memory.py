"""The examples of a model: their texts, and the search among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from recbole.config import Config
from recbole.data.dataset import Dataset
from torch import Tensor, nn

from recbole_llm.features.attach import features_of, item_embeddings
from recbole_llm.layers.embedding import FrozenEmbedding
from recbole_llm.models.llmcf.context import InContext
from recbole_llm.models.llmcf.examples import Examples, training_examples
from recbole_llm.models.llmcf.settings import ContextSettings, ThoughtSettings

_STORED = (*Examples._fields[1:], "thoughts")  # in a checkpoint
NONE = -1  # in place of an example that there is none of
FLOATS = 2**24  # similarities, or numbers of texts, at once in a search
# Of a 31-bit mix of a query's ids and an example's number (ablation `retrieval: random`).
_MIX = (73_856_093, 19_349_663, 83_492_791)


class Memory(nn.Module):
    """E examples with their texts, which a query's context is made of.

    An example goes to a query of the same user only if it is earlier: not the query's own
    interaction, not a later one. Since lengths of histories stop at MAX_ITEM_LIST_LENGTH, some
    earlier examples of long histories do not go there either.

    A checkpoint holds the examples and the vectors of what was written about them. So a trained
    model keeps them whatever became of the training interactions and of the texts, and a data set
    that is numbered by a checkpoint has none until the checkpoint is loaded.

    Args:
        dataset: the training split.
        both_labels: whether half of a context has label 1 and half 0, and the target's text counts
            (clicks); else all examples are alike, and histories alone count (retrieval).
    """

    users: Tensor  # int [E]
    histories: Tensor  # int [E, L]
    items: Tensor  # int [E]
    labels: Tensor  # int [E], ones first
    thoughts: Tensor  # [E, D]
    lengths: Tensor  # int [E]
    history_text: Tensor  # [E, D]

    def __init__(self, config: Config, dataset: Dataset, both_labels: bool) -> None:
        super().__init__()
        own = ContextSettings.of(config)
        self.random = own.retrieval == "random"
        self.n_examples, self.both_labels = own.n_examples, both_labels
        items = item_embeddings(config, dataset)
        self.text = FrozenEmbedding(items.matrix, items.fingerprint)
        self._limits = {"users": dataset.user_num, "histories": len(items.matrix)}
        self._limits |= {"items": len(items.matrix), "labels": 2}
        loaded_later = bool(getattr(dataset, "vocabulary", None))
        parts = _none(items.matrix) if loaded_later else _with_thoughts(config, dataset)
        for name, array in zip(_STORED, parts, strict=True):
            self.register_buffer(name, torch.from_numpy(array))
        self._derive()

    def _derive(self) -> None:
        """Compute what follows from the examples."""
        self.register_buffer("lengths", (self.histories != 0).sum(1), persistent=False)
        self.register_buffer("history_text", self.mean_text(self.histories), persistent=False)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """As torch's, for as many examples as the state has.

        Raises:
            ValueError: examples of users, items or labels that are none.
        """
        for name in _STORED:
            given = state_dict.get(prefix + name)
            if isinstance(given, Tensor):
                setattr(self, name, getattr(self, name).new_empty(given.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._check()
        self._derive()

    def _check(self) -> None:
        """A checkpoint is a file that anybody may have written."""
        count, width = len(self.users), self.text.dimension
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("users", "items", "labels"), (count,))
        shapes |= {"thoughts": (count, width), "histories": (count, *self.histories.shape[1:2])}
        for name, shape in shapes.items():
            own: Tensor = getattr(self, name)
            limit = self._limits.get(name)
            known = limit is None or bool(((own >= 0) & (own < limit)).all())
            if own.shape != shape or not known:
                raise ValueError(
                    f"the checkpoint's examples are damaged: memory.{name} holds what is none of "
                    f"this model's; train again, or choose another file"
                )

    def mean_text(self, item_seq: Tensor) -> Tensor:
        """Mean text vector of the real items: int [*, L] -> [*, D]."""
        flat = item_seq.reshape(-1, item_seq.shape[-1])
        total = F.embedding_bag(flat, self.text.weight, mode="sum")  # the padding's row is zero
        mean = total / (flat != 0).sum(1, keepdim=True).clamp(min=1)
        return mean.view(*item_seq.shape[:-1], self.text.dimension)

    def search(
        self, users: Tensor, lengths: Tensor, history_text: Tensor, items: Tensor | None = None
    ) -> Tensor:
        """The contexts of queries, nearest examples first, exactly.

        Similarity is 1/2 <mean history texts> + 1/2 <target texts>, or the first alone.

        Args:
            users: int [*]; 0 for new ones.
            lengths: of their histories, int [*].
            history_text: mean texts of these, [*, D].
            items: the targets, int [*]; None: there is none. Leading dimensions broadcast.

        Returns:
            Rows of the examples, int [*, K]; -1 where there are too few.
        """
        if items is not None:  # the caller bounds the number of pairs
            return self._found(users, lengths, history_text, items)
        rows = max(FLOATS // max(len(self.users), 1), 1)
        owners, counts, texts = (torch.split(x, rows) for x in (users, lengths, history_text))
        blocks = zip(owners, counts, texts, strict=True)
        return torch.cat([self._found(*block, None) for block in blocks])

    def _found(
        self, users: Tensor, lengths: Tensor, history_text: Tensor, items: Tensor | None
    ) -> Tensor:
        """As of `search`, at once."""
        excluded = (users[..., None] == self.users) & (self.lengths >= lengths[..., None])
        if self.random:
            scores = self._mixed(users, lengths, items)
        else:
            scores = self._similarities(history_text, items)
        scores = scores.masked_fill(excluded, -torch.inf)
        if not self.both_labels:
            return _nearest(scores, self.n_examples, 0)
        few = self.n_examples // 2
        ones = int(self.labels.sum())
        parts = [_nearest(scores[..., :ones], self.n_examples - few, 0)]
        parts.append(_nearest(scores[..., ones:], few, ones))
        return torch.cat(parts, dim=-1)

    def _similarities(self, history_text: Tensor, items: Tensor | None) -> Tensor:
        """Similarities to the examples, without the common factor 1/2, [*, E]."""
        # In half precision near similarities tie, and training would see other examples.
        with torch.autocast(history_text.device.type, enabled=False):
            found = history_text @ self.history_text.t()
            return found if items is None else found + self.text(items) @ self.text(self.items).t()

    def _mixed(self, users: Tensor, lengths: Tensor, items: Tensor | None) -> Tensor:
        """Numbers that look random and are the same each time, float [*, E]."""
        query = users * _MIX[0] + lengths * _MIX[1] + (0 if items is None else items * _MIX[2])
        numbers = query[..., None] ^ (torch.arange(1, len(self.users) + 1) * _MIX[1]).to(query)
        for _ in range(2):
            numbers = ((numbers ^ (numbers >> 15)) * _MIX[2]) & 0x7FFFFFFF
        return numbers.float()

    def context(
        self,
        network: InContext,
        query: Tensor,
        chosen: Tensor,
        behaviours: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> Tensor:
        """The feature w of queries; each distinct example is encoded once.

        Args:
            query: behaviour tokens of the queries, [N, H].
            chosen: their examples, int [N, K].
            behaviours: tokens of users [U], histories [U, L] and items [U] -> [U, H].

        Returns:
            [N, H].
        """
        there = chosen != NONE
        rows, which = torch.unique(chosen[there], return_inverse=True)
        index = torch.full_like(chosen, NONE).masked_scatter(there, which)
        if not len(rows):  # backbones cannot read zero rows; no query attends to this one
            rows = chosen.new_zeros(1)
        made = behaviours(self.users[rows], self.histories[rows], self.items[rows])
        return network(query, made, self.thoughts[rows], self.labels[rows], index)


def _nearest(scores: Tensor, count: int, offset: int) -> Tensor:
    """Columns of the highest scores, moved by `offset`: [*, E'] -> int [*, count]."""
    best, rows = scores.topk(min(count, scores.shape[-1]), dim=-1)
    rows = torch.where(best > -torch.inf, rows + offset, NONE)
    return F.pad(rows, (0, count - rows.shape[-1]), value=NONE)


def _none(vectors: Any) -> list[Any]:
    """No example, where the vectors of items are [n, D]."""
    ids = np.zeros(0, np.int64)
    return [ids, ids[:, None], ids, ids, vectors[:0]]


def _with_thoughts(config: Config, dataset: Dataset) -> list[Any]:
    """Examples, and vectors in the place of their chains of thought [E, D]: `_STORED`.

    Examples whose text is empty are left out.
    """
    examples = training_examples(config, dataset)
    if ThoughtSettings.of(config).thoughts != "llm":
        return [*examples[1:], item_embeddings(config, dataset).matrix[examples.items]]
    table = features_of(dataset, config)["example_text"]
    row_of = {name: row for row, name in enumerate(table.tokens)}
    kept = [i for i, name in enumerate(examples.names) if name in row_of]
    if not kept:
        raise ValueError(
            "thoughts: the language model wrote nothing about any example; choose another "
            "generator_model, or set thoughts: item_text"
        )
    examples = examples.of(kept)
    return [*examples[1:], table.matrix[[row_of[name] for name in examples.names]]]
