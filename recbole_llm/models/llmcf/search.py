"""The search for the examples of a query."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_llm.models.llmcf.memory import NONE, ExampleStore
from recbole_llm.models.llmcf.settings import ContextSettings

FLOATS = 2**24  # similarities, or entries of text vectors, at once in a search
# Factors of a 31-bit mix of a query's ids and an example's row (ablation `retrieval: random`).
_MIX = (73_856_093, 19_349_663, 83_492_791)


class ExampleSearch:
    """Finds the examples nearest to a query, which are its context, by exact search.

    Similarity is 1/2 <mean history texts> + 1/2 <target texts>, or the first alone. A query
    gets an example of its own user only if the example is earlier: not the query's own interaction,
    and no later one. Since history lengths are cut at MAX_ITEM_LIST_LENGTH, some earlier examples
    of long histories are left out, too.

    Args:
        store: the examples.
        both_labels: whether half of a context has label 1 and half 0, and the target's text counts
            (clicks); otherwise labels do not matter, and histories alone count (retrieval).
    """

    def __init__(self, store: ExampleStore, settings: ContextSettings, both_labels: bool) -> None:
        self.store, self.both_labels = store, both_labels
        self.n_examples, self.random = settings.n_examples, settings.retrieval == "random"

    def find(
        self, users: Tensor, lengths: Tensor, history_text: Tensor, items: Tensor | None = None
    ) -> Tensor:
        """Find the contexts of queries, nearest examples first.

        Args:
            users: int [*]; 0 for new users.
            lengths: of their histories, int [*].
            history_text: mean text vectors of the histories, [*, D].
            items: the targets, int [*]; None: no targets. Leading dimensions broadcast.

        Returns:
            Rows of the examples, int [*, K]; -1 where there are too few.
        """
        if items is not None:  # the caller bounds the number of pairs
            return self._find_at_once(users, lengths, history_text, items)
        size = max(FLOATS // max(len(self.store.users), 1), 1)
        columns = (torch.split(x, size) for x in (users, lengths, history_text))
        blocks = zip(*columns, strict=True)
        return torch.cat([self._find_at_once(u, n, text, None) for u, n, text in blocks])

    def _find_at_once(
        self, users: Tensor, lengths: Tensor, history_text: Tensor, items: Tensor | None
    ) -> Tensor:
        """The same as `find`, with all similarities in memory."""
        store = self.store
        excluded = (users[..., None] == store.users) & (store.lengths >= lengths[..., None])
        if self.random:
            scores = self._random_scores(users, lengths, items)
        else:
            scores = self._similarities(history_text, items)
        scores = scores.masked_fill(excluded, -torch.inf)
        if not self.both_labels:
            return _nearest(scores, self.n_examples, 0)
        n_zeros, first_zero = self.n_examples // 2, int(store.labels.sum())
        ones = _nearest(scores[..., :first_zero], self.n_examples - n_zeros, 0)
        zeros = _nearest(scores[..., first_zero:], n_zeros, first_zero)
        return torch.cat([ones, zeros], dim=-1)

    def _similarities(self, history_text: Tensor, items: Tensor | None) -> Tensor:
        """Similarities to the examples, without the common factor 1/2, [*, E]."""
        text, store = self.store.text, self.store
        # In half precision close similarities would tie, and training would see other examples.
        with torch.autocast(history_text.device.type, enabled=False):
            scores = history_text @ store.history_text.t()
            return scores if items is None else scores + text(items) @ text(store.items).t()

    def _random_scores(self, users: Tensor, lengths: Tensor, items: Tensor | None) -> Tensor:
        """Return pseudo-random scores that are the same each time, float [*, E]."""
        query = users * _MIX[0] + lengths * _MIX[1] + (0 if items is None else items * _MIX[2])
        rows = torch.arange(1, len(self.store.users) + 1)
        numbers = query[..., None] ^ (rows * _MIX[1]).to(query)
        for _ in range(2):
            numbers = ((numbers ^ (numbers >> 15)) * _MIX[2]) & 0x7FFFFFFF
        return numbers.float()


def _nearest(scores: Tensor, count: int, offset: int) -> Tensor:
    """Return the columns of the highest scores, shifted by `offset`: [*, E'] -> int [*, count]."""
    best, rows = scores.topk(min(count, scores.shape[-1]), dim=-1)
    rows = torch.where(best > -torch.inf, rows + offset, NONE)
    return F.pad(rows, (0, count - rows.shape[-1]), value=NONE)
