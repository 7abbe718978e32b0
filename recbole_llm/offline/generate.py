"""Texts that a language model writes, kept in the store: the base of such stages.

A method says what is asked (``prompts``) and who answers (``generators``); the artifact is here.
Texts are data: bounded, cleaned, never interpreted.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from recbole.config import Config
from recbole.data.dataset import Dataset

from recbole_llm.core.checkpoints.tokens import PADDING
from recbole_llm.core.digest import texts_digest
from recbole_llm.core.lines import shows_progress
from recbole_llm.core.plugins.loading import get_registry
from recbole_llm.core.plugins.registry import StageSpec
from recbole_llm.core.plugins.specs import spec_of
from recbole_llm.features.generated_texts import MAX_CHARACTERS, TextStore, clean_text
from recbole_llm.features.store import cache_dir
from recbole_llm.features.table import EmbeddingTable
from recbole_llm.features.text import encode_named
from recbole_llm.offline.ask import Generator, check_generators, generate_texts, tell_cost
from recbole_llm.offline.stage import Stage, StageError, stage_class

TEXTS = "texts.jsonl"


class GenerateStage(Stage):
    """A stage whose artifact is a text for each of some training examples.

    With several `generators` each writes a candidate for every example, and `best` takes one.
    ``texts.jsonl`` has a line ``["example", "text"]`` per example. Examples whose text is empty
    are kept, too: asking again would not change it.
    """

    unit = "texts"

    @abstractmethod
    def prompts(self) -> Mapping[str, str]:
        """{example: prompt}, of training interactions alone."""

    @abstractmethod
    def generators(self) -> Sequence[Generator]:
        """Whoever writes a candidate for each example."""

    def best(self, prompts: Mapping[str, str], candidates: Sequence[Sequence[str]]) -> list[str]:
        """One text per example, of the generators' candidates [generator][example]."""
        return list(candidates[0])

    @cached_property
    def _asked(self) -> tuple[Mapping[str, str], Sequence[Generator]]:
        prompts = self.prompts()
        if not prompts:
            raise StageError(f"stage {self.name}: there is no training example to write about")
        generators = self.generators()
        check_generators(self.name, generators)
        return prompts, generators

    def inputs(self) -> Mapping[str, Any]:
        """Generators, examples, prompts and bounds."""
        prompts, generators = self._asked
        content = texts_digest(prompts.keys(), prompts.values())
        names = [generator.fingerprint for generator in generators]
        return {"generators": names, "prompts": content, "longest": MAX_CHARACTERS}

    def work(self, folder: Path) -> tuple[int, int]:
        """Ask for the texts that the store lacks."""
        prompts, generators = self._asked
        shown = shows_progress(self.config)
        asked, candidates, done = list(prompts.values()), [], 0
        with closing(TextStore(cache_dir(self.config))) as store:
            tell_cost(generators, store, asked, self.name)
            for number, generator in enumerate(generators, 1):
                title = self.name if len(generators) == 1 else f"{self.name} {number}"
                texts, made = generate_texts(generator, store, asked, title, shown)
                candidates.append(texts)
                done += made
        best = self.best(prompts, candidates)
        lines = [json.dumps(pair) for pair in zip(prompts, best, strict=True)]
        (folder / TEXTS).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return len(prompts) * len(generators) - done, done

    def texts(self) -> dict[str, str]:
        """{example: text} of the finished stage, which is done first where it is missing.

        Raises:
            StageError: the artifact is damaged.
        """
        self.complete()
        file = self.path / TEXTS
        try:
            pairs = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
            return {str(example): clean_text(text) for example, text in pairs}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise StageError(f"'{file}' is damaged ({error}); delete '{self.path}'") from error


def example_text(config: Config, dataset: Dataset) -> EmbeddingTable:
    """Build the feature ``example_text`` from the model's stage that generates texts.

    Returns:
        A row for each example with a text, after row 0, padding; ``tokens`` names the examples.

    Raises:
        ValueError: the model has no such stage.
    """
    registry = get_registry()
    classes = [stage_class(registry.find(StageSpec, name)) for name in spec_of(config).stages]
    own = next((cls for cls in classes if issubclass(cls, GenerateStage)), None)
    if own is None:
        raise ValueError(
            f"feature 'example_text': {config['model']} has no stage that generates texts; name "
            f"one in its ModelSpec's stages"
        )
    texts = {example: text for example, text in own(config, dataset).texts().items() if text}
    table = encode_named(config, texts, "example")
    matrix = np.vstack([np.zeros((1, table.dimension), np.float32), table.matrix])
    return EmbeddingTable(matrix, [PADDING, *table.tokens], table.fingerprint)
