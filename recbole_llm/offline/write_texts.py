"""Texts for prompts: read from the store, or written by a generator and stored as they arrive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from logging import getLogger
from typing import Any

from recbole_llm.core.digest import digest
from recbole_llm.core.lines import bar
from recbole_llm.core.log import show
from recbole_llm.features.stored.generated_texts import TextStore
from recbole_llm.offline.generators.base import Generator
from recbole_llm.offline.stage import StageError


def write_texts(
    generator: Generator,
    store: TextStore,
    prompts: Sequence[str],
    title: str = "Generating",
    progress: bool = True,
) -> tuple[list[str], int]:
    """Return a text per prompt; those that the store lacks are generated and stored as they arrive.

    The texts do not depend on what was stored before.

    Args:
        generator: called with the prompts that have no text yet, each once.
        store: read before and written after each batch.
        prompts: in any order, repeated or not.

    Returns:
        the texts, cleaned, in the order of the prompts; the number of texts generated now.

    Raises:
        StageError: the generator gives another number of texts, something other than texts, or
            nothing but empty ones.
        EncoderError: prompts failed; those that were answered have their texts.
    """
    keys, missing = _find_missing(generator, store, prompts)
    writer = _StoreWriter(store, keys, has_text=len(missing) < len(keys))
    shown = progress and bool(missing)
    with bar(total=len(missing), desc=title, unit="text", shown=shown) as progress_bar:

        def keep(texts: Mapping[str, str]) -> None:
            writer.add(texts)
            progress_bar.update(len(texts))
            _show_speed(progress_bar, generator)

        generator.write(missing, keep)
    if writer.waiting:
        raise StageError(
            f"{title}: the language model wrote nothing about any of {len(missing):,} prompts; "
            f"choose another generator_model, or raise generator_max_new_tokens if it thinks first"
        )
    stored = store.load(list(keys.values()))
    texts = {prompt: stored[key] for prompt, key in keys.items()}
    _warn_of_empty_texts(title, list(texts.values()))
    return [texts[prompt] for prompt in prompts], len(missing)


def log_cost(
    generators: Sequence[Generator], store: TextStore, prompts: Sequence[str], title: str
) -> None:
    """Log the cost of all texts that the store lacks, summed over generators with the same cost per
    prompt."""
    by_price: dict[str, tuple[Generator, list[str]]] = {}
    for generator in generators:
        _, missing = _find_missing(generator, store, prompts)
        if missing and (price := generator.cost(prompts[:1])):
            by_price.setdefault(price, (generator, []))[1].extend(missing)
    for generator, missing in by_price.values():
        show(f"{title}: {generator.cost(missing)}")


class _StoreWriter:
    """Adds texts to the store; empty ones wait for one that is not empty.

    If all are empty, the generator may be at fault, and the next run must ask it again.
    """

    def __init__(self, store: TextStore, keys: Mapping[str, bytes], has_text: bool) -> None:
        self.store, self.keys, self.has_text = store, keys, has_text
        self.waiting: dict[str, str] = {}

    def add(self, texts: Mapping[str, str]) -> None:
        """Add texts by prompt."""
        self.waiting |= texts
        if self.has_text or any(self.waiting.values()):
            self.store.add([self.keys[p] for p in self.waiting], list(self.waiting.values()))
            self.waiting, self.has_text = {}, True


def _find_missing(
    generator: Generator, store: TextStore, prompts: Sequence[str]
) -> tuple[dict[str, bytes], list[str]]:
    """Return the store's key of each prompt, and the prompts whose text it lacks."""
    keys = _store_keys(generator, store, list(dict.fromkeys(prompts)))
    stored = store.present(list(keys.values()))
    return keys, [prompt for prompt, key in keys.items() if key not in stored]


def _store_keys(generator: Generator, store: TextStore, prompts: list[str]) -> dict[str, bytes]:
    """Return a key per prompt, which covers its whole batch if that is written together.

    Such a batch is in the store as a whole or not at all, so that the missing prompts have the
    batches of all prompts.
    """
    if not generator.together:
        return dict(zip(prompts, store.keys(generator.fingerprint, prompts), strict=True))
    keys: dict[str, bytes] = {}
    for batch in generator.batches(prompts):
        name = digest(generator.fingerprint, batch)
        keys |= zip(batch, store.keys(name, batch), strict=True)
    return keys


def _warn_of_empty_texts(title: str, texts: list[str]) -> None:
    if empty := texts.count(""):
        getLogger("recbole_llm").warning(
            f"{title}: {empty:,} of {len(texts):,} texts are empty: the model may refuse, or reach "
            f"generator_max_new_tokens while it thinks"
        )


def _show_speed(progress_bar: Any, generator: Generator) -> None:
    seconds = progress_bar.format_dict["elapsed"]
    if generator.tokens and seconds:
        speed = f"{generator.tokens / seconds:.0f} tokens/s"
        progress_bar.set_postfix_str(speed, refresh=False)
