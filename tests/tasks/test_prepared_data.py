"""What plugins do to a data set also holds wherever the data set is loaded again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recbole_llm.core.config import Config
from recbole_llm.core.plugins.loading import get_plugins
from recbole_llm.hookspecs import hookimpl
from recbole_llm.steps import build_model, load_data
from recbole_llm.tasks.recommend import recommend

pytestmark = pytest.mark.usefixtures("tiny")
QUIET = {"show_progress": False, "data_path": "dataset", "encoder": "hash"}


class WithoutTheFirst:
    """A plugin that removes the first interaction of user u1."""

    def __init__(self) -> None:
        lines = Path("dataset/tiny/tiny.inter").read_text(encoding="utf-8").splitlines()
        self.item = next(line.split("\t")[1] for line in lines if line.startswith("u1\t"))

    @hookimpl
    def prepare_dataset(self, dataset: Any) -> None:
        inter = dataset.inter_feat
        user = dataset.field2token_id[dataset.uid_field]["u1"]
        item = dataset.field2token_id[dataset.iid_field][self.item]
        out = (inter[dataset.uid_field] == user) & (inter[dataset.iid_field] == item)
        dataset.inter_feat = inter[~out].reset_index(drop=True)


@pytest.fixture
def taken_out() -> Iterator[str]:
    """The item that u1 has only in the files."""
    plugin, manager = WithoutTheFirst(), get_plugins().manager
    manager.register(plugin)
    yield plugin.item
    manager.unregister(plugin)


@pytest.mark.parametrize(
    ("model", "keys", "new"),
    [
        ("SASRec", {"loss_type": "CE", "train_neg_sample_args": None}, False),
        ("BPR", {"val_interval": {"rating": "[2,inf)"}}, False),
        ("AlphaRec", {}, True),
    ],
)
def test_histories_are_those_that_plugins_left(
    model: str, keys: dict[str, Any], new: bool, taken_out: str
) -> None:
    if new:
        with Path("dataset/tiny/tiny.item").open("a", encoding="utf-8") as file:
            file.write("late\tThe comedy opera\tcomedy\t2020\t1.5\n")
    config = Config(model, "tiny", config_dict={**QUIET, **keys})
    dataset, train, _, _ = load_data(config)
    source = config, build_model(config, train.dataset).eval(), dataset
    found = set(recommend(source, "u1", k=1000)["item"])
    assert taken_out in found and ("late" in found) == new
