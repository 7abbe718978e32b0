"""RecGen: which samples the writer of chains of thought learns, and which model is tuned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_llmcf import LABELED, config, training_split

from recbole_llm.features.contents.prompts import item_texts
from recbole_llm.models.llmcf.examples import training_examples
from recbole_llm.models.llmcf.recgen import RecGenStage, instructions
from recbole_llm.offline.adapter_training import Sample


def stage(model: str = "LLMCF", **keys: Any) -> RecGenStage:
    made = config(model, **keys)
    return RecGenStage(made, training_split(made))


def by_task(made: RecGenStage) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for sample in made.samples():
        found.setdefault(sample.task, []).append(sample)
    return found


def test_recommendations_of_either_outcome_and_general_instructions() -> None:
    rows = [
        {"instruction": "Add.", "input": "1 2", "output": "3"},
        {"instruction": "Greet.", "output": "Hello."},
    ]
    Path("general.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    made = stage(**LABELED, tune_samples=20, recgen_instructions="general.jsonl")
    found = by_task(made)
    assert found["general"] == [
        Sample("general", "Add.\n1 2", "3"), Sample("general", "Greet.", "Hello.")
    ]  # fmt: skip
    examples = training_examples(made.config, made.dataset, 40, made.config["seed"])
    assert examples.labels.sum() == 20
    told = examples.chosen.any(1)  # without an item that the user chose, there is nothing to ask
    asked = examples.select(np.flatnonzero(told))
    due = {name: "Yes." if label else "No." for name, label in zip(asked.names, asked.labels)}
    assert {sample.subject: sample.answer for sample in found["choice"]} == due and not told.all()
    chosen = {sample.subject for sample in found["next"]}
    assert all(
        (sample.answer == "Yes.") == (sample.subject in chosen) for sample in found["choice"]
    )
    texts = set(item_texts(config(), training_split(config())).values())
    assert {sample.answer for sample in found["next"]} <= texts
    assert len(found["next"]) == asked.labels.sum()


def test_histories_without_any_text_are_left_out() -> None:
    config()  # writes the data set
    file = Path("dataset/tiny/tiny.item")
    header, *rows = file.read_text().splitlines()
    blank = [row.split("\t")[0] + "\t" * row.count("\t") for row in rows]
    file.write_text("\n".join([header, *blank[::2], *rows[1::2]]) + "\n")
    found = stage(**LABELED, MAX_ITEM_LIST_LENGTH=1, missing_embedding="zeros").samples()
    assert found and not any("first: . " in sample.prompt for sample in found)


def test_a_model_that_ranks_learns_what_came_next_alone() -> None:
    assert set(by_task(stage("LLMCFRetrieval", tune_samples=20))) == {"next"}


def test_histories_and_targets_are_of_training_alone() -> None:
    """A changed held-out item changes no sample; a changed training item does."""
    before = stage(**LABELED).samples()
    file = Path("dataset/tiny/tiny.inter")
    header, *lines = file.read_text().splitlines()
    rows = [line.split("\t") for line in lines]
    own = [n for n, row in enumerate(rows) if row[0] == rows[0][0]]
    last = {row[0]: n for n, row in enumerate(rows)}

    def samples() -> Any:
        file.write_text("\n".join([header, *("\t".join(row) for row in rows)]) + "\n")
        return stage(**LABELED).samples()

    for number in last.values():
        rows[number][1] = f"i{(int(rows[number][1][1:]) + 7) % 60}"
    assert samples() == before
    chosen = next(rows[n] for n in own if float(rows[n][2]) >= 3)
    chosen[1] = f"i{(int(chosen[1][1:]) + 7) % 60}"
    assert samples() != before


def test_it_is_the_generator_s_model_that_is_tuned(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    made = stage(generator_model=str(tmp_path), encoder_model="not/this")
    assert made.source.folder == tmp_path
    assert made.source.key == "generator_model"


@pytest.mark.parametrize(
    "line", ["no json", "[1]", '{"instruction": "x"}', '{"instruction": 1, "output": "x"}']
)
def test_instructions_of_another_form(line: str) -> None:
    Path("bad.jsonl").write_text(f'{{"instruction": "x", "output": "y"}}\n{line}\n')
    with pytest.raises(ValueError, match=r"recgen_instructions: 'bad\.jsonl' line 2 is not of"):
        list(instructions("bad.jsonl"))


def test_a_file_of_instructions_that_is_not_there() -> None:
    Path("general.jsonl").touch()
    with pytest.raises(ValueError, match=r"'generl\.jsonl' does not exist; did you mean 'gen"):
        list(instructions("generl.jsonl"))
