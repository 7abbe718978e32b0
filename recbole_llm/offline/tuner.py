"""A language model with low-rank adapters, and the training of these on samples."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_llm.core.checkpoints.checkpoint import load_checkpoint, save_atomically
from recbole_llm.core.lines import bar
from recbole_llm.features.encoders.adapters import load_tunable
from recbole_llm.features.encoders.decoders import (
    Source,
    as_chat,
    lacks_special,
    without_special,
)
from recbole_llm.features.pictures import read_picture
from recbole_llm.layers.decoder import adapter_settings
from recbole_llm.offline.settings import TuneSettings
from recbole_llm.offline.stage import StageError

_SAVED_EVERY = 10  # steps, which a killed run repeats at most
Losses = dict[str, float]


@dataclass(frozen=True)
class Sample:
    """One thing to learn: the answer, given the prompt."""

    task: str  # what losses are averaged over
    prompt: str
    answer: str
    image: Path | None = None  # goes before the prompt
    of: str = ""  # item or example that tasks share: held out of one, it is learnt in none


class Tuner:
    """A model with adapters, and the training of these."""

    before: Losses

    def __init__(
        self, source: Source, settings: TuneSettings, device: str, max_pixels: int
    ) -> None:
        self.settings, self.device, self.max_pixels = settings, device, max_pixels
        base, self.processor = load_tunable(source)
        self.tokenizer = getattr(self.processor, "tokenizer", self.processor)
        torch.manual_seed(0)  # the adapters start at random
        adapters = adapter_settings(settings.tune_rank)
        from peft import get_peft_model

        self.model: Any = get_peft_model(base, adapters).to(device)
        self.trained = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.trained.values(), settings.tune_learning_rate, weight_decay=0.0
        )

    def train(
        self, learnt: Sequence[Sample], held: Sequence[Sample], file: Path, seed: int, shown: bool
    ) -> tuple[int, int]:
        """Go on from a file where there is one; steps done before, steps done now."""
        there = self._resume(file, held)
        steps = list(_steps(learnt, self.settings, seed))
        self.model.train()
        told = bar(steps[there:], desc="Tuning", unit="step", shown=shown)
        for number, batch in enumerate(told, there + 1):
            torch.manual_seed(seed + number)  # of dropout, also in a run that goes on
            for sample in batch:  # one by one: no padding, any picture
                (self.loss(sample) / len(batch)).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.optimizer.zero_grad()
            if number % _SAVED_EVERY == 0 or number == len(steps):
                self._save(file, number)
        return there, len(steps) - there

    @torch.no_grad()
    def losses(self, samples: Sequence[Sample]) -> Losses:
        """Mean loss by task."""
        self.model.eval()
        found: dict[str, list[float]] = {}
        for sample in samples:
            found.setdefault(sample.task, []).append(float(self.loss(sample)))
        return {task: sum(values) / len(values) for task, values in found.items()}

    def loss(self, sample: Sample) -> Tensor:
        """Mean cross-entropy of the answer's tokens, scalar."""
        inputs = self._prompt(sample)
        end = self.tokenizer.eos_token or ""
        said = without_special(self.tokenizer, sample.answer)
        answer = self.tokenizer(f"{said}{end}", add_special_tokens=False)["input_ids"]
        answer = answer[: self.settings.tune_max_length // 2]
        prompt = inputs.pop("input_ids")  # [1, P]
        if sample.image is None:
            prompt = prompt[:, -(self.settings.tune_max_length - len(answer)) :]
        ids = torch.cat([prompt, torch.tensor([answer])], dim=1)  # [1, P + A]
        inputs.update(input_ids=ids, attention_mask=torch.ones_like(ids))
        if "mm_token_type_ids" in inputs:  # 0: of a text
            kinds = inputs["mm_token_type_ids"]
            inputs["mm_token_type_ids"] = F.pad(kinds, (0, len(answer)))
        logits = self.model(**{k: v.to(self.device) for k, v in inputs.items()}).logits[0]
        wanted = ids[0, prompt.shape[1] :].to(self.device)
        return F.cross_entropy(logits[prompt.shape[1] - 1 : -1].float(), wanted)

    def _prompt(self, sample: Sample) -> dict[str, Tensor]:
        """The model's inputs up to the answer."""
        shown: Any = without_special(self.tokenizer, sample.prompt)
        if self.processor is not self.tokenizer:
            shown = [{"type": "text", "text": shown}]
            shown = shown if sample.image is None else [{"type": "image"}, *shown]
        elif sample.image is not None:
            raise StageError(f"task '{sample.task}' has pictures, which this model cannot see")
        text = as_chat(self.processor, shown)
        images = {}
        if sample.image is not None:
            images["images"] = [read_picture(sample.image.read_bytes(), self.max_pixels)]
        special = lacks_special(self.tokenizer, text)
        options = {"return_tensors": "pt", "add_special_tokens": special}
        return dict(self.processor(text=[text], **options, **images))

    def _save(self, file: Path, step: int) -> None:
        state = {
            "config": {},  # of a run; this is none
            "step": step,
            "before": self.before,
            "adapter": {name: p.detach() for name, p in self.trained.items()},
            "optimizer": self.optimizer.state_dict(),
        }
        save_atomically(state, file)

    def _resume(self, file: Path, held: Sequence[Sample]) -> int:
        """Steps that were done before."""
        if not file.is_file():
            self.before = self.losses(held)
            return 0
        try:
            state = load_checkpoint(file)
        except ValueError as error:
            raise StageError(f"{error}; delete '{file}' to begin anew") from error
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(state["adapter"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.before = state["before"]
        return int(state["step"])


def _steps(samples: Sequence[Sample], settings: TuneSettings, seed: int) -> Iterator[list[Sample]]:
    """Batches of all epochs, the tasks mixed; the same in every process."""
    numbers, size = random.Random(seed), settings.tune_batch_size
    for _ in range(settings.tune_epochs):
        order = numbers.sample(samples, len(samples))
        yield from (order[start : start + size] for start in range(0, len(order), size))
