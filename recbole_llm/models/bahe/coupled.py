"""The baseline that BAHE replaces: one trained LLM over the text of history and target."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from recbole_llm.layers.decoder import CausalDecoder


class CoupledLLM(nn.Module):
    """Both halves over words; like BAHE's halves they give a user's and an item's vector.

    These are states of one pass over [history ; target]: the user's is the state after the last
    word of the history, the item's after the last word of the target. Word embeddings are not
    trained, which makes the baseline cheaper.

    Args:
        tokens: the words of each item, padding first.
        max_tokens: maximum words of a pass; the oldest behaviors are left out until they fit. An
            item keeps at most max_tokens - 1 words.
        batch_tokens: words of a batch without gradients.
    """

    def __init__(
        self,
        words: nn.Embedding,
        decoder: CausalDecoder,
        tokens: Sequence[Sequence[int]],
        max_tokens: int,
        batch_tokens: int,
    ) -> None:
        super().__init__()
        self.words, self.decoder = words.requires_grad_(False), decoder
        self.tokens = [torch.tensor(words[: max_tokens - 1], dtype=torch.int64) for words in tokens]
        self.max_tokens, self.batch_tokens = max_tokens, batch_tokens

    def forward(self, histories: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """int [N, L], int [N] -> users [N, H], items [N, H]."""
        rows = [
            self._words(history, item)
            for history, item in zip(histories.cpu().tolist(), items.cpu().tolist(), strict=True)
        ]
        longest = max((len(row) for row, _ in rows), default=1)
        size = len(rows) if torch.is_grad_enabled() else max(self.batch_tokens // longest, 1)
        parts = [self._states(rows[i : i + size]) for i in range(0, len(rows), size)]
        users, targets = (torch.cat(side) for side in zip(*parts, strict=True))
        return users, targets

    def _words(self, history: Sequence[int], item: int) -> tuple[Tensor, int]:
        """Return the words of a history and its target, and the number of the history's words."""
        target = self.tokens[item]
        room, kept = self.max_tokens - len(target), []
        for behavior in reversed([i for i in history if i]):
            room -= len(self.tokens[behavior])
            if room < 0:
                break
            kept.append(self.tokens[behavior])
        words = torch.cat([*reversed(kept), target])
        return words, len(words) - len(target)

    def _states(self, rows: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        device = self.words.weight.device
        words = pad_sequence([words for words, _ in rows], batch_first=True).to(device)  # [N, T]
        states = self.decoder(self.words(words))  # [N, T, H]
        row = torch.arange(len(rows), device=device)
        known = torch.tensor([count for _, count in rows], device=device)
        end = torch.tensor([len(words) for words, _ in rows], device=device)
        users = states[row, (known - 1).clamp(min=0)] * (known > 0)[:, None]
        return users, states[row, end - 1]
