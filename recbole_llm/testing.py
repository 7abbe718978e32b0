"""For tests of plugins and of this package: a tiny data set, a fake encoder, a model battery."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_llm.hookspecs import hookimpl
from recbole_llm.registry import EncoderSpec

_GENRES = ("action", "drama", "comedy", "horror")
_NOUNS = ("river", "castle", "robot", "garden", "planet", "detective", "violin", "storm")


def write_tiny_dataset(
    folder: str | Path, name: str = "tiny", n_users: int = 40, n_items: int = 60, seed: int = 0
) -> Path:
    """Write a data set of RecBole's atomic files whose users follow their genre's items in order.

    Args:
        folder: the ``data_path``; the files go to ``folder/name/``.
        name: data set name.
        n_users, n_items: sizes; histories have 5 to 20 items.
        seed: of everything random.

    Returns:
        The data set's folder with .inter, .item, .user, .kg and .link files.
    """
    rng = np.random.default_rng(seed)
    target = Path(folder) / name
    target.mkdir(parents=True, exist_ok=True)
    genre = [_GENRES[i % len(_GENRES)] for i in range(n_items)]
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    _write(target / f"{name}.inter", header, (
        f"u{user}\ti{item}\t{rng.integers(1, 6)}\t{1000 + step}"
        for user in range(n_users)
        for step, item in enumerate(_history(rng, user, n_items))
    ))  # fmt: skip
    _write(
        target / f"{name}.item",
        "item_id:token\ttitle:token_seq\tgenre:token\trelease_year:token\tprice:float",
        (
            f"i{i}\tThe {genre[i]} {_NOUNS[i % 8]} {i}\t{genre[i]}\t{1990 + i % 20}\t{i % 7}.5"
            for i in range(n_items)
        ),
    )
    _write(target / f"{name}.user", "user_id:token\tage:token\tgender:token", (
        f"u{u}\t{20 + u % 5}\t{'FM'[u % 2]}" for u in range(n_users)
    ))  # fmt: skip
    _write(target / f"{name}.kg", "head_id:token\trelation_id:token\ttail_id:token", (
        f"e{i}\thas_genre\tg_{genre[i]}" for i in range(n_items)
    ))  # fmt: skip
    _write(target / f"{name}.link", "item_id:token\tentity_id:token", (
        f"i{i}\te{i}" for i in range(n_items)
    ))  # fmt: skip
    return target


def _history(rng: np.random.Generator, user: int, n_items: int) -> list[int]:
    length = int(rng.integers(5, 21))
    start = int(rng.integers(n_items))
    stride = len(_GENRES)
    own = [(user % stride + stride * (start + k)) % n_items for k in range(length)]
    noise = rng.random(length) < 0.1
    return [int(rng.integers(n_items)) if n else i for n, i in zip(noise, own, strict=True)]


def _write(file: Path, header: str, rows: Any) -> None:
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


class HashEncoder:
    """Vectors [n, dimension] that depend on each text alone; no model, no download."""

    def __init__(self, dimension: int = 16) -> None:
        self.dimension = dimension
        self.fingerprint = f"hash-{dimension}"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Float32 unit vectors, one a text."""
        rows = [self._vector(text) for text in texts]
        return np.stack(rows) if rows else np.zeros((0, self.dimension), np.float32)

    def _vector(self, text: str) -> np.ndarray:
        total = np.zeros(self.dimension)
        for word in text.lower().split():  # texts that share words are near each other
            digest = hashlib.sha256(word.encode()).digest()
            total += np.random.default_rng(list(digest[:8])).standard_normal(self.dimension)
        return (total / max(float(np.linalg.norm(total)), 1e-12)).astype(np.float32)


def hash_encoder(config: Any) -> HashEncoder:
    """Factory of the encoder kind ``hash``; ``encoder_dimensions`` sets the width."""
    return HashEncoder(int(config["encoder_dimensions"] or 16))


@hookimpl
def register_encoders(register: Any) -> None:
    """This module is a plugin: ``get_plugins().register(recbole_llm.testing, "testing")``."""
    register(EncoderSpec("hash", hash_encoder, "hashed words; for tests"))


class ModelTests:
    """Contracts of every model. Subclass, set ``model`` (and ``config``), and pytest runs them.

    The tests write into the current folder: run them in an empty one.
    """

    model: str
    config: dict[str, Any] = {}

    def settings(self, **more: Any) -> dict[str, Any]:
        """The configuration of the battery's runs."""
        quiet = {"show_progress": False, "log_flops": False, "data_path": "dataset"}
        small = {"epochs": 2, "MAX_ITEM_LIST_LENGTH": 10, "encoder": "hash", "topk": [10]}
        return {**quiet, **small, **self.config, **more}

    def make(self, **more: Any) -> tuple[Any, Any, tuple[Any, Any, Any]]:
        """A tiny data set's configuration, an untrained model in eval mode, the three loaders."""
        from recbole_llm.config import Config
        from recbole_llm.quick_start import build_model, load_data

        self._prepare()
        config = Config(self.model, "tiny", config_dict=self.settings(**more))
        _, *loaders = load_data(config)
        return config, build_model(config, loaders[0]._dataset).eval(), tuple(loaders)

    def _prepare(self) -> None:
        import sys

        from recbole_llm.plugins import get_plugins, list_encoders

        write_tiny_dataset("dataset")
        if "hash" not in list_encoders():
            get_plugins().register(sys.modules[__name__], __name__)

    def test_learns_is_saved_and_comes_back_with_the_same_scores(self) -> None:
        from recbole_llm import load_data_and_model, run_recbole_llm
        from recbole_llm.quick_start import build_trainer

        self._prepare()
        result = run_recbole_llm(self.model, "tiny", config_dict=self.settings())
        config, model, _, _, _, test_data = load_data_and_model(result["checkpoint"])
        trainer = build_trainer(config, model)
        again = trainer.evaluate(test_data, load_best_model=False, show_progress=False)
        assert dict(again) == dict(result["test_result"])

    def test_frozen_vectors_are_neither_trained_nor_stored(self) -> None:
        config, model, loaders = self.make()
        frozen = {
            n: m.weight.clone() for n, m in model.named_modules() if hasattr(m, "fingerprint")
        }
        assert frozen, "the model holds no FrozenEmbedding"
        self._fit(config, model, loaders)
        modules = dict(model.named_modules())
        for name, before in frozen.items():
            assert modules[name].weight.equal(before), f"{name} changed in training"
            assert f"{name}.weight" not in model.state_dict()
            assert not before[0].any(), f"{name}: the padding row is not zero"

    def test_full_ranking_agrees_with_single_predictions(self) -> None:
        _, model, loaders = self.make()
        rows = _first_rows(loaders[2])
        full = model.full_sort_predict(rows).view(len(rows), -1)  # [B, n]
        for item in (1, 7, full.shape[1] - 1):
            rows.update(_interaction(model.ITEM_ID, [item] * len(rows)))
            single = model.predict(rows)
            assert single.allclose(full[:, item], atol=1e-5), f"item {item}"

    def _fit(self, config: Any, model: Any, loaders: Any) -> None:
        from recbole_llm.quick_start import build_trainer

        build_trainer(config, model).fit(loaders[0], loaders[1], verbose=False, saved=False)


class SequentialModelTests(ModelTests):
    """Contracts of every causal sequential model (a ``SequenceRecommender``)."""

    def test_no_state_sees_a_later_item(self) -> None:
        import torch

        _, model, _ = self.make()
        items = torch.arange(1, 9).repeat(3, 1)  # [3, 8]
        changed = items.clone()
        changed[:, -1] = torch.tensor([20, 30, 40])
        mask = torch.ones_like(items, dtype=torch.bool)
        with torch.no_grad():
            before, after = model.user_states(items, mask), model.user_states(changed, mask)
        assert before[:, :-1].equal(after[:, :-1]), "an earlier state moved: the model leaks"
        assert not before[:, -1].equal(after[:, -1])

    def test_padding_does_not_count(self) -> None:
        import torch

        _, model, _ = self.make()
        items = torch.tensor([[3, 5, 7]])
        padded = torch.tensor([[3, 5, 7, 0, 0, 0]])
        with torch.no_grad():
            short = model.user_states(items, items != 0)
            long = model.user_states(padded, padded != 0)[:, :3]
        assert short.allclose(long, atol=1e-5)

    def test_learns_from_prefixes_and_from_whole_sequences(self) -> None:
        for level in ("prefix", "sequence"):
            config, model, loaders = self.make(train_level=level)
            before = {name: value.clone() for name, value in model.state_dict().items()}
            self._fit(config, model, loaders)
            after = model.state_dict()
            assert any(not after[name].equal(value) for name, value in before.items()), level


def _first_rows(loader: Any) -> Any:
    return next(iter(loader))[0]


def _interaction(field: str, values: list[int]) -> Any:
    import torch
    from recbole.data.interaction import Interaction

    return Interaction({field: torch.tensor(values)})
