"""What the similar users of a trained LLM-ESR teach, and how strongly.

    python tests/benchmarks/teachers.py --checkpoint=saved/LLMESR-….pth [--alpha=0.1] [--key=value]

Prints NDCG@10 on validation, with all items ranked, for each user's own state, for the mean state
of the similar users, and for the mean state of as many random users. Also prints the ratio of the
norms of the two losses' gradients with respect to a user's state at the last training position.
The recommendation loss is a mean over targets and distillation is a mean over users, so that the
gradient of distillation counts alpha times the number of targets per user.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_llm import load_data_and_model
from recbole_llm.data.rows.training import training_interactions
from recbole_llm.features.attach import features_of
from recbole_llm.features.tables.retrieval import nearest_neighbors
from recbole_llm.models.llmesr.distillation import Histories

BLOCK = 256  # users


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--alpha", type=float, default=0.1)
    arguments, keys = parser.parse_known_args()
    config, model, dataset, train, valid, _ = load_data_and_model(arguments.checkpoint, argv=keys)
    model.eval()
    histories = Histories(*training_interactions(train.dataset), dataset.user_num)
    taught = histories.lengths > 1
    users = taught.nonzero().squeeze(1)
    texts = features_of(train.dataset, config)["user_text"].matrix
    similar = torch.from_numpy(nearest_neighbors(texts, model.n_similar_users, taught.numpy()))
    at_random = np.random.default_rng(0).choice(users.numpy(), tuple(similar.shape))

    items = model.item_vectors()  # [n, S]
    states = states_of(model, histories, users, whole=False)  # [n_users, S]
    taught_by = mean_of(states, similar.long())
    vectors_by = {
        "own state": states_of(model, histories, users, whole=True),
        "similar users": taught_by,
        "users at random": mean_of(states, torch.from_numpy(at_random)),
    }
    rows = valid.dataset.inter_feat
    for name, vectors in vectors_by.items():
        found = ndcg(vectors[rows[dataset.uid_field]], items, rows[dataset.iid_field])
        print(f"{name:16} NDCG@10 {found:.4f}")

    per_user = float((histories.lengths[users] - 1).sum()) / len(users)
    scores = torch.softmax(states[users] @ items.T, 1)
    scores[torch.arange(len(users)), histories.last(users)] -= 1
    recommendation = (scores @ items).norm(dim=1).mean()
    gap = (states - taught_by)[users]
    distillation = arguments.alpha * per_user * (2 * gap / gap.shape[1]).norm(dim=1).mean()
    share = float(distillation / recommendation)
    print(
        f"targets a user {per_user:.1f}; gradient of distillation / of recommendation {share:.3f}"
    )


def states_of(model: Any, histories: Histories, users: Tensor, whole: bool) -> Tensor:
    """States of users, int [B] -> [n_users, S]: after the whole training history, or before its
    last item, which is the state that distillation trains."""
    states = torch.zeros(len(histories.lengths), model.network.size)
    for block in users.split(BLOCK):
        rows = histories.before_last(block, model.max_seq_length - whole)  # [b, l]
        if whole:
            last = (rows > 0).sum(1, keepdim=True)
            rows = F.pad(rows, (0, 1)).scatter(1, last, histories.last(block)[:, None])
        states[block] = model.last_states(rows)
    return states


def mean_of(states: Tensor, others: Tensor) -> Tensor:
    """Mean state of each user's others (-1: none), [n_users, S], int [n_users, N]."""
    there = (others >= 0).unsqueeze(2).float()
    return (states[others.clamp(min=0)] * there).sum(1) / there.sum(1).clamp(min=1)


def ndcg(states: Tensor, items: Tensor, targets: Tensor) -> float:
    """NDCG@10 with one target per row, among all items: [R, S], [n, S], int [R]."""
    gains = torch.zeros(len(targets))
    for rows in torch.arange(len(targets)).split(BLOCK):
        scores = states[rows] @ items.T
        scores[:, 0] = -torch.inf  # padding
        rank = (scores > scores.gather(1, targets[rows, None])).sum(1)
        gains[rows] = torch.where(rank < 10, 1 / (rank + 2.0).log2(), 0.0)
    return float(gains.mean())


if __name__ == "__main__":
    main()
