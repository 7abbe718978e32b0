"""The in-context transformer (ICT), from K examples and a query to the feature w."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from recbole.model.layers import MLPLayers
from torch import Tensor, nn

from recbole_llm.models.llmcf.decoder import Decoder
from recbole_llm.models.llmcf.memory import NONE, ExampleColumns
from recbole_llm.models.llmcf.settings import LLMCFRetrievalSettings, LLMCFSettings


def perceptron(sizes: Sequence[int]) -> MLPLayers:
    """Linear layers with ReLU between them and nothing after the last."""
    return MLPLayers(list(sizes), 0.0, "relu", last_activation=False)


class InContext(nn.Module):
    """Tokens [behavior, chain of thought, label] of K examples, then the query's behavior.

    behavior = MLP[user ; history ; g(mean history text) ; item ; g(item text)]
    chain of thought = g(vector / ||vector||)
    w = state of the decoder after the query, whose item is masked

    reconstruction = 1 - mean cos(r(state before a chain of thought), its vector)

    Args:
        behavior: width of [user ; history ; item].
        text: widths of g, from the text vectors' D to H; r has them in reverse.
        n_heads, n_layers: of the decoder.
        with_thoughts: whether examples have a chain of thought; if not, there are 2 K + 1 tokens.
    """

    def __init__(
        self,
        behavior: int,
        text: Sequence[int],
        n_heads: int = 2,
        n_layers: int = 2,
        with_thoughts: bool = True,
    ) -> None:
        super().__init__()
        size = text[-1]
        self.text_map = perceptron(text)  # g
        self.behavior_map = perceptron([behavior + 2 * size, size])
        self.label = nn.Embedding(2, size)
        self.decoder = Decoder(size, n_heads, n_layers)
        self.reconstruct = perceptron(text[::-1]) if with_thoughts else None  # r
        self._before: tuple[Tensor, Tensor] | None = None  # states to rebuild thoughts from

    def behaviors(
        self, user: Tensor, history: Tensor, history_text: Tensor, item: Tensor, item_text: Tensor
    ) -> Tensor:
        """Behavior tokens: [*, widths] each, texts [*, D] -> [*, H]."""
        texts = (self.text_map(history_text), self.text_map(item_text))
        parts = [user, history, texts[0], item, texts[1]]
        return self.behavior_map(torch.cat(parts, dim=-1))

    def forward(
        self, query: Tensor, behaviors: Tensor, thoughts: Tensor, labels: Tensor, chosen: Tensor
    ) -> Tensor:
        """The feature of each query.

        Args:
            query: behavior tokens of the queries, [N, H].
            behaviors: behavior tokens of U examples, [U, H].
            thoughts: vectors of the examples' chains of thought, [U, D].
            labels: 0 or 1, int [U].
            chosen: each query's examples, as rows of the U, int [N, K]; -1: none, which becomes
                tokens of zeros that are masked.

        Returns:
            w, [N, H].
        """
        thoughts = F.normalize(thoughts, dim=-1)
        tokens = [behaviors, self.label(labels)]
        if self.reconstruct is not None:
            tokens.insert(1, self.text_map(thoughts))
        parts = len(tokens)
        table = F.pad(torch.stack(tokens, dim=1), (0, 0, 0, 0, 0, 1))  # [U + 1, 3, H]; -1: zeros
        inputs = torch.cat([table[chosen].flatten(1, 2), query[:, None]], dim=1)  # [N, 3K + 1, H]
        is_example = chosen != NONE  # [N, K]
        present = None
        if not is_example.all():
            present = F.pad(is_example.repeat_interleave(parts, dim=1), (0, 1), value=True)
        before = torch.arange(0, inputs.shape[1], parts, device=inputs.device)  # and the query
        learns = self.reconstruct is not None and self.training
        states = self.decoder(inputs, present, before if learns else before[-1:])
        self._before = None
        if learns:
            self._before = (
                states[:, :-1][is_example],
                thoughts[chosen[is_example]],
            )  # [T, H], [T, D]
        return states[:, -1]

    def encode_context(
        self,
        query: Tensor,
        chosen: Tensor,
        examples: ExampleColumns,
        encode_behaviors: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> Tensor:
        """The feature of each query; each distinct example is encoded once.

        Args:
            query: behavior tokens of the queries, [N, H].
            chosen: their examples, int [N, K].
            encode_behaviors: users [U], histories [U, L] and items [U] -> their tokens [U, H].

        Returns:
            w, [N, H].
        """
        is_example = chosen != NONE
        rows, which = torch.unique(chosen[is_example], return_inverse=True)
        index = torch.full_like(chosen, NONE).masked_scatter(is_example, which)
        if not len(rows):  # backbones cannot read zero rows; no query attends to this one
            rows = chosen.new_zeros(1)
        users, histories, items, labels, thoughts = (column[rows] for column in examples)
        behaviors = encode_behaviors(users, histories, items)
        return self(query, behaviors, thoughts, labels, index)

    @property
    def reconstruction(self) -> Tensor:
        """Reconstruction loss of the last pass, scalar; 0 without chains of thought, and after a
        pass in eval mode."""
        if self.reconstruct is None or self._before is None:
            return torch.zeros(())
        states, thoughts = self._before  # [T, H], [T, D], the latter of length 1
        rebuilt = self.reconstruct(states).to(thoughts.dtype)  # also under autocast
        if not len(rebuilt):
            return rebuilt.sum()  # 0
        lengths = rebuilt.norm(dim=-1).clamp(min=torch.finfo(rebuilt.dtype).tiny)
        return 1 - (torch.linalg.vecdot(rebuilt, thoughts) / lengths).mean()


def build_in_context(
    settings: LLMCFSettings | LLMCFRetrievalSettings, behavior: int, text: int, size: int
) -> InContext:
    """Build the transformer from its settings; `text` is D, `size` is H."""
    return InContext(
        behavior,
        [text, *settings.text_hidden_sizes, size],
        n_heads=settings.context_heads,
        n_layers=settings.context_layers,
        with_thoughts=settings.thoughts != "none",
    )
