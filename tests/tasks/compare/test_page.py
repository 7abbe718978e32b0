"""The page of a comparison: a single file that needs no other and runs nothing from the data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from recbole_llm import testing
from recbole_llm.cli import main
from recbole_llm.core.config import Config
from recbole_llm.core.plugins.loading import get_plugins
from recbole_llm.hookspecs import hookimpl
from recbole_llm.models.pad.model import PAD
from recbole_llm.tasks.compare import checkpoint_figures
from recbole_llm.tasks.compare.catalogue import Catalogue, describe_users
from recbole_llm.tasks.compare.checkpoint_figures import (
    _draw_map,
    _item_table,
    item_maps,
    model_figures,
)
from recbole_llm.tasks.compare.figures import _draw_means

pytest.importorskip("plotly")


@pytest.fixture
def page(quick_runs: None) -> str:
    items = Path("dataset/tiny/tiny.item")
    items.write_text(items.read_text().replace("The comedy robot 2", "</script><b>bold"))
    command = ["compare", "--models=SASRec; GRU4Rec", "--dataset=tiny", "--seeds=2", "--jobs=2"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0 and "page     comparison/page.html" in done.output, done.output
    return Path("comparison/page.html").read_text(encoding="utf-8")


def test_the_page(page: str) -> None:
    own = max(re.split(r"<script>|</script>", page), key=lambda part: part.count('newPlot("figure'))
    found = re.search(r"const figures = (.*), users = (.*);\n", own)
    assert found is not None
    figures, users = json.loads(found[1]), json.loads(found[2])
    titles = [figure["title"] for figure in figures]
    assert titles == ["mrr@10 on test", "mrr@10: difference from SASRec", "mrr@10 by group",
                      "Learning", "Time and memory"]  # fmt: skip
    assert figures[3]["data"][0]["x"] == [0.5, 1.0] and figures[3]["data"][0]["y"] == [0.1, 0.2]
    assert figures[2]["data"][1]["y"] == [0.5]
    assert [one["user"] for one in users] == ["u0", "u1"]
    assert users[0]["held"] == ["</script><b>bold"]
    assert [own["label"] for own in users[0]["lists"]] == ["SASRec", "GRU4Rec"]
    assert [item["held"] for item in users[0]["lists"][0]["items"]] == [False, True]
    lines = Path("dataset/tiny/tiny.inter").read_text().splitlines()[1:]
    seen = [line.split("\t")[1] for line in lines if line.startswith("u1\t")]
    assert len(users[1]["history"]) == len([item for item in seen if item != "i5"])


def test_it_needs_nothing_else_and_runs_nothing_of_the_data(page: str) -> None:
    assert "<b>bold" not in page  # only escaped
    assert not re.search(r"<(?:script|img|link)[^>]+(?:src|href)=", page)
    assert page.count("</script>") == 2


def test_it_says_where_lists_are_of_sampled_candidates(page: str, quick_runs: None) -> None:
    said = "Lists are of the sampled candidates alone, not of all items."
    assert said not in page
    judged = "{'split': {'LS': 'valid_and_test'}, 'order': 'TO', 'mode': 'uni5'}"
    command = ["compare", "--models=SASRec", "--dataset=tiny", "--seeds=1", "--topk=5"]
    done = CliRunner().invoke(main, [*command, "--valid_metric=MRR@5", f"--eval_args={judged}"])
    assert done.exit_code == 0, done.output
    assert said in Path("comparison/page.html").read_text(encoding="utf-8")


def test_it_has_no_users_of_ready_made_lists(quick_runs: None) -> None:
    """The histories of ready-made lists are not among the interactions."""
    for part in ("train", "valid", "test"):
        rows = "user_id:token\titem_id:token\titem_id_list:token_seq\nu1\ti1\ti2 i3\n"
        Path(f"dataset/tiny/tiny.{part}.inter").write_text(rows)
    options = [
        "--benchmark_filename=['train','valid','test']", "--alias_of_item_id=['item_id_list']",
        "--load_col={'inter':['user_id','item_id','item_id_list']}", "--train_level=prefix",
    ]  # fmt: skip
    command = ["compare", "--models=SASRec", "--dataset=tiny", "--seeds=1", *options]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "users = [];" in Path("comparison/page.html").read_text(encoding="utf-8")


def test_its_histories_are_those_that_plugins_left(tiny: Path) -> None:
    class First:
        @hookimpl
        def prepare_dataset(self, dataset: Any) -> None:
            dataset.inter_feat = dataset.inter_feat[:100]

    plugin, manager = First(), get_plugins().manager
    manager.register(plugin)
    try:
        catalogue = Catalogue(Config("SASRec", "tiny", config_dict={"data_path": "dataset"}))
    finally:
        manager.unregister(plugin)
    assert catalogue.counts.sum() == 100


def test_a_list_marks_what_its_own_run_holds_out() -> None:
    def cell(label: str, held: str) -> Any:
        lists = {"shown_users": ["lost", "u"], "shown_items": [["i1", "i2"]] * 2}
        one = {**lists, "target_users": ["u"]}
        users = {key: np.array(value) for key, value in {**one, "target_items": [held]}.items()}
        return SimpleNamespace(entry=SimpleNamespace(label=label), users=users)

    # A model that reads user fields lacks users without a row in the user file.
    catalogue: Any = SimpleNamespace(title=str, history=lambda *_: [], users=["[PAD]", "u"])
    (shown,) = describe_users([cell("one", "i1"), cell("other", "i2")], catalogue)
    marks = {own["label"]: [item["held"] for item in own["items"]] for own in shown["lists"]}
    assert marks == {"one": [True, False], "other": [False, True]}


def test_labels_that_are_numbers_are_no_scale() -> None:
    spread = SimpleNamespace(mean=0.1, sd=None)
    rows = [SimpleNamespace(label=label, test={"ndcg@10": spread}) for label in ("64", "128")]
    bars = _draw_means(cast(Any, SimpleNamespace(rows=rows, metrics=["ndcg@10"])))
    assert bars["data"][0]["y"] == ["128", "64"] and bars["layout"]["yaxis"]["type"] == "category"


def test_titles_of_a_map_are_text() -> None:
    titles = {"i1": "<b>bold</b>", "i2": "Tom & Jerry"}
    catalogue: Any = SimpleNamespace(items=["", *titles], counts=[0, 1, 2], title=titles.get)
    (trace,) = _draw_map("texts", np.eye(2), ["i1", "i2"], {"i1", "i2"}, catalogue)["data"]
    assert trace["text"] == ["&lt;b&gt;bold&lt;/b&gt;", "Tom &amp; Jerry"]
    titles["i1"] = "word " * 600  # a label that wide would be cut on both sides
    (trace,) = _draw_map("texts", np.eye(2), ["i1", "i2"], {"i1", "i2"}, catalogue)["data"]
    lines = trace["text"][0].split("<br>")
    assert len(lines) == 5 and max(map(len, lines)) <= 40
    assert trace["type"] == "scatter", "a browser allows 16 WebGL contexts, two a map"


def test_the_map_of_texts_is_of_items_whatever_a_model_reads_first(tiny: Path) -> None:
    own = {"data_path": "dataset", "encoder": "hash", "show_progress": False}
    config = Config("PAD", "tiny", config_dict=own)
    config.spec = replace(config.spec, reads=("user_text", "item_text"))  # user_text needs a split
    (drawn,) = item_maps([], Catalogue(config))
    assert drawn["title"] == "Item vectors: what the texts say"
    assert len(drawn["data"][0]["x"]) == 60


def test_item_vectors_of_one_number_have_no_map(tiny: Path) -> None:
    Path("one.csv").write_text("\n".join(["item,x", *(f"i{i},{1 + i}" for i in range(60))]))
    own = {"data_path": "dataset", "encoder": "precomputed", "embedding_path": "one.csv"}
    assert not list(item_maps([], Catalogue(Config("PAD", "tiny", config_dict=own))))


def test_a_model_draws_figures_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def cell(label: str, model: type) -> Any:
        seeded = SimpleNamespace(config=SimpleNamespace(model_class=model))
        return SimpleNamespace(entry=SimpleNamespace(label=label), seeded=seeded)

    state = {"gate.alpha": torch.zeros(3, 3)}
    monkeypatch.setattr(checkpoint_figures, "_load", lambda cell: {"state_dict": state})
    (drawn,) = model_figures([cell("none", nn.Module), cell("mine", PAD)])
    assert drawn["title"] == "Gates of mine" and drawn["layout"]["barmode"] == "stack"
    assert [trace["name"] for trace in drawn["data"]] == ["id", "aligned", "llm"]
    assert [trace["x"] for trace in drawn["data"]] == [[1, 2]] * 3  # without the padding's bin
    assert [trace["y"] for trace in drawn["data"]] == [[pytest.approx(1 / 3, abs=1e-4)] * 2] * 3


class Heat(nn.Module):
    """A model that draws a figure without y, and then fails if its state holds ``fault``."""

    @staticmethod
    def page_figures(state: dict[str, Any]) -> Iterator[dict[str, Any]]:
        traces = [{"type": "heatmap", "z": [[1, 2]]}]
        yield {"title": "Heat", "note": "", "traces": traces, "x": "a", "y": "b"}
        if "fault" in state:
            raise KeyError("gate.alpha")


def test_figures_of_a_model_that_fail_cost_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def cell(name: str) -> Any:
        seeded = SimpleNamespace(config=SimpleNamespace(model_class=Heat))
        return SimpleNamespace(name=name, entry=SimpleNamespace(label=name), seeded=seeded)

    monkeypatch.setattr(
        checkpoint_figures, "_load", lambda cell: {"state_dict": {cell.name: torch.ones(1)}}
    )
    drawn = list(model_figures([cell("fault"), cell("sound")]))
    assert [figure["title"] for figure in drawn] == ["Heat of sound"]
    assert (
        "fault: no figures of its own, since page_figures of Heat failed: KeyError" in caplog.text
    )


def test_the_table_of_items_is_found_by_its_name_and_rows() -> None:
    state = {"user_embedding": torch.ones(5, 4), "item_bias": torch.ones(5, 1),
             "item_embedding.weight": torch.arange(24.0).view(6, 4)}  # fmt: skip
    assert np.array_equal(_item_table(state, 5), np.arange(20.0).reshape(5, 4))
    assert _item_table({"head": torch.ones(5, 4)}, 5) is None


def test_a_held_out_item_that_was_bought_before_stays_in_the_history() -> None:
    testing.write_tiny_dataset("dataset")
    rows = Path("dataset/tiny/tiny.inter").read_text().splitlines(keepends=True)
    times = enumerate(["i5", "i7", "i5", "i9", "i5"])
    own = [f"twice\t{item}\t3\t{2000 + time}\n" for time, item in times]
    Path("dataset/tiny/tiny.inter").write_text("".join([*rows, *own]))
    catalogue = Catalogue(Config(argv=["--model=SASRec", "--dataset=tiny"]))
    assert catalogue.history("twice", ["i5"]) == ["i5", "i7", "i5", "i9"]
    assert catalogue.history("twice", ["i5", "i9"]) == ["i5", "i7", "i5"]
