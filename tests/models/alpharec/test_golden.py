"""AlphaRec compared with numbers from its authors' code, in double precision."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_llm.models.alpharec.model import AlphaRec

MAPS = ("mlp", "linear")
OFFICIAL = {"mlp": "mlp", "linear": "homo"}
NAMES = {
    "mlp.0.weight": {"mlp": "hidden.weight", "linear": "weight"},
    "mlp.0.bias": {"mlp": "hidden.bias"},
    "mlp.2.weight": {"mlp": "out.weight"},
    "mlp.2.bias": {"mlp": "out.bias"},
}


@pytest.fixture(autouse=True)
def _double() -> Any:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class GoldenData:
    """The fixture's interactions and texts, with ids raised by one for the padding."""

    uid_field, iid_field, time_field, dataset_name = "user_id", "item_id", None, "golden"

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        users, items = np.nonzero(arrays["R_train"])
        self.inter_feat = Interaction({
            "user_id": torch.from_numpy(users + 1), "item_id": torch.from_numpy(items + 1)
        })  # fmt: skip
        self.n_users, self.n_items = (size + 1 for size in arrays["R_train"].shape)
        matrix = np.pad(arrays["item_text"], ((1, 0), (0, 0)))
        self.features = {"item_text": SimpleNamespace(matrix=matrix, fingerprint="golden")}

    def num(self, field: str) -> int:
        return self.n_users if field == self.uid_field else self.n_items


def _model(arrays: dict[str, np.ndarray], meta: dict[str, Any], kind: str) -> AlphaRec:
    official = meta["config"]
    config = {
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "NEG_PREFIX": "neg_",
        "device": torch.device("cpu"),
        "text_map": kind,
        "text_whitening": 0.0,
        "embedding_size": official["hidden_size"],
        "map_hidden_size": len(arrays["mlp.param.mlp.0.bias"]),
        "n_layers": official["n_layers"],
        "tau": official["tau"],
        "n_neg": arrays["neg_items"].shape[1],
        "negatives": "sampled",
        "sample_by": "interaction",
        "train_neg_sample_args": {
            "distribution": "uniform",
            "sample_num": arrays["neg_items"].shape[1],
        },
    }
    model = AlphaRec(config, GoldenData(arrays))
    prefix = OFFICIAL[kind] + ".param."
    state = {
        NAMES[name.removeprefix(prefix)][kind]: torch.from_numpy(value)
        for name, value in arrays.items()
        if name.startswith(prefix)
    }
    model.text_map.load_state_dict(state)
    return model


def _batch(arrays: dict[str, np.ndarray]) -> Interaction:
    """Return a batch as RecBole's loader makes it: all rows are repeated for each negative."""
    k = arrays["neg_items"].shape[1]
    return Interaction({
        "user_id": torch.from_numpy(np.tile(arrays["users"] + 1, k)),
        "item_id": torch.from_numpy(np.tile(arrays["pos_items"] + 1, k)),
        "neg_item_id": torch.from_numpy(arrays["neg_items"].T.reshape(-1) + 1),
    })  # fmt: skip


def _near(ours: Any, theirs: np.ndarray) -> None:
    ours = ours.detach().numpy() if isinstance(ours, torch.Tensor) else ours
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", MAPS)
def test_loss_and_gradients(kind: str, golden: Any, monkeypatch: Any) -> None:
    arrays, meta = golden("alpharec")
    model = _model(arrays, meta, kind)
    loss = model.calculate_loss(_batch(arrays))
    loss.backward()
    _near(loss, arrays[f"{OFFICIAL[kind]}.loss"])
    parameters = dict(model.text_map.named_parameters())
    prefix = OFFICIAL[kind] + ".grad."
    grads = [name for name in arrays if name.startswith(prefix)]
    assert len(grads) == len(parameters)
    for name in grads:
        _near(parameters[NAMES[name.removeprefix(prefix)][kind]].grad, arrays[name])


@pytest.mark.parametrize("kind", MAPS)
def test_vectors_and_predictions(kind: str, golden: Any, monkeypatch: Any) -> None:
    arrays, meta = golden("alpharec")
    model = _model(arrays, meta, kind).eval()
    users, items = model()
    _near(users[1:], arrays[f"{OFFICIAL[kind]}.user_emb"])
    _near(items[1:], arrays[f"{OFFICIAL[kind]}.item_emb"])
    n_users, n_items = arrays["R_train"].shape
    scores = model.full_sort_predict(Interaction({"user_id": torch.arange(1, n_users + 1)}))
    _near(scores[:, 1:], arrays[f"{OFFICIAL[kind]}.prediction"])
    pairs = Interaction({
        "user_id": torch.arange(1, n_users + 1).repeat_interleave(n_items),
        "item_id": torch.arange(1, n_items + 1).repeat(n_users),
    })  # fmt: skip
    _near(model.predict(pairs).view(n_users, n_items), arrays[f"{OFFICIAL[kind]}.prediction"])


def test_graph_and_user_texts(golden: Any, monkeypatch: Any) -> None:
    arrays, meta = golden("alpharec")
    graph = _model(arrays, meta, "mlp").graph
    n_users = arrays["R_train"].shape[0]
    real = torch.arange(graph.n_users + graph.n_items)
    real = real[(real != 0) & (real != graph.n_users)]  # without the padding nodes
    identity = torch.eye(graph.n_users + graph.n_items)
    _near(graph.step(identity)[real][:, real], arrays["adj_norm"])
    text = torch.from_numpy(np.pad(arrays["item_text"], ((1, 0), (0, 0))))
    _near(graph.user_means(text)[1 : n_users + 1], arrays["user_text"])
