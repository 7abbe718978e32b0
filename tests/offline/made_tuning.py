"""Stages that tune tiny random models of the real classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from made_texts import PlainConfig

from recbole_llm.offline.adapter_stage import TuneStage
from recbole_llm.offline.adapter_training import Sample

COLORS = [Sample("colors", f"item {i}", "red" if i % 2 else "blue") for i in range(20)]
STORIES = [Sample("stories", f"the {i}", "the story") for i in range(10)]


class Tuned(TuneStage):
    name = "tuned"
    made: Sequence[Sample] = [*COLORS, *STORIES]

    def samples(self) -> Sequence[Sample]:
        return self.made


def stage(model: Path, cache: Path, **more: Any) -> Tuned:
    keys = {"encoder_model": str(model), "embedding_cache_dir": str(cache), "seed": 1}
    quiet = {"show_progress": False, "tune_learning_rate": 0.02, "tune_batch_size": 2}
    return Tuned(PlainConfig({**keys, **quiet, **more}), SimpleNamespace())


def weights(made: Tuned) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(made.path / "adapter" / "adapter_model.safetensors")
