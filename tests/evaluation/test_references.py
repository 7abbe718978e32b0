from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from recbole_llm.core.config import Config
from recbole_llm.data.rows.training import training_histories
from recbole_llm.evaluation.references import TextReference, make_references
from recbole_llm.steps import load_data
from recbole_llm.testing import write_tiny_dataset


class Largest(TorchDispatchMode):
    """A context that counts the numbers in the largest tensor made within it."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        sizes = (one.numel() for one in tree_leaves(made) if isinstance(one, torch.Tensor))
        self.size = max(self.size, *sizes, 0)
        return made


def test_text_similarity_is_of_each_users_mean_in_memory_for_users() -> None:
    write_tiny_dataset("dataset")
    config = Config("AlphaRec", "tiny", config_dict={"encoder": "hash", "data_path": "dataset"})
    dataset = load_data(config)[1].dataset
    matrix = dataset.features["item_text"].matrix
    with Largest() as largest:
        reference = TextReference(matrix, dataset)
    assert largest.size < dataset.inter_num * matrix.shape[1]
    items = F.normalize(torch.from_numpy(matrix), dim=1)
    for user, own in training_histories(dataset):
        mean = torch.from_numpy(matrix[own]).mean(0)
        found = reference.full_sort_predict(Interaction({"user_id": torch.tensor([user])}))
        torch.testing.assert_close(found[0], items @ F.normalize(mean, dim=0))
    assert not reference.users[0].any()


def test_chance_is_of_the_seed_and_popularity_of_training() -> None:
    write_tiny_dataset("dataset")
    keys = {"encoder": "hash", "data_path": "dataset"}
    rows = Interaction({"user_id": torch.tensor([1, 2])})
    drawn = []
    for seed in (3, 3, 4):
        config = Config("AlphaRec", "tiny", config_dict={**keys, "seed": seed})
        train = load_data(config)[1].dataset
        found = make_references(config, train)
        drawn.append(found["random"].full_sort_predict(rows))
    assert drawn[0].equal(drawn[1]) and not drawn[0].equal(drawn[2])
    items = [item for _, own in training_histories(train) for item in own]
    counts = torch.bincount(torch.tensor(items), minlength=train.item_num).float()
    assert found["popularity"].full_sort_predict(rows).equal(counts.expand(2, -1))
