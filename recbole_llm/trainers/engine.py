"""What every trainer gains here, RecBole's own ones included."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

import torch

from recbole_llm.layers.matmul import fast_products

_FUSED = (torch.optim.Adam, torch.optim.AdamW)


class EngineMixin:
    """Evaluation by memory budget, the faster of two libraries for its products, fused Adam, and
    training without autograd's debug mode."""

    config: Any
    eval_collector: Any
    evaluator: Any
    saved_model_file: str

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)  # type: ignore[call-arg]
        from recbole_llm.evaluation.group_metrics import evaluation_parts

        self.eval_collector, self.evaluator = evaluation_parts(config)
        if config["single_spec"] and hasattr(self, "saved_model_file"):
            self.saved_model_file = _with_milliseconds(self.saved_model_file)

    def fit(self, train_data: Any, *args: Any, **kwargs: Any) -> Any:
        """Train as the base class does; ``detect_anomaly`` is off unless the user asks for it."""
        self.eval_collector.data_collect(train_data)  # RecBole's pretraining stages leave it out
        with torch.autograd.set_detect_anomaly(bool(self.config["detect_anomaly"])):
            return super().fit(train_data, *args, **kwargs)  # type: ignore[misc]

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = super()._build_optimizer(**kwargs)  # type: ignore[misc]
        # RecBole passes no `fused`, and torch's default loops over parameters and operations.
        if self.config["fused_optimizer"] and type(optimizer) in _FUSED and _fits(optimizer):
            for group in optimizer.param_groups:
                group.update(fused=True, foreach=False)
        return optimizer

    def _valid_epoch(self, *args: Any, **kwargs: Any) -> Any:
        from recbole_llm.evaluation.group_metrics import without_groups

        with without_groups(self.eval_collector):
            return super()._valid_epoch(*args, **kwargs)  # type: ignore[misc]

    def _full_sort_batch_eval(self, *args: Any, **kwargs: Any) -> Any:
        with fast_products():
            return super()._full_sort_batch_eval(*args, **kwargs)  # type: ignore[misc]


def _with_milliseconds(file: str) -> str:
    """RecBole names checkpoints by the second, and runs started together would share one."""
    path = Path(file)
    return str(path.with_name(f"{path.stem}-{time.time_ns() // 10**6 % 1000:03d}{path.suffix}"))


def _fits(optimizer: torch.optim.Optimizer) -> bool:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)


@cache
def with_engine(trainer: type[Any]) -> type[Any]:
    """``trainer`` with the engine in front of it."""
    if issubclass(trainer, EngineMixin):
        return trainer
    return type(trainer.__name__, (EngineMixin, trainer), {"__module__": trainer.__module__})
