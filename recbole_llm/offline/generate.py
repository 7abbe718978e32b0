"""Texts that a language model writes, kept in the store: the base of such stages.

A method says what is asked (``prompts``) and who answers (``generators``); batching, resuming,
cleaning and the artifact are here. Texts are data: bounded, cleaned, never interpreted.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cached_property
from logging import getLogger
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from recbole.config import Config
from recbole.data.dataset import Dataset

from recbole_llm.core.digest import digest, texts_digest
from recbole_llm.core.lines import bar
from recbole_llm.core.log import SHOWN
from recbole_llm.core.plugins import get_registry
from recbole_llm.core.specs import spec_of
from recbole_llm.core.tokens import PADDING
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.generated_texts import MAX_CHARACTERS, TextStore, clean_text
from recbole_llm.features.store import cache_dir
from recbole_llm.features.table import EmbeddingTable
from recbole_llm.features.text import encode_named
from recbole_llm.offline.stage import Stage, StageError, stage_class

TEXTS = "texts.jsonl"
BATCH = 16


class Unfinished(EncoderError):
    """A prompt of several failed for a `reason`, or was interrupted, if its cause is that.

    `texts` are those of the prompts that were answered, and are kept.
    """

    def __init__(self, reason: object, texts: Mapping[str, str]) -> None:
        super().__init__(str(reason))
        self.texts = texts


class Generator(Protocol):
    """Prompts to texts. Making one is cheap; a model is loaded by the first ``generate``.

    One that counts its tokens (``tokens``, generated so far) has them shown by the second; one with
    ``cost(prompts)`` has the line that it gives logged before it starts. ``batch_size`` prompts
    (`BATCH`, where it has none) are asked at once and then kept: the most that a killed run
    repeats. One whose text on a prompt depends on the prompts beside it has ``together = True``.
    """

    @property
    def fingerprint(self) -> str:
        """Changes whenever any text could change."""

    def generate(self, prompts: Sequence[str]) -> Sequence[str]:
        """One text per prompt, in order; `Unfinished` where some are there and others fail."""


def generate_texts(
    generator: Generator,
    store: TextStore,
    prompts: Sequence[str],
    title: str = "Generating",
    progress: bool = True,
) -> tuple[list[str], int]:
    """Texts of prompts; those that the store lacks are generated, and stored batch by batch.

    They are the same whatever was stored before.

    Args:
        generator: called with the prompts that have no text yet, each once.
        store: read before and written after each batch.
        prompts: in any order, repeated or not.
        title: of the progress bar.
        progress: whether to show it.

    Returns:
        the texts, cleaned, in the order of the prompts; the number of texts generated now.

    Raises:
        StageError: the generator gives another number of texts, or something else than texts.
    """
    unique = list(dict.fromkeys(prompts))
    size = getattr(generator, "batch_size", BATCH)
    keys = _keys(generator, store, unique, size)
    known = store.present(list(keys.values()))
    todo = [p for p in unique if keys[p] not in known]
    if known and hasattr(generator, "answered"):
        generator.answered = True
    shown = progress and bool(todo)
    if todo and hasattr(generator, "cost"):
        getLogger("recbole_llm").info(f"{title}: {generator.cost(todo)}", extra=SHOWN)
    with bar(total=len(todo), desc=title, unit="text", shown=shown) as told:
        for start in range(0, len(todo), size):
            batch = todo[start : start + size]
            try:
                store.add([keys[p] for p in batch], _answers(generator, batch))
            except Unfinished as error:
                store.add([keys[p] for p in error.texts], list(error.texts.values()))
                if isinstance(error.__cause__, KeyboardInterrupt):
                    raise error.__cause__ from None
                raise
            told.update(len(batch))
            _show_speed(told, generator)
    texts = store.load(list(keys.values()))
    _tell_empty(title, [texts[key] for key in keys.values()])
    return [texts[keys[p]] for p in prompts], len(todo)


def _keys(
    generator: Generator, store: TextStore, prompts: list[str], size: int
) -> dict[str, bytes]:
    """The store's key of each prompt; that of its whole batch where these are written together.

    Such a batch is in the store as a whole or not at all, so that what is left to do has the
    batches of all prompts.
    """
    if not getattr(generator, "together", False):
        return dict(zip(prompts, store.keys(generator.fingerprint, prompts), strict=True))
    keys: dict[str, bytes] = {}
    for start in range(0, len(prompts), size):
        batch = prompts[start : start + size]
        name = digest(generator.fingerprint, batch)
        keys |= zip(batch, store.keys(name, batch), strict=True)
    return keys


def _tell_empty(title: str, texts: list[str]) -> None:
    if empty := texts.count(""):
        getLogger("recbole_llm").warning(
            f"{title}: {empty:,} of {len(texts):,} texts are empty, as of a model that refuses, or "
            f"whose generator_max_new_tokens end while it thinks"
        )


def _show_speed(told: Any, generator: Generator) -> None:
    tokens, seconds = getattr(generator, "tokens", 0), told.format_dict["elapsed"]
    if tokens and seconds:
        told.set_postfix_str(f"{tokens / seconds:.0f} tokens/s", refresh=False)


def _answers(generator: Generator, prompts: list[str]) -> list[str]:
    texts = generator.generate(prompts)
    if isinstance(texts, str) or len(texts) != len(prompts):
        raise StageError(f"the generator gave {len(texts)} texts for {len(prompts)} prompts")
    wrong = [type(t).__name__ for t in texts if not isinstance(t, str)]
    if wrong:
        raise StageError(f"the generator gave a {wrong[0]} in place of a text")
    return list(texts)


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
        return prompts, self.generators()

    def inputs(self) -> Mapping[str, Any]:
        """Generators, examples, prompts and bounds."""
        prompts, generators = self._asked
        content = texts_digest(prompts.keys(), prompts.values())
        names = [generator.fingerprint for generator in generators]
        return {"generators": names, "prompts": content, "longest": MAX_CHARACTERS}

    def work(self, folder: Path) -> tuple[int, int]:
        """Ask for the texts that the store lacks."""
        prompts, generators = self._asked
        shown = self.config["show_progress"] is not False
        candidates, done = [], 0
        with closing(TextStore(cache_dir(self.config))) as store:
            for number, generator in enumerate(generators, 1):
                title = self.name if len(generators) == 1 else f"{self.name} {number}"
                texts, made = generate_texts(generator, store, list(prompts.values()), title, shown)
                candidates.append(texts)
                done += made
        lines = [
            json.dumps(pair) for pair in zip(prompts, self.best(prompts, candidates), strict=True)
        ]
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
    classes = [stage_class(registry.stage(name)) for name in spec_of(config).stages]
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
