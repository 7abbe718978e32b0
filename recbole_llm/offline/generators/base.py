"""The base class of generators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

from recbole_llm.offline.stage import StageError

Keep = Callable[[Mapping[str, str]], None]


class Generator(ABC):
    """A language model that writes a text for each prompt.

    Creating one is cheap: a model is loaded by the first `generate`.
    """

    fingerprint: str
    """Changes whenever any text could change; every generator sets it."""

    batch_size: int = 16
    """Prompts per call of `generate`; their texts are stored together, so that a killed run repeats
    at most this many."""

    together: bool = False
    """Whether a text depends on the other prompts of its batch: stored texts are then found again
    only for the same batch."""

    tokens: int = 0
    """Tokens generated so far; the progress bar shows them per second."""

    @abstractmethod
    def generate(self, prompts: Sequence[str]) -> Sequence[str]:
        """Return one text per prompt, in order."""

    def cost(self, prompts: Sequence[str]) -> str:
        """Describe the cost of these prompts; logged before a stage starts, unless empty."""
        return ""

    def write(self, prompts: Sequence[str], keep: Keep) -> None:
        """Pass {prompt: text} to `keep` as texts arrive: here batch by batch.

        Raises:
            StageError: `generate` returned another number of texts, or something other than texts.
        """
        for batch in self.batches(prompts):
            keep(dict(zip(batch, self._generate_checked(batch), strict=True)))

    def batches(self, prompts: Sequence[str]) -> list[Sequence[str]]:
        """Split prompts into batches."""
        size = self.batch_size
        return [prompts[start : start + size] for start in range(0, len(prompts), size)]

    def _generate_checked(self, prompts: Sequence[str]) -> Sequence[str]:
        texts: object = self.generate(prompts)
        if not isinstance(texts, Sequence):
            raise StageError(f"the generator gave a {type(texts).__name__} in place of texts")
        if isinstance(texts, str) or len(texts) != len(prompts):
            raise StageError(f"the generator gave {len(texts)} texts for {len(prompts)} prompts")
        wrong = [type(text).__name__ for text in texts if not isinstance(text, str)]
        if wrong:
            raise StageError(f"the generator gave a {wrong[0]} in place of a text")
        return texts


def check_generators(stage: str, generators: object) -> None:
    """Refuse what a stage's ``generators()`` returned unless it is a list of generators."""
    if not isinstance(generators, Sequence):
        raise StageError(
            f"stage {stage}: generators() returned a {type(generators).__name__}; it must return "
            f"a list of generators"
        )
    for generator in generators:
        name = type(generator).__name__
        if not isinstance(generator, Generator):
            raise StageError(
                f"stage {stage}: {name} must extend recbole_llm.offline.generators.Generator "
                f"(docs/plugins.md)"
            )
        if not hasattr(generator, "fingerprint"):
            raise StageError(f"stage {stage}: {name} has no fingerprint, which a generator needs")
