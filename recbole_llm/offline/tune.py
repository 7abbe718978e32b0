"""Tuning a language model on samples of tasks with low-rank adapters: the base of such stages.

A method says what is learnt (``samples``); loading, training, resuming, held-out losses and the
artifact are here. The artifact holds ``adapter/``, in peft's format, for `encoder_adapter`, and
``losses.json``: {before, after: {task: mean loss of a held-out answer's tokens}}.
"""

from __future__ import annotations

import json
import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from recbole_llm.core.digest import digest, file_digest
from recbole_llm.core.files import remove_left_parts
from recbole_llm.core.lines import shows_progress
from recbole_llm.core.log import show
from recbole_llm.features.encoders.adapters import sees_pictures
from recbole_llm.features.encoders.decoders import Source
from recbole_llm.features.encoders.smollm import NAMES
from recbole_llm.features.settings import EncoderSettings, ItemSettings
from recbole_llm.features.store import cache_dir
from recbole_llm.offline.settings import TuneSettings
from recbole_llm.offline.stage import Stage, StageError, StageReport
from recbole_llm.offline.tuner import Sample, Tuner

ADAPTER, LOSSES = "adapter", "losses.json"
_STATE = "state.pth"


def split_samples(
    samples: Sequence[Sample], most: int, share: float, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Samples to learn from and held-out ones: of each task `most` at random, of these a share
    held out, one at least, and all but one at most. What other tasks say of the same items or
    examples as held-out samples is not learnt either.

    Raises:
        StageError: a task has fewer than two samples, or none to learn; or there is no task.
    """
    numbers = random.Random(seed)
    learnt: list[Sample] = []
    held: list[Sample] = []
    for task in dict.fromkeys(sample.task for sample in samples):
        own = [sample for sample in samples if sample.task == task]
        own = numbers.sample(own, min(most, len(own)))
        if len(own) < 2:
            raise StageError(f"task '{task}' has {len(own)} samples; tuning needs two or more")
        count = min(max(1, round(share * len(own))), len(own) - 1)
        held, learnt = held + own[:count], learnt + own[count:]
    if not learnt:
        raise StageError("there is nothing to learn: the training data gives no samples")
    unseen = {sample.of for sample in held if sample.of}
    kept = [sample for sample in learnt if sample.of not in unseen]
    for task in {sample.task for sample in learnt} - {sample.task for sample in kept}:
        raise StageError(f"task '{task}' has nothing left to learn; lower tune_held_out")
    return kept, held


class TuneStage(Stage):
    """A stage that tunes a language model; its units are steps."""

    unit = "steps"
    tuned = "encoder"  # whose model it is: that of the keys encoder_model, encoder_adapter …

    @abstractmethod
    def samples(self) -> Sequence[Sample]:
        """What is to be learnt, of training interactions alone."""

    @cached_property
    def settings(self) -> TuneSettings:
        """The keys of the tuning."""
        return TuneSettings.of(self.config)

    @cached_property
    def source(self) -> Source:
        """The model that is tuned."""
        own = self.config[f"{self.tuned}_model"] or NAMES[0]
        key = "tune_model" if self.settings.tune_model else f"{self.tuned}_model"
        name = self.settings.tune_model or own
        revision = self.config[f"{self.tuned}_revision"] if name == own else None
        return Source.of(name, revision, cache_dir(self.config), key)

    @cached_property
    def parts(self) -> tuple[list[Sample], list[Sample]]:
        """Samples to learn from, held-out samples."""
        own = self.settings
        return split_samples(
            self.samples(), own.tune_samples, own.tune_held_out, self.config["seed"]
        )

    def inputs(self) -> Mapping[str, Any]:
        """Model, settings and samples."""
        every = [sample for part in self.parts for sample in part]
        images = [file_digest(s.image) if s.image else None for s in every]
        samples = [[s.task, s.prompt, s.answer, i] for s, i in zip(every, images, strict=True)]
        own = self.settings.model_dump(exclude={"tune_model"})
        if any(images):
            own["item_image_max_pixels"] = self._max_pixels
        seed = self.config["seed"]
        return {**own, "model": self.source.digest, "samples": digest(samples), "seed": seed}

    def work(self, folder: Path) -> tuple[int, int]:
        """Train what is missing, and write adapter and losses."""
        settings = EncoderSettings.placed(self.config)
        tuner = Tuner(self.source, self.settings, str(settings.encoder_device), self._max_pixels)
        learnt, held = self.parts
        shown = shows_progress(self.config)
        there, done = tuner.train(learnt, held, folder / _STATE, self.config["seed"], shown)
        adapter = tuner.model.peft_config["default"]  # whose set would be written in any order
        adapter.target_modules = sorted(adapter.target_modules)
        tuner.model.save_pretrained(folder / ADAPTER, save_embedding_layers=False)
        losses = {"before": tuner.before, "after": tuner.losses(held)}
        (folder / LOSSES).write_text(json.dumps(losses, indent=1), encoding="utf-8")
        return there, done

    @property
    def _kind(self) -> str:
        """What a run needs beside the adapter: the default encoder reads none."""
        if self.tuned != "encoder":
            return ""
        return f"--encoder={'multimodal' if sees_pictures(self.source) else 'causal_lm'} "

    @property
    def _max_pixels(self) -> int:
        return ItemSettings.of(self.config).item_image_max_pixels

    def complete(self) -> StageReport:
        """Tune the model unless it is done, and say where the adapter is and what it has learnt."""
        report = super().complete()
        (self.path / _STATE).unlink(missing_ok=True)  # not before the artifact is whole
        remove_left_parts(self.path)  # of saves that were killed
        file = self.path / LOSSES
        try:
            losses = json.loads(file.read_text(encoding="utf-8"))
            said = "; ".join(
                f"{task} {float(loss):.3f} -> {float(losses['after'][task]):.3f}"
                for task, loss in losses["before"].items()
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise StageError(f"'{file}' is damaged ({error!r}); delete '{self.path}'") from error
        show(
            f"{self.name}: held-out loss (nats per token of an answer): {said}\n"
            f"{self.name}: its adapter is for {self._kind}--{self.tuned}_adapter="
            f"{self.path / ADAPTER}"
        )
        return report
