"""Prompts to texts, batch by batch, kept in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from logging import getLogger
from typing import Any, Protocol

from recbole_llm.core.digest import digest
from recbole_llm.core.lines import bar
from recbole_llm.core.log import show
from recbole_llm.features.generated_texts import TextStore
from recbole_llm.offline.stage import StageError

BATCH = 16


class Generator(Protocol):
    """Prompts to texts. Making one is cheap; a model is loaded by the first ``generate``.

    One that counts its tokens (``tokens``, generated so far) has them shown by the second; one with
    ``cost(prompts)`` has the line that it gives logged before a stage starts. ``batch_size``
    prompts (`BATCH`, where it has none) are asked at once and then kept: the most that a killed run
    repeats. One whose text on a prompt depends on the prompts beside it has ``together = True``.
    One with ``write(prompts, keep)`` is given all prompts instead, and calls ``keep`` with
    {prompt: text} of a few of them as they come.
    """

    @property
    def fingerprint(self) -> str:
        """Changes whenever any text could change."""

    def generate(self, prompts: Sequence[str]) -> Sequence[str]:
        """One text per prompt, in order."""


def check_generators(stage: str, generators: object) -> None:
    """Refuse what a stage's ``generators()`` returned, if it is no list of generators."""
    if not isinstance(generators, Sequence):
        raise StageError(
            f"stage {stage}: generators() returned a {type(generators).__name__}; it is to return "
            f"a list of generators"
        )
    for generator in generators:
        if not (hasattr(generator, "fingerprint") and hasattr(generator, "generate")):
            raise StageError(
                f"stage {stage}: {type(generator).__name__} is no generator, which has a "
                f"fingerprint and generate(prompts) (docs/plugins.md)"
            )


def generate_texts(
    generator: Generator,
    store: TextStore,
    prompts: Sequence[str],
    title: str = "Generating",
    progress: bool = True,
) -> tuple[list[str], int]:
    """Texts of prompts; those that the store lacks are generated, and stored as they come.

    They are the same whatever was stored before.

    Args:
        generator: called with the prompts that have no text yet, each once.
        store: read before and written after each batch.
        prompts: in any order, repeated or not.

    Returns:
        the texts, cleaned, in the order of the prompts; the number of texts generated now.

    Raises:
        StageError: the generator gives another number of texts, something else than texts, or
            nothing but empty ones.
        EncoderError: prompts failed; those that were answered have their texts.
    """
    keys, todo = _lacking(generator, store, prompts)
    kept = _Kept(store, keys, some=len(todo) < len(keys))
    shown = progress and bool(todo)
    with bar(total=len(todo), desc=title, unit="text", shown=shown) as told:

        def keep(texts: Mapping[str, str]) -> None:
            kept.add(texts)
            told.update(len(texts))
            _show_speed(told, generator)

        if hasattr(generator, "write"):
            generator.write(todo, keep)
        else:
            for batch in _batches(generator, todo):
                keep(dict(zip(batch, _answers(generator, batch), strict=True)))
    if kept.waiting:
        raise StageError(
            f"{title}: the language model wrote nothing about any of {len(todo):,} prompts; "
            f"choose another generator_model, or raise generator_max_new_tokens if it thinks first"
        )
    texts = store.load(list(keys.values()))
    _tell_empty(title, [texts[key] for key in keys.values()])
    return [texts[keys[p]] for p in prompts], len(todo)


def tell_cost(
    generators: Sequence[Generator], store: TextStore, prompts: Sequence[str], title: str
) -> None:
    """Log what all texts that the store lacks take; in one sum for generators that say the same of
    a prompt."""
    alike: dict[str, tuple[Any, list[str]]] = {}
    for generator in generators:
        _, todo = _lacking(generator, store, prompts)
        if todo and hasattr(generator, "cost"):
            alike.setdefault(generator.cost(prompts[:1]), (generator, []))[1].extend(todo)
    for one, todo in alike.values():
        show(f"{title}: {one.cost(todo)}")


class _Kept:
    """What goes into the store; empty texts wait for one that is not: where all are empty, the
    generator may be at fault, and is to be asked again."""

    def __init__(self, store: TextStore, keys: Mapping[str, bytes], some: bool) -> None:
        self.store, self.keys, self.some = store, keys, some
        self.waiting: dict[str, str] = {}

    def add(self, texts: Mapping[str, str]) -> None:
        """Texts by prompt."""
        self.waiting |= texts
        if self.some or any(self.waiting.values()):
            self.store.add([self.keys[p] for p in self.waiting], list(self.waiting.values()))
            self.waiting, self.some = {}, True


def _lacking(
    generator: Generator, store: TextStore, prompts: Sequence[str]
) -> tuple[dict[str, bytes], list[str]]:
    """The store's key of each prompt, and the prompts whose text it lacks."""
    keys = _keys(generator, store, list(dict.fromkeys(prompts)))
    known = store.present(list(keys.values()))
    return keys, [prompt for prompt, key in keys.items() if key not in known]


def _keys(generator: Generator, store: TextStore, prompts: list[str]) -> dict[str, bytes]:
    """The store's key of each prompt; that of its whole batch where these are written together.

    Such a batch is in the store as a whole or not at all, so that what is left to do has the
    batches of all prompts.
    """
    if not getattr(generator, "together", False):
        return dict(zip(prompts, store.keys(generator.fingerprint, prompts), strict=True))
    keys: dict[str, bytes] = {}
    for batch in _batches(generator, prompts):
        name = digest(generator.fingerprint, batch)
        keys |= zip(batch, store.keys(name, batch), strict=True)
    return keys


def _batches(generator: Generator, prompts: list[str]) -> list[list[str]]:
    size = getattr(generator, "batch_size", BATCH)
    return [prompts[start : start + size] for start in range(0, len(prompts), size)]


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
    if not isinstance(texts, Sequence):
        raise StageError(f"the generator gave a {type(texts).__name__} in place of texts")
    if isinstance(texts, str) or len(texts) != len(prompts):
        raise StageError(f"the generator gave {len(texts)} texts for {len(prompts)} prompts")
    wrong = [type(t).__name__ for t in texts if not isinstance(t, str)]
    if wrong:
        raise StageError(f"the generator gave a {wrong[0]} in place of a text")
    return list(texts)
