"""Batteries of contracts that every model has to pass."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender

from recbole_llm.core.checkpoints.stored import arguments_for_reload
from recbole_llm.core.config import Config
from recbole_llm.core.plugins.loading import get_plugins, list_encoders
from recbole_llm.quick_start import load_data_and_model, run_recbole_llm
from recbole_llm.steps import build_model, build_trainer, load_data
from recbole_llm.tasks.recommend import Recommender
from recbole_llm.testing import encoder
from recbole_llm.testing.device import second_device
from recbole_llm.testing.tiny import write_tiny_dataset
from recbole_llm.trainers.phased import PhasedTrainer


class ModelTests:
    """Contracts of every model. Subclass, set ``model`` (and ``config``), and pytest runs them.

    The tests write into the current folder: run them in an empty one.
    """

    model: str
    config: dict[str, Any] = {}
    frozen = True  # whether the model holds frozen vectors
    emulated = True  # whether the emulated second device can run the model; not torch's GRU

    def settings(self, **more: Any) -> dict[str, Any]:
        """The configuration of the battery's runs."""
        quiet = {"show_progress": False, "data_path": "dataset"}
        small = {"epochs": 2, "MAX_ITEM_LIST_LENGTH": 10, "encoder": "hash", "topk": [10]}
        return {**quiet, **small, **self.config, **more}

    def make(self, **more: Any) -> tuple[Any, Any, tuple[Any, Any, Any]]:
        """Return a tiny data set's configuration, an untrained model in eval mode and loaders."""
        self._prepare()
        config = Config(self.model, "tiny", config_dict=self.settings(**more))
        _, *loaders = load_data(config)
        return config, build_model(config, loaders[0].dataset).eval(), tuple(loaders)

    def _prepare(self) -> None:
        write_tiny_dataset("dataset")
        if "hash" not in list_encoders():
            get_plugins().register(encoder, __package__)

    def test_learns_is_saved_and_comes_back_with_the_same_scores(self) -> None:
        self._prepare()
        result = run_recbole_llm(self.model, "tiny", config_dict=self.settings())
        # A checkpoint does not name a plugin's file, nor other files that the settings name.
        asked = arguments_for_reload(Config(self.model, "tiny", config_dict=self.settings()))
        config, model, _, _, _, test_data = load_data_and_model(result["checkpoint"], argv=asked)
        trainer = build_trainer(config, model)
        again = trainer.evaluate(test_data, load_best_model=False, show_progress=False)
        assert dict(again) == dict(result["test_result"])

    def test_frozen_vectors_are_neither_trained_nor_stored(self) -> None:
        config, model, loaders = self.make()
        frozen = {
            n: m.weight.clone() for n, m in model.named_modules() if hasattr(m, "fingerprint")
        }
        assert bool(frozen) == self.frozen, "`frozen` must say whether there is a FrozenEmbedding"
        self._fit(config, model, loaders)
        modules = dict(model.named_modules())
        for name, before in frozen.items():
            assert modules[name].weight.equal(before), f"{name} changed in training"
            assert f"{name}.weight" not in model.state_dict()
            assert not before[0].any(), f"{name}: the padding row is not zero"

    def test_trains_evaluates_and_recommends_on_another_device(self) -> None:
        if not self.emulated:
            return
        config, _, (train, valid, test) = self.make(epochs=1)
        with second_device() as device:
            config["device"] = device
            trainer = build_trainer(config, build_model(config, train.dataset))
            trainer.fit(train, valid, verbose=False, saved=True)
            if not isinstance(trainer, PhasedTrainer):  # it resumes only stopped runs
                trainer.resume_checkpoint(trainer.saved_model_file)
            metrics = trainer.evaluate(test, show_progress=False)
            frame = Recommender(config, trainer.model, train.dataset).recommend(["u1"], k=3)
        assert len(frame) == 3
        assert all(0 <= value <= 1 for name, value in metrics.items() if name != "logloss")

    def test_full_ranking_agrees_with_single_predictions(self) -> None:
        _, model, loaders = self.make()
        rows = next(iter(loaders[2]))[0]
        full = model.full_sort_predict(rows).view(len(rows), -1)  # [B, n]
        for item in (1, 7, full.shape[1] - 1):
            rows.update(Interaction({model.ITEM_ID: torch.full((len(rows),), item)}))
            single = model.predict(rows)
            assert single.allclose(full[:, item], atol=1e-5), f"item {item}"

    def _fit(self, config: Config, model: AbstractRecommender, loaders: Any) -> None:
        build_trainer(config, model).fit(loaders[0], loaders[1], verbose=False, saved=False)

    def _check_that_it_learns(self, **more: Any) -> None:
        config, model, loaders = self.make(**more)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        self._fit(config, model, loaders)
        after = model.state_dict()
        assert any(not after[name].equal(value) for name, value in before.items()), more

    def _check_that_states_see_no_later_item(self) -> None:
        _, model, _ = self.make()
        items = torch.arange(1, 9).repeat(3, 1)  # [3, 8]
        mask = torch.ones_like(items, dtype=torch.bool)
        with torch.no_grad():
            before = model.user_states(items, mask)
            for first in range(1, 8):
                changed = items.clone()
                changed[:, first:] += 20
                after = model.user_states(changed, mask)
                assert before[:, :first].equal(after[:, :first]), "the model leaks"
                assert not before[:, first].equal(after[:, first])


class SequentialModelTests(ModelTests):
    """Contracts of every causal sequential model (a ``SequenceRecommender``)."""

    def test_states_and_vectors_have_their_shapes(self) -> None:
        _, model, _ = self.make()
        items = torch.tensor([[3, 5, 7], [4, 6, 0]])
        with torch.no_grad():
            vectors, some = model.item_vectors(), model.item_vectors(items)
            states = model.user_states(items, items != 0)
        n, size = model.n_items, vectors.shape[-1]
        for method, shape, due in (
            (f"item_vectors() of {n - 1} items and the padding", vectors.shape, (n, size)),
            ("item_vectors(ids) of ids [2, 3]", some.shape, (2, 3, size)),
            ("user_states(item_seq, mask) of items [2, 3]", states.shape, (2, 3, size)),
        ):
            assert shape == due, f"{method} is {list(shape)}; it is to be {list(due)}"

    def test_no_state_sees_a_later_item(self) -> None:
        self._check_that_states_see_no_later_item()

    def test_padding_does_not_count(self) -> None:
        _, model, _ = self.make()
        items = torch.tensor([[3, 5, 7]])
        padded = torch.tensor([[3, 5, 7, 0, 0, 0]])
        with torch.no_grad():
            short = model.user_states(items, items != 0)
            long = model.user_states(padded, padded != 0)[:, :3]
        assert short.allclose(long, atol=1e-5)

    def test_states_at_some_items_are_those_of_all(self) -> None:
        _, model, _ = self.make()
        items = torch.tensor([[3, 5, 7, 2], [4, 6, 0, 0], [9, 0, 0, 0]])
        mask, last = items != 0, torch.tensor([3, 1, 0])
        wanted = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]]).bool()
        with torch.no_grad():
            states = model.user_states(items, mask)
            assert states[wanted].allclose(model.states_at(items, mask, wanted), atol=1e-5)
            assert states[torch.arange(3), last].allclose(model.last_states(items), atol=1e-5)

    def test_learns_from_prefixes_and_from_whole_sequences(self) -> None:
        for level in ("prefix", "sequence"):
            self._check_that_it_learns(train_level=level)
