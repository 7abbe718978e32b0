"""The stage that writes chains of thought about training examples."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from recbole.data.dataset import Dataset

from recbole_llm.core.config import Config
from recbole_llm.core.digest import digest
from recbole_llm.features.contents.prompts import item_texts
from recbole_llm.features.contents.templates import find_template
from recbole_llm.features.encoders.base import create_encoder
from recbole_llm.features.text import encode_named
from recbole_llm.models.llmcf.examples import Examples, training_examples
from recbole_llm.models.llmcf.settings import ThoughtSettings
from recbole_llm.offline.generate import GenerateStage
from recbole_llm.offline.generators import Generator, create_generators
from recbole_llm.offline.stage import StageReport

Vectors = Mapping[str, npt.NDArray[np.float32]]  # of length 1
_OF_AN_ITEM, _OF_THE_TARGET = 100, 300  # characters of a text in a prompt
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


class WriteThoughts(GenerateStage):
    """A language model writes candidates for each example; the best by `candidate_scores` is
    kept."""

    name = "thoughts"

    @cached_property
    def settings(self) -> ThoughtSettings:
        """The stage's keys."""
        return ThoughtSettings.of(self.config)

    def complete(self) -> StageReport:
        """Write the missing texts, or none if the model reads no such texts."""
        if self.settings.thoughts != "llm":
            return StageReport(self.name, 0, 0, self.unit, 0.0)
        return super().complete()

    def generators(self) -> Sequence[Generator]:
        """Return one generator per candidate."""
        return create_generators(self.config, self.settings.thought_candidates)

    @cached_property
    def examples(self) -> Examples:
        """The examples, of training interactions alone."""
        return training_examples(self.config, self.dataset)

    @cached_property
    def facts(self) -> dict[str, list[str]]:
        """See `facts_of`."""
        return facts_of(self.config, self.dataset, self.examples)

    def prompts(self) -> Mapping[str, str]:
        """{example: prompt}, shortest first, so that batches hold little padding."""
        dataset = str(self.config["dataset"])
        template = find_template(self.settings.thought_prompt, "thought_prompt", "thought", dataset)
        chosen = dict(zip(self.examples.names, self.examples.labels.astype(bool), strict=True))
        prompts = {
            name: template.render(
                {"history": facts[:-1], "target": facts[-1], "chosen": bool(chosen[name])}
            )
            for name, facts in self.facts.items()
        }
        return dict(sorted(prompts.items(), key=lambda pair: len(pair[1])))

    def inputs(self) -> Mapping[str, Any]:
        """Return the inputs of the texts and, with several candidates, of the choice."""
        inputs = dict(super().inputs())
        if self.settings.thought_candidates > 1:
            facts = [[name, *known] for name, known in self.facts.items()]
            encoder: Any = create_encoder(self.config)  # never precomputed, see `check`
            inputs["chosen by"] = [encoder.fingerprint, digest(facts)]
        return inputs

    def best(self, prompts: Mapping[str, str], candidates: Sequence[Sequence[str]]) -> list[str]:
        """The candidate with the highest sum of scores for each example."""
        per_example = list(zip(*candidates, strict=True))
        if len(candidates) == 1:
            return [texts[0] for texts in per_example]
        facts = [self.facts[name] for name in prompts]
        vectors = self._vectors(per_example, facts)
        return [
            texts[int(np.argmax(candidate_scores(texts, known, vectors).sum(1)))]
            for texts, known in zip(per_example, facts, strict=True)
        ]

    def _vectors(self, texts: Sequence[Sequence[str]], facts: Sequence[Sequence[str]]) -> Vectors:
        whole = [text for group in (*texts, *facts) for text in group]
        cut = [part for group in texts for text in group for part in sentences(text)]
        named = {text: text for text in (*whole, *cut) if text}
        table = encode_named(self.config, named, "sentence")
        norms = np.linalg.norm(table.matrix, axis=1, keepdims=True)
        units = table.matrix / np.maximum(norms, 1e-12)
        return dict(zip(table.tokens, units, strict=True))


def facts_of(config: Config, dataset: Dataset, examples: Examples) -> dict[str, list[str]]:
    """Return {example: facts for its prompt}: the beginnings of the texts of the last
    `thought_history` items that the user chose, then of the target. Examples whose target has no
    text are left out."""
    texts = item_texts(config, dataset)
    tokens = [str(t) for t in dataset.field2id_token[dataset.iid_field]]
    longest = ThoughtSettings.of(config).thought_history
    facts = {}
    for name, history, item in zip(examples.names, examples.chosen, examples.items, strict=True):
        before = [texts.get(tokens[i], "") for i in history[history != 0][-longest:]]
        target = texts.get(tokens[item])
        if target:
            known = [text[:_OF_AN_ITEM] for text in before if text]
            facts[name] = [*known, target[:_OF_THE_TARGET]]
    return facts


def sentences(text: str) -> list[str]:
    """The distinct sentences of a text, in order.

    >>> sentences("It is old. So what? It is old.")
    ['It is old.', 'So what?']
    """
    parts = (part.strip() for part in _SENTENCE_END.split(text))
    return list(dict.fromkeys(filter(None, parts)))


def candidate_scores(
    texts: Sequence[str], facts: Sequence[str], vectors: Vectors
) -> npt.NDArray[np.float64]:
    """Scores of the candidates for an example, by cosines of sentence embeddings.

    - coherence: of each sentence with the next, mean; 0 for a single sentence. Repetitions are left
      out, so that a text that repeats itself gains nothing;
    - completeness: of each fact of the prompt with the sentence nearest to it, mean;
    - relevance: of the text with the target;
    - consistency: of the text with the other candidates, mean.

    The paper names the four scores; the way to compute them is this package's.

    Args:
        texts: C candidates.
        facts: texts of the history's items, and the target's.
        vectors: of all texts, of their sentences, and of the facts.

    Returns:
        [C, 4]; minus infinity for an empty text.
    """
    known = np.stack([vectors[fact] for fact in facts])
    scores = np.full((len(texts), 4), -np.inf)
    for row, text in enumerate(texts):
        if not text:
            continue
        parts = np.stack([vectors[s] for s in sentences(text)])  # [S, D]
        whole = vectors[text]
        others = [vectors[t] for i, t in enumerate(texts) if t and i != row]
        scores[row] = (
            (parts[1:] * parts[:-1]).sum(1).mean() if len(parts) > 1 else 0,
            (known @ parts.T).max(1).mean(),
            whole @ known[-1],
            np.mean([whole @ other for other in others]) if others else 0,
        )
    return scores
