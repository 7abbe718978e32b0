from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_decoder import DEPTH, WIDTH, write_decoder
from recbole.data.interaction import Interaction

from recbole_llm.core.checkpoints.tokens import pack, unpack, vocabulary_of
from recbole_llm.core.config import Config
from recbole_llm.data.create import create_dataset
from recbole_llm.models.bahe.model import BAHE, _small
from recbole_llm.models.ctr import CTRRecommender, UserContext
from recbole_llm.steps import build_model, load_data
from recbole_llm.tasks.recommend import Recommender
from recbole_llm.testing import CTRModelTests, write_tiny_dataset

OF_DECODER: dict[str, Any] = {
    "encoder": "causal_lm",
    "encoder_model": "decoder",
    "encoder_layer": 1,
    "high_layers": 1,
    "mlp_hidden_size": [16],
}
RATED = {"behavior_prompt": "{{ rating | int }} of 5: {{ item }}", "behavior_field": "rating"}
LABELED: dict[str, Any] = {
    "threshold": {"rating": 3},
    "train_neg_sample_args": None,
    "eval_args": {"split": {"RS": [6, 2, 2]}, "order": "TO", "mode": "labeled"},
}


@pytest.fixture(autouse=True)
def decoder() -> None:
    write_decoder()


def make(**keys: Any) -> tuple[Any, BAHE, list[Any]]:
    write_tiny_dataset("dataset")
    settings = {**OF_DECODER, "show_progress": False, "MAX_ITEM_LIST_LENGTH": 10, **keys}
    config = Config("BAHE", "tiny", config_dict=settings)
    _, *loaders = load_data(config)
    return config, build_model(config, loaders[0].dataset).eval(), loaders


class TestBAHE(CTRModelTests):
    model = "BAHE"
    config = OF_DECODER


class TestBAHEOfOtherVectors(CTRModelTests):
    model = "BAHE"
    config = {"decoder_model": "decoder", "high_layers": 1, "tuning": "lora", "lora_rank": 2}


class TestBAHEOfRatedBehaviors(CTRModelTests):
    model = "BAHE"
    config = {**OF_DECODER, **RATED, "user_pooling": "mean"}

    def test_no_state_sees_a_later_item(self) -> None:
        """The histories hold behaviors, as negative ids, because an item alone has no field."""
        _, model, _ = self.make()
        items = -torch.arange(1, 9)[None]
        with torch.no_grad():
            before = model.user_states(items, items != 0)
            for first in range(1, 8):
                changed = items.clone()
                changed[:, first:] -= 20
                after = model.user_states(changed, changed != 0)
                assert before[:, :first].allclose(after[:, :first], atol=1e-6)
                assert not before[:, first].allclose(after[:, first], atol=1e-4)


class TestBAHEWithATower(CTRModelTests):
    model = "BAHE"
    config = {**OF_DECODER, "head": "DCN"}


class TestBAHEWithDIN(CTRModelTests):
    model = "BAHE"
    config = {**OF_DECODER, "head": "DIN"}


class TestCoupled(CTRModelTests):
    model = "BAHE"
    config = {**OF_DECODER, "coupled": True, "train_level": "prefix", "coupled_max_tokens": 60}

    def levels(self) -> list[str]:
        return ["prefix"]


def test_the_user_is_the_upper_half_over_the_lower_halfs_vectors() -> None:
    from transformers import AutoModel

    _, model, _ = make(encoder_pooling="mean", high_layers=None)
    whole = AutoModel.from_pretrained("decoder")
    history = torch.tensor([[3, 7, 5, 0, 0]])
    with torch.no_grad():
        states = model.user_states(history, history != 0)[0, :3]
        expected = model.items(history[:, :3])
        angles = whole.rotary_emb(expected, torch.arange(3)[None])
        mask = torch.full((3, 3), -torch.inf).triu(1)[None, None]
        for block in whole.layers[1:]:
            expected = block(expected, attention_mask=mask, position_embeddings=angles)
        expected = whole.norm(expected)[0]
        torch.testing.assert_close(states, model.user_map(expected))
        alone = model.item_vectors(torch.tensor([3]))
        torch.testing.assert_close(alone[0], model.item_map(expected[0]))  # a history of one
    assert model.items.dimension == WIDTH


@torch.no_grad()
def test_the_coupled_llm_has_zeros_for_a_user_without_a_history() -> None:
    """Such a user does not get a state of the target's words instead."""
    _, model, _ = make(coupled=True, train_level="prefix")
    users, items = model.coupled(torch.tensor([[0, 0], [3, 0]]), torch.tensor([5, 5]))
    assert users.any(1).tolist() == [False, True] and items.any(1).all()


@pytest.mark.parametrize("width", [4, 900])
def test_the_last_maps_start_as_small_at_any_width(width: int) -> None:
    """Standard normal inputs give outputs with a standard deviation of 0.05."""
    torch.manual_seed(0)
    weight = _small(torch.nn.Linear(width, 400)).weight
    assert weight.square().sum(1).mean().sqrt().item() == pytest.approx(0.05, rel=0.1)


def test_the_lower_halfs_vectors_are_whitened_by_those_of_training() -> None:
    _, raw, _ = make(vector_whitening=0)
    _, even, _ = make(vector_whitening=1)
    assert even.items.weight[0].eq(0).all()
    real = even.items.weight[1:]
    values = torch.linalg.eigvalsh(torch.cov(real.T, correction=0))
    torch.testing.assert_close(values, values.mean().expand_as(values), rtol=1e-3, atol=0)
    even.add_items(raw.items.weight[3:4])
    torch.testing.assert_close(even.items.weight[-1], even.items.weight[3])


@torch.no_grad()
def test_a_later_item_is_read_by_its_text_by_a_tower_that_knows_no_such_id() -> None:
    _, model, loaders = make(head="DIN")
    rows = next(iter(loaders[2]))[0]
    first = model.predict(rows)
    model.add_items(model.items.weight[[3, 3]].clone())
    torch.testing.assert_close(model.predict(rows), first)
    scores = []
    for item in range(model.n_items - 2, model.n_items):
        rows.update(Interaction({"item_id": torch.full((len(rows),), item)}))
        scores.append(model.predict(rows))
    assert scores[0].isfinite().all() and scores[0].equal(scores[1])


@pytest.mark.parametrize("head", ["DIN", "DeepFM", "DCN", "AutoInt"])
def test_a_tower_reads_the_vectors_beside_the_fields(head: str) -> None:
    _, model, loaders = make(head=head)
    batch = next(iter(loaders[0]))
    model.train()
    model.calculate_loss(batch).backward()
    assert model.head.norm.running_mean.any()  # of the vectors and their product
    moved = [model.user_map, model.item_map, *model.high.model.layers]
    assert all(p.grad.abs().sum() > 0 for part in moved for p in part.parameters())
    penalty = model.head.regularization()
    assert (penalty > 0) == (head == "DCN")
    losses = []
    for kind in (BAHE, CTRRecommender):
        torch.manual_seed(0)  # AutoInt has dropout
        losses.append(kind.calculate_loss(model, batch))
    torch.testing.assert_close(losses[0] - losses[1], torch.as_tensor(penalty))


def test_mean_pooling_is_of_the_states_so_far() -> None:
    _, last, _ = make()
    _, mean, _ = make(user_pooling="mean")
    mean.load_state_dict(last.state_dict())
    history = torch.tensor([[3, 7, 5]])
    mask = history != 0
    with torch.no_grad():
        states, means = last.user_states(history, mask)[0], mean.user_states(history, mask)[0]
    # The map to the head is linear, and its bias is zero at first.
    torch.testing.assert_close(means, states.cumsum(0) / torch.tensor([[1.0], [2.0], [3.0]]))


def test_behavior_fields_are_read_alone_and_joined() -> None:
    """The states of two interleaved fields join the states of each field read alone."""
    _, model, _ = make(**RATED)
    field = model.field_of[1:]
    ones, twos = (1 + torch.nonzero(field == f).view(-1)[:2] for f in (0, 1))
    woven = -torch.stack([ones[0], twos[0], ones[1], twos[1]])[None]
    with torch.no_grad():
        states = model.user_states(woven, woven != 0)[0]
        zeros = torch.zeros(model.high.width)

        def alone(ids: torch.Tensor) -> torch.Tensor:
            return model.high(model.behaviors(ids)[None])[0, -1]  # type: ignore[misc]

        def joined(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            rest = [zeros] * (model.n_fields - 2)
            state: torch.Tensor = model.user_map(torch.cat([first, second, *rest]))
            return state

        torch.testing.assert_close(states[0], joined(alone(ones[:1]), zeros))
        torch.testing.assert_close(states[1], joined(alone(ones[:1]), alone(twos[:1])))
        torch.testing.assert_close(states[3], joined(alone(ones), alone(twos)))


def test_behaviors_are_texts_of_the_interaction() -> None:
    _, _, loaders = make(**RATED)
    dataset = loaders[0].dataset
    assert len(dataset.behaviors) == len(set(dataset.behaviors))
    inter = dataset.inter_feat
    titles = dataset.field2id_token["item_id"]
    for row in range(0, len(inter), 40):
        behavior = dataset.behaviors[int(inter["behavior_id"][row]) - 1]
        rating, item = float(inter["rating"][row]), titles[int(inter["item_id"][row])]
        assert behavior.field == str(rating)
        assert behavior.text.startswith(f"{int(rating)} of 5: ")
        assert f" {item[1:]}" in behavior.text  # "The comedy robot 2" is the title of i2


def test_a_rating_that_makes_the_label_is_read_of_the_history_alone() -> None:
    """The target's own behavior changes no prediction; the oldest one of the history does."""
    _, model, loaders = make(**RATED, **LABELED, train_level="prefix")
    rows = next(iter(loaders[2]))[0]
    before = model.predict(rows)
    columns = dict(rows.interaction)
    columns["behavior_id"] = columns["behavior_id"].roll(1)
    columns["label"] = 1 - columns["label"]
    assert model.predict(Interaction(columns)).equal(before)
    seen = columns["behavior_id_list"].clone()
    seen[:, 0] = seen[:, 0] % len(loaders[0].dataset.behaviors) + 1
    columns["behavior_id_list"] = seen
    assert not model.predict(Interaction(columns)).allclose(before)


def test_sequence_rows_hold_the_behaviors_of_their_items() -> None:
    _, _, loaders = make(**RATED)
    dataset = loaders[0].dataset
    source = dataset.inter_feat.interaction.source.columns
    pairs = set(zip(source["item_id"].tolist(), source["behavior_id"].tolist(), strict=True))
    batch = next(iter(loaders[0]))
    items, behaviors = batch["item_id_list"], batch["behavior_id_list"]
    assert ((items == 0) == (behaviors == 0)).all()
    assert set(zip(items.view(-1).tolist(), behaviors.view(-1).tolist(), strict=True)) <= pairs


def test_the_coupled_llm_reads_history_and_target_as_one_text() -> None:
    from transformers import AutoModel

    _, model, _ = make(coupled=True, train_level="prefix", high_layers=None)
    assert model.coupled is not None
    whole = AutoModel.from_pretrained("decoder")
    tokens = model.coupled.tokens
    model.coupled.max_tokens = sum(len(tokens[item]) for item in (7, 5, 9))
    histories, items = torch.tensor([[3, 7, 5, 0], [2, 0, 0, 0]]), torch.tensor([9, 4])
    with torch.no_grad():
        users, targets = model.coupled(histories, items)
        for row, kept in enumerate([[7, 5], [2]]):  # the oldest does not fit
            parts = [tokens[i] for i in (*kept, int(items[row]))]
            states = whole(torch.cat(parts)[None]).last_hidden_state[0]
            torch.testing.assert_close(users[row], states[-1 - len(parts[-1])])
            torch.testing.assert_close(targets[row], states[-1])
    assert len(model.coupled.decoder.model.layers) == DEPTH


@pytest.mark.parametrize("tuning, trained", [("full", True), ("frozen", False)])
def test_what_is_trained(tuning: str, trained: bool) -> None:
    _, model, _ = make(tuning=tuning)
    assert all(p.requires_grad == trained for p in model.high.model.layers.parameters())
    assert all(p.requires_grad for p in model.head.parameters())


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"coupled_max_tokens": 1}, "coupled_max_tokens: expected an integer of at least 2"),
        ({"encoder_layer": DEPTH}, "encoder_layer: 3 leaves none of the decoder's 3 blocks"),
        ({"high_layers": 3}, "high_layers: 3 are more than the 2 blocks above encoder_layer 1"),
        ({"coupled": True}, "coupled: reads the target .* set train_level: prefix"),
        ({"coupled": True, "train_level": "prefix", "encoder": "hash"}, "set encoder: causal_lm"),
        (
            {"behavior_field": "ratting"},
            "behavior_field: .* 'ratting'; did you mean 'rating'.*--keep=rat",
        ),
        ({"behavior_prompt": "{{ ratting }}"}, "behavior_prompt: .* did you mean 'rating'"),
        (
            {"item_feature": "item_multimodal", "encoder": "multimodal"},
            "item_feature: BAHE reads texts, not item_multimodal; leave it out",
        ),
        ({"tuning": "lorra"}, "tuning 'lorra' is unknown; did you mean 'lora'"),
        ({"head": "DIN", **RATED}, "head: DIN reads items; leave out behavior_prompt and"),
        (
            {"benchmark_filename": ["a", "b", "c"], **RATED},
            "benchmark_filename: ready-made splits have lists of items, but no columns",
        ),
        (
            {"coupled": True, "train_level": "prefix", "user_pooling": "mean"},
            "user_pooling: a coupled LLM reads its last state",
        ),
    ],
)
def test_errors_name_the_key(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**keys)


def test_early_stopping_may_end_at_the_first_evaluation_without_improvement() -> None:
    assert make(stopping_step=0)[0]["stopping_step"] == 0


def test_new_items_are_encoded_alone_and_new_interactions_not_at_all() -> None:
    from recbole_llm.data.create import create_dataset
    from recbole_llm.features.attach import encode_dataset

    def encoded(config: Any) -> int:
        report = encode_dataset(config, create_dataset(config)).encoding
        assert report is not None
        return report.encoded

    config, _, _ = make()
    folder = Path("dataset/tiny")
    for name, line in (("inter", "u1\ti3\t5\t9000"), ("user", "u99\t20\tF")):
        with (folder / f"tiny.{name}").open("a") as file:
            file.write(f"{line}\n")
    assert encoded(config) == 0
    with (folder / "tiny.item").open("a") as file:
        file.write("i60\tThe drama robot 77\thorror\t1990\t1.5\n")
    with (folder / "tiny.inter").open("a") as file:
        file.write("u1\ti60\t5\t9001\n")
    assert encoded(config) == 1


def test_each_distinct_behavior_is_encoded_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        _, _, loaders = make(**RATED)
    count = len({b.text for b in loaders[0].dataset.behaviors})
    (message,) = (m for m in caplog.messages if m.startswith("behavior embeddings"))
    found = re.search(r"(\d+) unique, (\d+) cached, (\d+) encoded", message)
    assert found is not None
    unique, cached, encoded = map(int, found.groups())
    assert (unique, cached + encoded) == (count, count)


def test_new_items_are_recommended_by_their_texts() -> None:
    config, model, loaders = make(**RATED)
    with Path("dataset/tiny/tiny.item").open("a") as file:
        file.write("i60\tThe drama robot 7\thorror\t1990\t1.5\n")
    frame = Recommender(config, model, loaders[0].dataset).recommend(["u1", "u2"], k=61)
    assert (frame["item"] == "i60").sum() == 2
    known = frame[frame["item"] != "i60"]["score"]
    assert known.between(0, 1).all()


def test_din_attends_to_the_items_before_each_target() -> None:
    """Fed with the vectors and the user's fields, the tower is RecBole's DIN on the history."""
    _, model, _ = make(head="DIN")
    head, history = model.head, torch.tensor([[3, 7, 5, 0]])
    rows = {"item_id_list": history, "pos_item_id_list": history, "pos_label_list": history}
    pairs = model.labeled_pairs(Interaction({**rows, "user_id": torch.tensor([2])}))
    states, histories = pairs.context  # after the first, second and third item
    assert histories.tolist() == [[3, 0, 0, 0], [3, 7, 0, 0], [3, 7, 5, 0]]
    torch.testing.assert_close(states, model.user_states(history, history != 0)[0, :3])
    user, target = torch.tensor([2]), torch.tensor([9])
    for position in range(3):
        context = pairs.context.select(slice(position, position + 1))
        logits = model.logits(context, user, target)
        vector, item = context.states, model.item_vectors(target)
        feature = head.norm(torch.cat([vector, item, vector * item], dim=-1))
        seen = history.masked_fill(torch.arange(4) > position, 0)
        fed = torch.cat([feature, head.user_fields(user)], dim=-1)
        torch.testing.assert_close(logits, head.tower(seen, user, target, fed))
    one_item, other_item = (UserContext(states[:1], torch.tensor([[i, 0, 0, 0]])) for i in (3, 4))
    logits = model.logits(one_item, user, target)
    assert not model.logits(other_item, user, target).allclose(logits)


def test_a_coupled_llm_leaves_new_items_out(caplog: pytest.LogCaptureFixture) -> None:
    config, model, loaders = make(coupled=True, train_level="prefix")
    with Path("dataset/tiny/tiny.item").open("a") as file:
        file.write("i60\tThe drama robot 7\thorror\t1990\t1.5\n")
    with caplog.at_level("INFO"):
        frame = Recommender(config, model, loaders[0].dataset).recommend(["u1"], k=61)
    assert "i60" not in set(frame["item"])
    assert "not recommended: BAHE reads words here, not vectors" in caplog.text


def test_interactions_of_new_items_do_not_renumber_the_behaviors_of_others() -> None:
    config, model, loaders = make(**RATED)
    before = Recommender(config, model, loaders[0].dataset).recommend("all", k=60)
    with Path("dataset/tiny/tiny.item").open("a") as file:
        file.write("i60\tThe drama robot 7\thorror\t1990\t1.5\n")
    inter = Path("dataset/tiny/tiny.inter")
    header, *rows = inter.read_text().splitlines()
    inter.write_text("\n".join([header, "u39\ti60\t5\t0", *rows]) + "\n")
    after = Recommender(config, model, loaders[0].dataset).recommend("all", k=61)
    both = before.merge(after, on=["user", "item"])
    others = both[both["user"] != "u39"]
    assert len(others) > 1000
    assert (others["score_x"] - others["score_y"]).abs().max() < 1e-6


def test_fields_that_behaviors_name_are_loaded() -> None:
    write_tiny_dataset("dataset", "own")
    file = Path("dataset/own/own.inter")
    header, *rows = file.read_text().splitlines()
    acted = [f"{row}\t{('view', 'buy')[i % 2]}" for i, row in enumerate(rows)]
    file.write_text("\n".join([f"{header}\taction:token", *acted]) + "\n")
    keys = {
        "behavior_field": "action",
        "behavior_prompt": "{{ action }} {{ timestamp }} {{ item }}",
    }
    config = Config("BAHE", "own", config_dict={**OF_DECODER, "data_path": "dataset", **keys})
    assert config["load_col"]["inter"].count("timestamp") == 1
    _, train, _, _ = load_data(config)
    assert {b.field for b in train.dataset.behaviors} == {"view", "buy"}
    keys["behavior_prompt"] = "{{ acton }}"
    with pytest.raises(ValueError, match="'acton'.*further fields are loaded by load_col"):
        load_data(Config("BAHE", "own", config_dict={**OF_DECODER, "data_path": "dataset", **keys}))


@pytest.mark.parametrize(
    ("column", "actions", "others"),
    [
        ("action:token", ("buy", "cart", "view"), ("wish", "")),
        ("action:float", ("0.5", "1.0", "2.0"), ("3.0",)),
    ],
)
def test_files_may_gain_and_lose_behaviors(
    column: str, actions: tuple[str, ...], others: tuple[str, ...]
) -> None:
    """An unknown or empty behavior counts as the item alone; known ones keep their places."""
    write_tiny_dataset("dataset", "own")
    file = Path("dataset/own/own.inter")
    header, *rows = file.read_text().splitlines()
    acted = [f"{row}\t{actions[i % 3]}" for i, row in enumerate(rows)]
    written = "\n".join([f"{header}\t{column}", *acted]) + "\n"
    file.write_text(written)
    keys = {**OF_DECODER, "data_path": "dataset", "behavior_field": "action"}
    config = Config("BAHE", "own", config_dict={**keys, "epochs": 1, "show_progress": False})
    _, train, _, _ = load_data(config)
    model = build_model(config, train.dataset)
    assert train.dataset.behavior_fields == actions and model.n_fields == 3
    vocabulary = unpack(pack(vocabulary_of(train.dataset)))
    for action in others:
        user, item, *_ = rows[0].split("\t")
        gained = f"{written}{user}\t{item}\t3\t9999\t{action}\n"
        file.write_text(gained.replace(f"\t{actions[1]}\n", f"\t{actions[2]}\n"))
        dataset = create_dataset(config, vocabulary=vocabulary)
        assert dataset.behavior_fields == actions
        assert {b.field for b in dataset.behaviors} == {actions[0], actions[2]}
        assert int(np.asarray(dataset.inter_feat["behavior_id"])[-1]) == 0
