"""The workarounds for RecBole, each with the reason and when it can go; see compat_pandas too.

``apply()`` may be called any number of times; nothing happens at import.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from unittest import mock

import numpy as np

from recbole_llm.core.checkpoint import (
    check_fingerprints,
    decode,
    embedding_fingerprints,
    plain_config,
    save_atomically,
)

# RecBole spells dtypes as np.float etc., removed in NumPy 1.24 (np.float_ in 2.0).
# Goes with a RecBole that uses np.float64.
_NUMPY_NAMES: dict[str, type] = {
    "bool": np.bool_, "int": np.int_, "float": np.float64, "complex": np.complex128,
    "object": np.object_, "str": np.str_, "long": np.int_, "unicode": np.str_,
    "float_": np.float64, "complex_": np.complex128, "unicode_": np.str_,
}  # fmt: skip


@functools.cache
def apply() -> None:
    """Make RecBole 1.2.0 and 1.2.1 work with today's NumPy, SciPy and torch."""
    _set_numpy_names()
    _provide_distutils()
    with anomaly_detection_kept():
        from recbole.config import Config
        from recbole.data.dataset import Dataset
        from recbole.model.abstract_recommender import AbstractRecommender
        from recbole.trainer import trainer

    # One warning an epoch about torch.cuda.amp. Goes with a RecBole that calls torch.amp.
    warnings.filterwarnings("ignore", ".*GradScaler", FutureWarning, "recbole")
    # Several for each data set about fillna(inplace=True), which data/dataset.py makes good.
    warnings.filterwarnings("ignore", "(?s).*chained assignment", Warning, "recbole")
    Config.compatibility_settings = lambda self: _set_numpy_names()
    _restore_dok_update()
    # Plain checkpoints: torch >= 2.6 loads with weights_only=True and refuses a pickled Config.
    # Goes with a RecBole that stores its configuration as a dict.
    for cls, name in (
        (trainer.Trainer, "_save_checkpoint"),
        (trainer.PretrainTrainer, "save_pretrained_model"),
        (trainer.DecisionTreeTrainer, "_save_checkpoint"),
    ):
        setattr(cls, name, _with_plain_config(getattr(cls, name)))
    trainer.torch = _AtomicTorch(trainer.torch)
    AbstractRecommender.other_parameter = _with_fingerprints(AbstractRecommender.other_parameter)
    AbstractRecommender.load_other_parameter = _decoded(AbstractRecommender.load_other_parameter)
    Dataset._download = _without_barrier(Dataset._download)


def _set_numpy_names() -> None:
    for name, dtype in _NUMPY_NAMES.items():
        if name not in np.__dict__:
            setattr(np, name, dtype)


def _provide_distutils() -> None:
    # thop, with which RecBole counts FLOPs, imports distutils, which Python 3.12 dropped and
    # setuptools brings. Goes with thop.
    if find_spec("distutils") is None:
        import_module("setuptools")


def _restore_dok_update() -> None:
    # Eight graph models fill a dok_matrix through _update, which SciPy 1.13 removed.
    # Goes with a RecBole that builds its graphs from coo_matrix.
    from scipy.sparse import dok_matrix

    if not hasattr(dok_matrix, "_update"):
        dok_matrix._update = lambda self, data: self._dict.update(data)


@contextlib.contextmanager
def anomaly_detection_kept() -> Iterator[None]:
    """Importing RecBole's SINE switches autograd's anomaly detection on for the whole process.

    It makes every backward pass about 1.6 times slower. Goes with RecBole's sine.py line 25.
    """
    import torch

    before = torch.is_anomaly_enabled()
    try:
        yield
    finally:
        torch.autograd.set_detect_anomaly(before)


def recbole_trainer(model: type[Any], name: str) -> type[Any]:
    """RecBole's trainer for one of its model classes."""
    from recbole.utils import get_trainer

    return get_trainer(model.type, name)  # type: ignore[no-any-return]


def register_metrics(metrics: Sequence[type[Any]]) -> None:
    """Add metric classes, or none, to RecBole's tables, which it fills from its own module only."""
    from recbole.evaluator import register

    named = {metric.__name__.lower(): metric for metric in metrics}
    for name, metric in named.items():
        if register.metrics_dict.get(name, metric) is not metric:
            raise ValueError(f"metric '{metric.__name__}' is already registered; rename it")
    for name, metric in named.items():
        register.metrics_dict[name] = metric
        register.metric_information[name] = metric.metric_need
        register.metric_types[name] = metric.metric_type
        if metric.smaller:
            register.smaller_metrics.append(name)


class _AtomicTorch:
    """``torch`` to RecBole's trainer module: ``save`` writes plain data, and in one step."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._torch, name)

    def save(self, state: Any, file: str, **_: Any) -> None:
        # RecBole's pickle_protocol=4 is dropped: weights_only=True reads protocol 2.
        save_atomically(state, file)


def _with_plain_config(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        config, self.config = self.config, plain_config(self.config)
        try:
            return method(self, *args, **kwargs)
        finally:
            self.config = config

    return wrapper


def _with_fingerprints(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def other_parameter(self: Any) -> dict[str, Any]:
        from torch.nn import Module

        # DIN and FDSA name a sub-module here, whose weights are in the state_dict already.
        state = {k: v for k, v in method(self).items() if not isinstance(v, Module)}
        fingerprints = embedding_fingerprints(self)
        return {**state, "__embeddings__": fingerprints} if fingerprints else state

    return other_parameter


def _decoded(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def load_other_parameter(self: Any, para: dict[str, Any] | None) -> None:
        para = dict(para or {})
        check_fingerprints(self, para.pop("__embeddings__", {}))
        # Checkpoints are read on the CPU; RecBole moves a model's parameters, not these.
        device = getattr(self, "device", "cpu")
        method(self, {key: _moved(decode(value), device) for key, value in para.items()})

    return load_other_parameter


def _moved(value: Any, device: Any) -> Any:
    """Tensors, at any depth of lists, on a device."""
    from torch import Tensor

    if isinstance(value, list):
        return [_moved(v, device) for v in value]
    return value.to(device) if isinstance(value, Tensor) else value


def _without_barrier(method: Callable[..., Any]) -> Callable[..., Any]:
    # After a download RecBole waits at a torch.distributed barrier even in a single process.
    # Goes with a RecBole that asks dist.is_initialized() first.
    @functools.wraps(method)
    def wrapper(self: Any) -> Any:
        import torch.distributed as dist

        if dist.is_initialized():
            return method(self)
        with mock.patch.object(dist, "barrier"):
            return method(self)

    return wrapper
