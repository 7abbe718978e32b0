"""RecGen, which tunes the language model to recommend before it writes chains of thought.

Recommendations from the data set are mixed with general instructions, so that the model keeps its
abilities. Of the interactions, only those of training are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from recbole_llm.core.errors import missing_file_error
from recbole_llm.core.files import expanded
from recbole_llm.models.llmcf.examples import training_examples
from recbole_llm.models.llmcf.settings import RecGenSettings
from recbole_llm.models.llmcf.thoughts import facts_of
from recbole_llm.offline.adapter_stage import TuneStage
from recbole_llm.offline.adapter_training import Sample

_FORM = '{"instruction": "…", "output": "…"}, perhaps with "input"'


class RecGenStage(TuneStage):
    """Tunes the generator's model on recommendations and general instructions; its adapter goes to
    `generator_adapter`."""

    name, key_prefix = "recgen", "generator"

    def samples(self) -> Sequence[Sample]:
        """Samples of three tasks: was an item chosen, which came next, general instructions."""
        file = RecGenSettings.of(self.config).recgen_instructions
        general = [] if file is None else list(instructions(file))
        return [*self._recommendations(), *general]

    def _recommendations(self) -> Iterator[Sample]:
        count, seed = 2 * self.settings.tune_samples, int(self.config["seed"])
        examples = training_examples(self.config, self.dataset, count, seed)
        chosen = dict(zip(examples.names, examples.labels.astype(bool), strict=True))
        both = len(set(chosen.values())) > 1
        for name, (*history, target) in facts_of(self.config, self.dataset, examples).items():
            if not history:
                continue
            listed = "; ".join(history)
            if both:
                asked = f"A user chose, oldest first: {listed}. Would the user choose: {target}?"
                answer = "Yes." if chosen[name] else "No."
                yield Sample("choice", f"{asked} Answer Yes or No.", answer, subject=name)
            if chosen[name]:
                asked = f"A user chose, oldest first: {listed}. What next?"
                yield Sample("next", asked, target, subject=name)


def instructions(file: str) -> Iterator[Sample]:
    """Read general instructions, one JSON object per line.

    Raises:
        ValueError: there is no such file, or a line has another form.
    """
    path = expanded(file)
    if not path.is_file():
        raise missing_file_error("recgen_instructions:", file)
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _instruction(line, f"recgen_instructions: '{file}' line {number}")


def _instruction(line: str, where: str) -> Sample:
    try:
        row = json.loads(line)
        asked, answer, more = (row.get(key, "") for key in ("instruction", "output", "input"))
    except (ValueError, AttributeError):
        asked = answer = more = None
    if not all(isinstance(text, str) for text in (asked, answer, more)) or not (asked and answer):
        raise ValueError(f"{where} is not of the form {_FORM}")
    return Sample("general", f"{asked}\n{more}".strip(), answer)
