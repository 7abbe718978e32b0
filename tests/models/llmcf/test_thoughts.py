"""Chains of thought: examples and prompts from training alone, candidates, resuming."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from made_llmcf import LABELED, config, training_split

from recbole_llm import prepare, testing
from recbole_llm.core.checkpoints.checkpoint import load_checkpoint
from recbole_llm.data.rows.training import training_interactions
from recbole_llm.features.contents.prompts import item_texts
from recbole_llm.models.llmcf import examples as module
from recbole_llm.models.llmcf.examples import training_examples
from recbole_llm.models.llmcf.thoughts import WriteThoughts, candidate_scores
from recbole_llm.quick_start import load_data_and_model, run_recbole_llm


def stage(**keys: Any) -> WriteThoughts:
    made = config(**keys)
    return WriteThoughts(made, training_split(made))


@pytest.mark.parametrize("keys", [{}, LABELED, {"model": "LLMCFRetrieval"}])
def test_examples_are_training_interactions_half_of_each_label(keys: dict[str, Any]) -> None:
    made = config(**keys)
    train = training_split(made)
    examples = training_examples(made, train)
    known = set(zip(*(column.tolist() for column in training_interactions(train))))
    pairs = list(zip(examples.users.tolist(), examples.items.tolist()))
    drawn = not keys  # negatives
    for pair, label in zip(pairs, examples.labels):
        assert (pair in known) == (label == 1 or not drawn)
    expected = 30 if "model" in keys else 15
    assert examples.labels.sum() == expected
    assert (np.diff(examples.labels) <= 0).all() and len(set(examples.names)) == 30
    assert set(training_examples(config(**keys, thought_seed=7), train).names) != set(
        examples.names
    )
    assert all(int(i) in {j for _, j in known} for h in examples.histories for i in h[h != 0])


def test_a_user_who_chose_everything_has_no_item_that_was_not_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = np.array([1, 1, 1, 2]), np.array([1, 2, 3, 1])  # of items 1 to 3
    monkeypatch.setattr(module, "training_interactions", lambda dataset: chosen)
    dataset: Any = SimpleNamespace(item_num=4)
    users = np.array([1, 2, 1, 2])
    drawn = module._draw_unknown_items(dataset, users, np.random.default_rng(0))
    assert drawn[[0, 2]].tolist() == [0, 0] and set(drawn[[1, 3]]) <= {2, 3}


def test_nothing_of_validation_and_test_is_in_prompts_or_examples() -> None:
    """Changed held-out items leave examples and prompts as they are."""
    before = stage(**LABELED)
    prompts, examples = before.prompts(), before.examples
    file = Path("dataset/tiny/tiny.inter")
    header, *lines = file.read_text().splitlines()
    rows = [line.split("\t") for line in lines]
    counts = {user: sum(row[0] == user for row in rows) for user, *_ in rows}
    seen: dict[str, int] = {}
    for row in rows:
        seen[row[0]] = seen.get(row[0], 0) + 1
        if seen[row[0]] > counts[row[0]] - 2:  # the last two: validation and test
            row[1] = f"i{(int(row[1][1:]) + 7) % 60}"
    file.write_text("\n".join([header, *("\t".join(row) for row in rows)]) + "\n")
    after = stage(**LABELED)
    assert after.examples.names == examples.names  # names hold user and item tokens
    assert after.prompts() == prompts


def test_the_best_candidate_is_kept_and_a_second_run_writes_nothing(parrots: list[Any]) -> None:
    written = 3 * len(set(stage().prompts().values()))
    first = prepare("LLMCF", "tiny", config_dict=dict(config().external_config_dict))
    assert [(r.name, r.units_done) for r in first] == [("encode", 60), ("thoughts", written)]
    asked = sum(len(p.asked) for p in parrots)
    again = prepare("LLMCF", "tiny", config_dict=dict(config().external_config_dict))
    assert str(again[1]).startswith(f"thoughts: there already ({written} texts)")
    assert asked == sum(len(p.asked) for p in parrots) == written
    texts = stage().texts()
    assert len(texts) == 30 and all(text.startswith("Thought") for text in texts.values())


def test_the_best_candidate_is_the_one_about_the_target() -> None:
    made = stage()
    targets = [made.facts[name][-1] for name in made.prompts()]
    candidates = [["nothing of it"] * len(targets), targets, [""] * len(targets)]
    assert made.best(made.prompts(), candidates) == targets


def test_another_encoder_chooses_anew_of_the_same_candidates(parrots: list[Any]) -> None:
    chosen = {size: stage(encoder_dimensions=size) for size in (16, 4)}
    texts = {size: made.texts() for size, made in chosen.items()}
    assert chosen[16].path != chosen[4].path and texts[16] != texts[4]
    assert sum(len(p.asked) for p in parrots) == 3 * len(set(stage().prompts().values()))
    single = [stage(encoder_dimensions=n, thought_candidates=1) for n in (16, 4)]
    assert single[0].path == single[1].path  # one candidate leaves no choice


def test_without_the_language_model_nothing_is_written(parrots: list[Any]) -> None:
    keys = dict(config(thoughts="item_text").external_config_dict)
    assert [r.units_done for r in prepare("LLMCF", "tiny", config_dict=keys)] == [60, 0]
    assert not parrots


def test_a_trained_model_has_its_examples_and_their_texts(
    parrots: list[Any],
) -> None:
    """Loading needs neither the same interactions nor the texts, and writes no new text."""
    quiet = dict(config().external_config_dict)
    result = run_recbole_llm(
        "LLMCF", "tiny", config_dict={**quiet, "epochs": 1, "mlp_hidden_size": [8]}
    )
    asked = sum(len(p.asked) for p in parrots)
    shutil.rmtree("cache")
    file = Path("dataset/tiny/tiny.inter")
    header, *rows = file.read_text().splitlines()
    file.write_text("\n".join([header, *rows[len(rows) // 3 :]]) + "\n")
    loaded = load_data_and_model(result["checkpoint"], config_dict=quiet)[1].memory
    stored = load_checkpoint(result["checkpoint"])["state_dict"]
    assert asked == sum(len(p.asked) for p in parrots)
    assert len(loaded.users) == len(loaded.thoughts) == len(loaded.history_text) == 30
    for name in ("users", "histories", "items", "labels", "thoughts"):
        assert getattr(loaded, name).equal(stored[f"memory.{name}"])


def test_a_killed_run_goes_on_to_the_same_texts(
    parrots: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stage(embedding_cache_dir="other", generator_batch_size=8).texts()
    kind = type(parrots[0])
    generate, calls = kind.generate, []

    total, breaks_at = 3 * len(set(stage().prompts().values())), 6

    def breaking(self: Any, prompts: Any) -> Any:
        calls.append(len(prompts))
        if len(calls) == breaks_at:
            raise KeyboardInterrupt
        return generate(self, prompts)

    monkeypatch.setattr(kind, "generate", breaking)
    with pytest.raises(KeyboardInterrupt):
        stage(generator_batch_size=8).complete()
    done, breaks_at = sum(calls[:-1]), 0
    resumed = stage(generator_batch_size=8)
    calls.clear()
    report = resumed.complete()
    assert report.units_done == sum(calls) == total - done
    assert resumed.texts() == whole


def test_scores_by_hand() -> None:
    """Sentences a = (1, 0), b = (0.6, 0.8); the target is b, the history a; ab is (0.8, 0.6)."""
    vectors = {
        "A.": np.array([1, 0], np.float32),
        "B.": np.array([0.6, 0.8], np.float32),
        "A. B.": np.array([0.8, 0.6], np.float32),
        "A. A.": np.array([1, 0], np.float32),
    }
    scores = candidate_scores(["A. B.", "A. A.", ""], ["A.", "B."], vectors)
    np.testing.assert_allclose(scores[0], [0.6, 1.0, 0.96, 0.8], atol=1e-6)
    # A repetition is one sentence: it coheres with nothing, and covers B by 0.6.
    np.testing.assert_allclose(scores[1], [0.0, 0.8, 0.6, 0.8], atol=1e-6)
    assert (scores[2] == -np.inf).all()


def test_vectors_of_texts_sentences_and_facts_have_length_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scores are cosines, however long the encoder's vectors are."""
    encode = testing.HashEncoder.encode
    monkeypatch.setattr(testing.HashEncoder, "encode", lambda own, texts: 3 * encode(own, texts))
    vectors = stage()._vectors([["A. B."], [""]], [["C."], ["C."]])
    assert set(vectors) == {"A. B.", "A.", "B.", "C."}
    np.testing.assert_allclose([np.linalg.norm(v) for v in vectors.values()], 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("thought_prompt", "{{ titel }}", "thought_prompt: .* uses the field 'titel'"),
        ("thoughts", "llms", "thoughts 'llms' is unknown; did you mean 'llm'"),
        ("generator", "local", "generator 'local' is unknown"),
        ("generator_base_url", "nowhere", "generator_base_url: expected an address"),
        ("context_heads", 3, "context_heads: twice 3 does not divide context_size 32"),
        ("encoder", "precomputed", "encoder: precomputed cannot encode"),
        ("encoder", "image", "encoder: image cannot encode .* set thoughts: item_text"),
    ],
)
def test_keys_are_checked_at_once(key: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**{key: value})


def test_an_endpoint_takes_no_adapter() -> None:
    with pytest.raises(ValueError, match="generator_adapter: an endpoint .* takes none; leave it"):
        config(generator="openai", generator_model="m", generator_adapter="x")


def test_titles_are_data() -> None:
    """Templates in titles are not rendered."""
    testing.write_tiny_dataset("dataset")
    file = Path("dataset/tiny/tiny.item")
    file.write_text(file.read_text().replace("The action", "{{ 7919 * 7919 }} {% raw %}"))
    prompts = "".join(stage().prompts().values())
    assert "{{ 7919 * 7919 }}" in prompts and "62710561" not in prompts


def test_a_prompt_tells_the_latest_items_of_the_history_and_the_target() -> None:
    made = stage(thought_history=2)
    texts, tokens = item_texts(made.config, made.dataset), made.dataset.field2id_token["item_id"]
    names, _, histories, items, *_ = made.examples
    assert max((history != 0).sum() for history in histories) > 2
    for name, history, item in zip(names, histories, items, strict=True):
        latest = [*history[history != 0][-2:], item]
        assert made.facts[name] == [texts[str(tokens[i])] for i in latest]


def test_with_labels_a_prompt_tells_only_items_that_the_user_chose() -> None:
    made = stage(**LABELED, thought_history=3)
    texts, ids = item_texts(made.config, made.dataset), made.dataset.field2token_id
    _, *rows = Path("dataset/tiny/tiny.inter").read_text().splitlines()
    past = [row.split("\t") for row in rows]
    found = set()
    for name, user, item in zip(made.examples.names, made.examples.users, made.examples.items):
        own = [row for row in past if ids["user_id"][row[0]] == user]
        at = next(n for n, row in enumerate(own) if ids["item_id"][row[1]] == item)
        if sum(ids["item_id"][row[1]] == item for row in own) > 1:
            continue  # which of them it is does not show
        known = [texts[row[1]] for row in own[:at] if float(row[2]) >= 3]
        assert made.facts[name] == [*known[-3:], texts[own[at][1]]]
        history = "; ".join(known[-3:]) or "nothing yet"
        assert f"A user's history, oldest first: {history}." in made.prompts()[name]
        found.add((len(known) > 3, len(known) == 0, len(known) < at))
    assert all(map(any, zip(*found)))
