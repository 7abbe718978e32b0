"""By default, only items with interactions get ids and are ranked, whatever files a model loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recbole_llm.core.config import Config
from recbole_llm.data.create import create_dataset
from recbole_llm.data.datasets.vocabulary import new_items
from recbole_llm.features.contents.prompts import item_texts
from recbole_llm.testing import write_tiny_dataset

INTER = ["user_id", "item_id", "timestamp"]
NEW = range(60, 65)


def add(file: Path, rows: list[str]) -> None:
    with file.open("a", encoding="utf-8") as opened:
        opened.write("".join(f"{row}\n" for row in rows))


def load(model: str, name: str, **keys: Any) -> Any:
    return create_dataset(Config(model, name, config_dict={"data_path": "dataset", **keys}))


@pytest.mark.parametrize(("catalogue", "items"), [("interactions", 61), ("item_file", 66)])
@pytest.mark.parametrize("columns", [{}, {"item": ["item_id", "genre"]}])
def test_items_of_a_knowledge_graph(
    catalogue: str, items: int, columns: dict[str, list[str]]
) -> None:
    folder = write_tiny_dataset("dataset")
    add(folder / "tiny.item", [f"i{n}\tNew {n}\tdrama\t1999\t3.5" for n in NEW])
    add(folder / "tiny.kg", [f"e{n}\thas_genre\tg_drama" for n in NEW])
    add(folder / "tiny.link", [f"i{n}\te{n}" for n in NEW])
    graph = {"kg": ["head_id", "relation_id", "tail_id"], "link": ["item_id", "entity_id"]}
    loaded = {"inter": INTER, **graph, **columns}
    dataset = load("CKE", "tiny", load_col=loaded, item_catalogue=catalogue)
    assert dataset.item_num == items
    entities = dataset.field2id_token[dataset.entity_field]
    for number, item in enumerate(dataset.field2id_token["item_id"][1:], start=1):
        assert entities[number] == f"e{item[1:]}"


def test_a_listed_item_that_a_filter_drops_stays_out(caplog: pytest.LogCaptureFixture) -> None:
    folder = write_tiny_dataset("dataset")
    add(folder / "tiny.item", ["i60\tNew\tdrama\t1999\t3.5", "i61\tDear\tdrama\t1999\t900"])
    columns = {"inter": INTER, "item": ["item_id", "price"]}
    prices = {"val_interval": {"price": "[0,800]"}, "load_col": columns}
    dataset = load("BPR", "tiny", item_catalogue="item_file", **prices)
    tokens = dataset.field2id_token["item_id"].tolist()
    assert "i60" in tokens and "i61" not in tokens
    assert new_items(dataset.config, dataset) == []
    dataset = load("BPR", "tiny", **prices)
    assert new_items(dataset.config, dataset) == ["i60"]
    with caplog.at_level("INFO"):
        item_texts(dataset.config, dataset)
    assert "1 more item without interactions in the item file: models" in caplog.text


def test_items_that_are_in_histories_alone_keep_their_columns() -> None:
    folder = Path("dataset/b")
    folder.mkdir(parents=True)
    header = "user_id:token\titem_id_list:token_seq\titem_id:token\n"
    rows = {
        "train": "u1\ta b\tc\nu2\ta d\te\n",
        "valid": "u1\ta b c\te\n",
        "test": "u2\ta d e\tc\n",
    }
    for part, own in rows.items():
        (folder / f"b.{part}.inter").write_text(header + own)
    items = "".join(f"{item}\tg{item}\n" for item in "abcdez")
    (folder / "b.item").write_text(f"item_id:token\tgenre:token\n{items}")
    dataset = load(
        "SASRecF", "b", benchmark_filename=list(rows), alias_of_item_id=["item_id_list"],
        load_col={"inter": ["user_id", "item_id_list", "item_id"], "item": ["item_id", "genre"]},
        selected_features=["genre"], train_neg_sample_args=None,
    )  # fmt: skip
    tokens, genres = dataset.field2id_token["item_id"], dataset.field2id_token["genre"]
    assert sorted(tokens[1:]) == list("abcde")
    for number in range(1, dataset.item_num):
        assert genres[int(dataset.item_feat["genre"][number])] == f"g{tokens[number]}"


def test_items_of_a_file_of_vectors() -> None:
    folder = write_tiny_dataset("dataset")
    (folder / "tiny.emb").write_text(
        "iid:token\temb:float_seq\n" + "".join(f"i{n}\t{n}.0 1.0\n" for n in range(70))
    )
    dataset = load(
        "BPR", "tiny", load_col={"inter": INTER, "emb": ["iid", "emb"]}, alias_of_item_id=["iid"],
        additional_feat_suffix=["emb"], preload_weight={"iid": "emb"},
    )  # fmt: skip
    assert dataset.item_num == 61
    weights = dataset.get_preload_weight("iid")
    for number, item in enumerate(dataset.field2id_token["item_id"][1:], start=1):
        assert weights[number].tolist() == [float(item[1:]), 1.0]


def test_a_social_network_names_users_by_aliases() -> None:
    folder = write_tiny_dataset("dataset")
    (folder / "tiny.net").write_text("source_id:token\ttarget_id:token\nu1\tu2\n")
    given = {
        "load_col": {"inter": INTER, "net": ["source_id", "target_id"]},
        "additional_feat_suffix": ["net"],
    }
    with pytest.raises(ValueError, match="'source_id' of 'tiny.net' does not name users or items"):
        load("BPR", "tiny", **given).build()
    dataset = load("BPR", "tiny", **given, alias_of_user_id=["source_id", "target_id"])
    dataset.build()
    users = dataset.field2id_token["user_id"]
    fields = ("source_id", "target_id")
    assert [users[int(dataset.net_feat[field][0])] for field in fields] == ["u1", "u2"]


def test_interactions_of_items_without_a_row_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = write_tiny_dataset("dataset")
    lines = (folder / "tiny.item").read_text(encoding="utf-8").splitlines()
    (folder / "tiny.item").write_text("\n".join(lines[:-3]) + "\n", encoding="utf-8")
    gone = {line.partition("\t")[0] for line in lines[-3:]}
    rows = (folder / "tiny.inter").read_text(encoding="utf-8").splitlines()[1:]
    lost = sum(row.split("\t")[1] in gone for row in rows)
    load("BPR", "tiny", load_col={"inter": INTER})
    assert "left out" not in caplog.text
    load("BPR", "tiny", load_col={"inter": INTER, "item": ["item_id", "genre"]})
    said = f"left out {lost} interactions of users or items without a row in the .user or .item"
    assert lost > 1 and f"{said} file (filter" in caplog.text
    keys = {"load_col": {"inter": INTER, "item": ["item_id", "genre"]}}
    load("BPR", "tiny", **keys, val_interval={"genre": ["drama"]})
    assert "without a row in the .user or .item file after val_interval (filter" in caplog.text
