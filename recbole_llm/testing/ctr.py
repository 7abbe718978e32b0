"""Battery of contracts that every pointwise model has to pass."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_llm.core.plugins.loading import get_model
from recbole_llm.data.settings import supports_sequence_level
from recbole_llm.models.ctr import CTRRecommender
from recbole_llm.steps import build_trainer
from recbole_llm.testing.models import ModelTests

LEARNING_EPOCHS = 10


class CTRModelTests(ModelTests):
    """Contracts of every pointwise model (a ``CTRRecommender``).

    Evaluation uses labels made from the tiny data set's ratings. Learning is tested with sampled
    negatives, since these ratings are random.
    """

    def settings(self, **more: Any) -> dict[str, Any]:
        """The configuration of the battery's runs."""
        labeled: dict[str, Any] = {
            "threshold": {"rating": 3},
            "train_neg_sample_args": None,
            "eval_args": {"split": {"RS": [6, 2, 2]}, "order": "TO", "mode": "labeled"},
            "metrics": ["AUC", "LogLoss", "GAUC"],
            "valid_metric": "AUC",
            "topk": [10],
        }
        return super().settings(**{**labeled, **self.config, **more})

    def levels(self) -> list[str]:
        """The training levels of the model."""
        return ["prefix", *(["sequence"] if supports_sequence_level(get_model(self.model)) else [])]

    def test_learns(self) -> None:
        sampled = {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}
        candidates = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "uni20"}
        config, model, loaders = self.make(
            **sampled,
            eval_args=candidates,
            epochs=LEARNING_EPOCHS,
            stopping_step=LEARNING_EPOCHS,
            learning_rate=0.01,
            train_batch_size=64,
        )
        trainer = build_trainer(config, model)
        trainer.fit(loaders[0], loaders[1], verbose=False, saved=False)
        losses = list(trainer.train_loss_dict.values())
        assert losses[-1] < losses[0], "the training loss does not fall"
        result = trainer.evaluate(loaders[2], load_best_model=False, show_progress=False)
        assert result["auc"] > 0.5, f"AUC {result['auc']} after {LEARNING_EPOCHS} epochs"

    def test_predictions_are_probabilities(self) -> None:
        _, model, loaders = self.make()
        rows = next(iter(loaders[2]))[0]
        for scores in (model.predict(rows), model.full_sort_predict(rows)):
            assert ((scores >= 0) & (scores <= 1)).all()
            assert scores.std() > 0, "all predictions are the same"

    def test_nothing_of_the_target_is_in_the_users_state(self) -> None:
        _, model, loaders = self.make()
        rows = next(iter(loaders[2]))[0]
        of_users = {*loaders[2].dataset.get_user_feature().interaction}
        changed = _with_other_targets(model, rows, of_users)
        with torch.no_grad():
            before, after = model.user_context(rows), model.user_context(changed)
        assert all(map(torch.equal, before, after)), (
            "the user's state depends on the target: the model leaks"
        )
        assert not model.predict(rows).equal(model.predict(changed))

    def test_no_state_sees_a_later_item(self) -> None:
        if "sequence" in self.levels():  # otherwise there is no state per position
            self._check_that_states_see_no_later_item()

    def test_padding_does_not_count(self) -> None:
        _, model, loaders = self.make(MAX_ITEM_LIST_LENGTH=25)  # longer than any history
        rows = next(iter(loaders[2]))[0]
        short = {
            name: column[:, :20] if name.endswith("_list") and column.dim() > 1 else column
            for name, column in rows.interaction.items()
        }
        with torch.no_grad():
            full, cut = model.predict(rows), model.predict(type(rows)(short))
        assert full.allclose(cut, atol=1e-5), "a prediction depends on the width of the batch"

    def test_prefix_and_sequence_rows_have_the_same_loss(self) -> None:
        losses: list[Tensor] = []
        whole = {"MAX_ITEM_LIST_LENGTH": 25, "train_batch_size": 10**6}  # an epoch in one batch
        for level in self.levels():
            _, model, loaders = self.make(train_level=level, **whole)
            (batch,) = list(loaders[0])
            with torch.no_grad():
                losses.append(model.calculate_loss(batch))
        assert losses[0].allclose(losses[-1], rtol=0, atol=2e-6), f"{losses[0]} and {losses[-1]}"

    def test_learns_from_every_kind_of_row(self) -> None:
        negatives = {"distribution": "uniform", "sample_num": 2}
        for level in self.levels():
            for drawn in (None, negatives):
                self._check_that_it_learns(train_level=level, train_neg_sample_args=drawn)


def _with_other_targets(
    model: CTRRecommender, rows: Interaction, of_users: set[str]
) -> Interaction:
    """Return the rows with all columns of the target, and the label, taken from another row."""
    kept = {*of_users, model.ITEM_SEQ_LEN}
    columns = {
        name: column if name in kept or name.endswith("_list") else column.roll(1, 0)
        for name, column in rows.interaction.items()
    }
    columns[model.ITEM_ID] = rows[model.ITEM_ID] % (model.n_items - 1) + 1
    return type(rows)(columns)
