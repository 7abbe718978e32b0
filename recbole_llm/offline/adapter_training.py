"""Training of a language model's low-rank adapters on samples."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_llm.core.checkpoints.checkpoint import load_checkpoint, write_checkpoint
from recbole_llm.core.errors import one_line
from recbole_llm.core.lines import bar
from recbole_llm.core.memory import memory_needed_by
from recbole_llm.features.contents.pictures import read_picture
from recbole_llm.features.encoders.adapters import load_tunable
from recbole_llm.features.encoders.decoders import (
    Source,
    as_chat,
    lacks_special,
    without_special,
)
from recbole_llm.layers.decoder import adapter_settings
from recbole_llm.offline.settings import TuneSettings
from recbole_llm.offline.stage import StageError

_SAVE_EVERY = 10  # steps; a killed run repeats this many at most
Losses = dict[str, float]


@dataclass(frozen=True)
class Sample:
    """One answer to learn, given a prompt."""

    task: str  # losses are averaged by task
    prompt: str
    answer: str
    image: Path | None = None  # goes before the prompt
    subject: str = ""  # item or example that tasks share; held out of one task, none learns it


class AdapterTrainer:
    """Trains the adapters of a language model."""

    losses_before: Losses  # of held-out samples, before the first step

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
        self,
        learnt: Sequence[Sample],
        held_out: Sequence[Sample],
        file: Path,
        seed: int,
        shown: bool,
    ) -> tuple[int, int]:
        """Train from the state in a file, if it exists, and save states there.

        Returns:
            steps done by earlier runs, steps done now.
        """
        before = self._resume(file, held_out)
        steps = list(_shuffled_batches(learnt, self.settings, seed))
        self.model.train()
        progress = bar(steps[before:], desc="Tuning", unit="step", shown=shown)
        for number, batch in enumerate(progress, before + 1):
            torch.manual_seed(seed + number)  # for dropout; the same in a resumed run
            self._step(batch)
            if number % _SAVE_EVERY == 0 or number == len(steps):
                self._save(file, number)
        return before, len(steps) - before

    def _step(self, batch: list[Sample]) -> None:
        way_out = "lower tune_max_length, or tune a smaller model"
        for sample in batch:  # one by one: no padding, pictures of any size
            with memory_needed_by("a tuning step", way_out):
                (self.loss(sample) / len(batch)).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def mean_losses(self, samples: Sequence[Sample]) -> Losses:
        """Return the mean loss by task."""
        self.model.eval()
        losses: dict[str, list[float]] = {}
        for sample in samples:
            losses.setdefault(sample.task, []).append(float(self.loss(sample)))
        return {task: sum(values) / len(values) for task, values in losses.items()}

    def loss(self, sample: Sample) -> Tensor:
        """Return the mean cross-entropy of the answer's tokens, scalar."""
        inputs = self._prompt_inputs(sample)
        end = self.tokenizer.eos_token or ""
        text = without_special(self.tokenizer, sample.answer)
        answer = self.tokenizer(f"{text}{end}", add_special_tokens=False)["input_ids"]
        answer = answer[: self.settings.tune_max_length // 2]
        prompt = inputs.pop("input_ids")  # [1, P]
        if sample.image is None:
            prompt = prompt[:, -(self.settings.tune_max_length - len(answer)) :]
        ids = torch.cat([prompt, torch.tensor([answer])], dim=1)  # [1, P + A]
        inputs.update(input_ids=ids, attention_mask=torch.ones_like(ids))
        if "mm_token_type_ids" in inputs:  # 0: a token of text
            types = inputs["mm_token_type_ids"]
            inputs["mm_token_type_ids"] = F.pad(types, (0, len(answer)))
        logits = self.model(**{k: v.to(self.device) for k, v in inputs.items()}).logits[0]
        targets = ids[0, prompt.shape[1] :].to(self.device)
        return F.cross_entropy(logits[prompt.shape[1] - 1 : -1].float(), targets)

    def _prompt_inputs(self, sample: Sample) -> dict[str, Tensor]:
        """Return the model's inputs up to the answer."""
        content: Any = without_special(self.tokenizer, sample.prompt)
        if self.processor is not self.tokenizer:
            content = [{"type": "text", "text": content}]
            content = content if sample.image is None else [{"type": "image"}, *content]
        elif sample.image is not None:
            raise StageError(f"task '{sample.task}' has pictures, which this model cannot see")
        text = as_chat(self.processor, content)
        images = {}
        if sample.image is not None:
            images["images"] = [read_picture(sample.image.read_bytes(), self.max_pixels)]
        special = lacks_special(self.tokenizer, text)
        options = {"return_tensors": "pt", "add_special_tokens": special}
        return dict(self.processor(text=[text], **options, **images))

    def _save(self, file: Path, step: int) -> None:
        state = {
            "config": {},  # every checkpoint has a configuration; here it is empty
            "step": step,
            "before": self.losses_before,
            "adapter": {name: p.detach() for name, p in self.trained.items()},
            "optimizer": self.optimizer.state_dict(),
        }
        write_checkpoint(state, file, "free some space, or set embedding_cache_dir")

    def _resume(self, file: Path, held_out: Sequence[Sample]) -> int:
        """Load the state in a file, if it exists; return the steps done by earlier runs."""
        if not file.is_file():
            self.losses_before = self.mean_losses(held_out)
            return 0
        try:
            return self._restore(load_checkpoint(file))
        except ValueError as error:
            raise StageError(f"{error}; delete '{file}' to begin anew") from error
        except (KeyError, RuntimeError) as error:  # such as after an update of peft
            raise StageError(
                f"'{file}' is of other adapters ({one_line(error)}); delete it to begin anew"
            ) from error

    @torch.no_grad()
    def _restore(self, state: dict[str, Any]) -> int:
        for name, parameter in self.trained.items():
            parameter.copy_(state["adapter"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.losses_before = state["before"]
        return int(state["step"])


def _shuffled_batches(
    samples: Sequence[Sample], settings: TuneSettings, seed: int
) -> Iterator[list[Sample]]:
    """Yield the batches of all epochs, tasks mixed; the same in every process."""
    numbers, size = random.Random(seed), settings.tune_batch_size
    for _ in range(settings.tune_epochs):
        order = numbers.sample(samples, len(samples))
        yield from (order[start : start + size] for start in range(0, len(order), size))
