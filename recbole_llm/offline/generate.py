"""The base of stages whose texts are written by language models and kept in the store.

A subclass provides the ``prompts`` and the ``generators``; this class writes the artifact.
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
from recbole_llm.features.stored.generated_texts import MAX_CHARACTERS, TextStore, clean_text
from recbole_llm.features.stored.store import cache_dir
from recbole_llm.features.tables.table import EmbeddingTable
from recbole_llm.features.text import encode_named
from recbole_llm.offline.generators.base import Generator, check_generators
from recbole_llm.offline.stage import Stage, StageError, stage_class
from recbole_llm.offline.write_texts import log_cost, write_texts

TEXTS = "texts.jsonl"


class GenerateStage(Stage):
    """A stage whose artifact is a text for each of some training examples.

    If there are several `generators`, each writes a candidate for every example, and `best` chooses
    one. ``texts.jsonl`` has a line ``["example", "text"]`` per example, also for empty texts:
    asking again would not change them.
    """

    unit = "texts"

    @abstractmethod
    def prompts(self) -> Mapping[str, str]:
        """Return {example: prompt}, built from training interactions alone."""

    @abstractmethod
    def generators(self) -> Sequence[Generator]:
        """Return the generators, each of which writes a candidate for every example."""

    def best(self, prompts: Mapping[str, str], candidates: Sequence[Sequence[str]]) -> list[str]:
        """Choose a text per example from candidates [generator][example]."""
        return list(candidates[0])

    @cached_property
    def _prompts_and_generators(self) -> tuple[Mapping[str, str], Sequence[Generator]]:
        prompts = self.prompts()
        if not prompts:
            raise StageError(f"stage {self.name}: there is no training example to write about")
        generators = self.generators()
        check_generators(self.name, generators)
        return prompts, generators

    def inputs(self) -> Mapping[str, Any]:
        """Return digests of generators, examples and prompts, and the longest text."""
        prompts, generators = self._prompts_and_generators
        content = texts_digest(prompts.keys(), prompts.values())
        names = [generator.fingerprint for generator in generators]
        return {"generators": names, "prompts": content, "longest": MAX_CHARACTERS}

    def work(self, folder: Path) -> tuple[int, int]:
        """Write the texts that the store lacks, and the artifact."""
        prompts, generators = self._prompts_and_generators
        shown = shows_progress(self.config)
        candidates, written = [], 0
        with closing(TextStore(cache_dir(self.config))) as store:
            log_cost(generators, store, list(prompts.values()), self.name)
            for number, generator in enumerate(generators, 1):
                title = self.name if len(generators) == 1 else f"{self.name} {number}"
                texts, new = write_texts(generator, store, list(prompts.values()), title, shown)
                candidates.append(texts)
                written += new
        best = self.best(prompts, candidates)
        lines = [json.dumps(pair) for pair in zip(prompts, best, strict=True)]
        (folder / TEXTS).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return len(set(prompts.values())) * len(generators) - written, written

    def texts(self) -> dict[str, str]:
        """Return {example: text} of the artifact; the stage is completed first.

        Raises:
            StageError: the artifact is damaged.
        """
        self.complete()
        file = self.path / TEXTS
        try:
            pairs = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
            texts = {str(example): clean_text(text) for example, text in pairs}
            prompts, _ = self._prompts_and_generators
            if missing := prompts.keys() - texts.keys():  # such as after a copy that broke off
                raise ValueError(f"{len(missing):,} of {len(prompts):,} examples are not in it")
            return texts
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise StageError(f"'{file}' is damaged ({error}); delete '{self.path}'") from error


def example_text(config: Config, dataset: Dataset) -> EmbeddingTable:
    """Build the feature ``example_text`` from the model's stage that generates texts.

    Returns:
        Row 0, padding, and a row per example with a text; ``tokens`` names the examples.

    Raises:
        ValueError: the model has no such stage.
    """
    registry = get_registry()
    classes = [stage_class(registry.find(StageSpec, name)) for name in spec_of(config).stages]
    stage = next((cls for cls in classes if issubclass(cls, GenerateStage)), None)
    if stage is None:
        raise ValueError(
            f"feature 'example_text': {config['model']} has no stage that generates texts; name "
            f"one in its ModelSpec's stages"
        )
    texts = {example: text for example, text in stage(config, dataset).texts().items() if text}
    table = encode_named(config, texts, "example")
    matrix = np.vstack([np.zeros((1, table.dimension), np.float32), table.matrix])
    return EmbeddingTable(matrix, [PADDING, *table.tokens], table.fingerprint)
