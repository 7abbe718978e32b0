"""Full ranking of catalogues that are scored a block of items at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recbole.trainer.trainer import AbstractTrainer

from recbole_llm.evaluation.blocks import BlockScores

if TYPE_CHECKING:
    from recbole.data.dataloader import AbstractDataLoader


class BlockRankingMixin(AbstractTrainer):  # type: ignore[misc]
    """Gives the collector scores by blocks where the loader asks for it.

    Comes before one of RecBole's trainers among the bases; see `recbole_llm.data.ranking_step`.
    """

    _items_a_block: int | None = None

    def evaluate(self, eval_data: AbstractDataLoader, *args: Any, **kwargs: Any) -> Any:
        """Metrics; arguments and result as RecBole's."""
        self._items_a_block = getattr(eval_data, "items_a_block", None)
        return super().evaluate(eval_data, *args, **kwargs)

    def _full_sort_batch_eval(self, batched_data: tuple[Any, ...]) -> tuple[Any, ...]:
        """The batch, its scores [B, n], and rows and items of its positives."""
        if self._items_a_block is None:
            whole: tuple[Any, ...] = super()._full_sort_batch_eval(batched_data)
            return whole
        interaction, history, *positives = batched_data
        rows, items = self.model.score_factors(interaction.to(self.device))
        return interaction, BlockScores(rows, items, history, self._items_a_block), *positives
