"""The base of stages that tune a language model with low-rank adapters on samples of tasks.

A subclass provides the ``samples``; loading, training, resuming, held-out losses and the artifact
are here. The artifact holds ``adapter/``, in peft's format, for `encoder_adapter`, and
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
from recbole_llm.features.encoders.adapters import adapter_digest, sees_pictures
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.decoders import Source
from recbole_llm.features.encoders.smollm import NAMES
from recbole_llm.features.settings import EncoderSettings, ItemSettings
from recbole_llm.features.stored.store import cache_dir
from recbole_llm.offline.adapter_training import AdapterTrainer, Sample
from recbole_llm.offline.settings import TuneSettings
from recbole_llm.offline.stage import Stage, StageError, StageReport

ADAPTER, LOSSES = "adapter", "losses.json"
_STATE = "state.pth"


def split_samples(
    samples: Sequence[Sample], most: int, share: float, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Split samples into those to learn from and held-out ones.

    For each task, at most `most` are drawn at random, and a `share` of these is held out: at least
    one, at most all but one. Samples that share a subject with a held-out one are not learned.

    Raises:
        StageError: a task has fewer than two samples, or none left to learn; or there is no task.
    """
    numbers = random.Random(seed)
    learnt: list[Sample] = []
    held_out: list[Sample] = []
    for task in dict.fromkeys(sample.task for sample in samples):
        drawn = [sample for sample in samples if sample.task == task]
        drawn = numbers.sample(drawn, min(most, len(drawn)))
        if len(drawn) < 2:
            raise StageError(f"task '{task}' has {len(drawn)} samples; tuning needs two or more")
        count = min(max(1, round(share * len(drawn))), len(drawn) - 1)
        held_out, learnt = held_out + drawn[:count], learnt + drawn[count:]
    if not learnt:
        raise StageError("there is nothing to learn: the training data gives no samples")
    unseen = {sample.subject for sample in held_out if sample.subject}
    kept = [sample for sample in learnt if sample.subject not in unseen]
    for task in {sample.task for sample in learnt} - {sample.task for sample in kept}:
        raise StageError(f"task '{task}' has nothing left to learn; lower tune_held_out")
    return kept, held_out


def _save_adapter(model: Any, folder: Path) -> None:
    from safetensors import SafetensorError

    adapter = model.peft_config["default"]
    adapter.target_modules = sorted(adapter.target_modules)  # the order of a set varies
    try:
        model.save_pretrained(folder, save_embedding_layers=False)
    except SafetensorError as error:  # such as on a full disk
        raise OSError(f"'{folder}' cannot be written: {error}") from error


class TuneStage(Stage):
    """A stage that tunes a language model; its units are steps."""

    unit = "steps"
    key_prefix = "encoder"  # of the model's keys: encoder_model, encoder_adapter …

    @abstractmethod
    def samples(self) -> Sequence[Sample]:
        """Return the samples to learn, built from training interactions alone."""

    @cached_property
    def settings(self) -> TuneSettings:
        """The settings of the tuning."""
        return TuneSettings.of(self.config)

    @cached_property
    def source(self) -> Source:
        """The model that is tuned."""
        default = self.config[f"{self.key_prefix}_model"] or NAMES[0]
        key = "tune_model" if self.settings.tune_model else f"{self.key_prefix}_model"
        name = self.settings.tune_model or default
        revision = self.config[f"{self.key_prefix}_revision"] if name == default else None
        return Source.of(name, revision, cache_dir(self.config), key)

    @cached_property
    def sample_split(self) -> tuple[list[Sample], list[Sample]]:
        """Samples to learn from, and held-out samples."""
        settings, seed = self.settings, self.config["seed"]
        return split_samples(self.samples(), settings.tune_samples, settings.tune_held_out, seed)

    def inputs(self) -> Mapping[str, Any]:
        """Return digests of model and samples, the settings, and the seed."""
        samples = [sample for part in self.sample_split for sample in part]
        images = [file_digest(s.image) if s.image else None for s in samples]
        rows = [[s.task, s.prompt, s.answer, i] for s, i in zip(samples, images, strict=True)]
        settings = self.settings.model_dump(exclude={"tune_model"})
        if any(images):
            settings["item_image_max_pixels"] = self._max_pixels
        seed = self.config["seed"]
        return {**settings, "model": self.source.digest, "samples": digest(rows), "seed": seed}

    def work(self, folder: Path) -> tuple[int, int]:
        """Train for the missing steps, and write adapter and losses."""
        device = str(EncoderSettings.placed(self.config).encoder_device)
        trainer = AdapterTrainer(self.source, self.settings, device, self._max_pixels)
        learnt, held_out = self.sample_split
        shown = shows_progress(self.config)
        before, done = trainer.train(learnt, held_out, folder / _STATE, self.config["seed"], shown)
        _save_adapter(trainer.model, folder / ADAPTER)
        losses = {"before": trainer.losses_before, "after": trainer.mean_losses(held_out)}
        (folder / LOSSES).write_text(json.dumps(losses, indent=1), encoding="utf-8")
        return before, done

    @property
    def _encoder_option(self) -> str:
        """The option that chooses an encoder for the adapter: the default encoder reads none."""
        if self.key_prefix != "encoder":
            return ""
        return f"--encoder={'multimodal' if sees_pictures(self.source) else 'causal_lm'} "

    @property
    def _max_pixels(self) -> int:
        return ItemSettings.of(self.config).item_image_max_pixels

    def complete(self) -> StageReport:
        """Tune the model unless it is done, and log its losses and where the adapter is."""
        report = super().complete()
        try:
            adapter_digest(str(self.path / ADAPTER), f"stage {self.name}")
        except EncoderError as error:  # such as a file that was deleted by hand
            raise StageError(f"{error}; delete '{self.path}' to tune again") from error
        (self.path / _STATE).unlink(missing_ok=True)  # not before the artifact is complete
        remove_left_parts(self.path)  # of saves that were interrupted
        file = self.path / LOSSES
        try:
            losses = json.loads(file.read_text(encoding="utf-8"))
            shown = "; ".join(
                f"{task} {float(loss):.3f} -> {float(losses['after'][task]):.3f}"
                for task, loss in losses["before"].items()
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise StageError(f"'{file}' is damaged ({error!r}); delete '{self.path}'") from error
        show(
            f"{self.name}: held-out loss (nats per token of an answer): {shown}\n"
            f"{self.name}: to use its adapter: {self._encoder_option}--{self.key_prefix}_adapter="
            f"{self.path / ADAPTER}"
        )
        return report
