"""The samples that MIRM learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_pictures import picture, tiny_qwen2_vl

from recbole_llm.core.config import Config
from recbole_llm.data.create import create_dataset
from recbole_llm.data.prepare import data_preparation
from recbole_llm.models.molar.mirm import MIRMStage
from recbole_llm.offline.adapter_training import Sample
from recbole_llm.testing import write_tiny_dataset


def stage(**keys: Any) -> MIRMStage:
    config = Config(
        "Molar", "tiny", config_dict={"data_path": "dataset", "show_progress": False, **keys}
    )
    return MIRMStage(config, data_preparation(config, create_dataset(config))[0].dataset)


def by_task(samples: Any, task: str) -> list[Sample]:
    return [sample for sample in samples if sample.task == task]


def test_samples_of_texts(tmp_path: Path) -> None:
    write_tiny_dataset("dataset")
    samples = stage(mirm_history=2).samples()
    assert not by_task(samples, "picture")
    first = by_task(samples, "attributes")[0]
    attributes = "genre: action; release year: 1990; price: 0.5"
    assert first.prompt == f"Describe the item. {attributes}"
    assert first.answer == "The action river 0"
    histories = by_task(samples, "history")
    assert len(histories) == 40
    assert all(s.prompt.count(";") <= 1 and s.answer.startswith("The ") for s in histories)


def test_paths_of_pictures_are_no_descriptions() -> None:
    file = write_tiny_dataset("dataset") / "tiny.item"
    head, *rows = file.read_text().splitlines()
    paths = [f"images/a-long-path-to-the-picture-of-the-item/{n}.png" for n in range(len(rows))]
    lines = [f"{row}\t{path}" for row, path in zip(rows, paths)]
    file.write_text("\n".join([f"{head}\tname_of_image:token", *lines]) + "\n")
    samples = stage(item_image_field="name_of_image").samples()
    first = by_task(samples, "attributes")[0]
    assert first.answer == "The action river 0"
    assert not any("images/" in sample.prompt + sample.answer for sample in samples)


def test_histories_are_of_training_alone() -> None:
    """Changing each user's last two items, which leave-one-out holds out, changes no history."""
    folder = write_tiny_dataset("dataset")
    before = stage().samples()
    file = folder / "tiny.inter"
    rows = [line.split("\t") for line in file.read_text().splitlines()]
    last: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        last.setdefault(row[0], []).append(number)
    held_out = [n for user, own in last.items() if user != "user_id:token" for n in own[-2:]]
    for number in held_out:
        rows[number][1] = "i7"
    file.write_text("\n".join("\t".join(row) for row in rows) + "\n")
    after = stage().samples()
    assert by_task(after, "history") == by_task(before, "history")
    rows[last["u3"][0]][1] = "i7"  # a training item, which does change them
    file.write_text("\n".join("\t".join(row) for row in rows) + "\n")
    assert by_task(stage().samples(), "history") != by_task(before, "history")


def test_histories_of_untitled_items_are_left_out() -> None:
    file = write_tiny_dataset("dataset") / "tiny.item"
    rows = [line.split("\t") for line in file.read_text().splitlines()]
    for row in rows[1::5]:
        row[1] = ""
    file.write_text("\n".join("\t".join(row) for row in rows) + "\n")
    histories = by_task(stage(mirm_history=1).samples(), "history")
    assert histories and not any(": ." in sample.prompt for sample in histories)


def test_pictures_where_the_model_sees(tmp_path: Path) -> None:
    folder = write_tiny_dataset("dataset") / "images"
    folder.mkdir()
    picture(0).save(folder / "i3.png")
    keys = {"encoder": "multimodal", "encoder_model": str(tiny_qwen2_vl(tmp_path / "model"))}
    made = stage(item_feature="item_multimodal", **keys)
    (sample,) = by_task(made.samples(), "picture")
    assert (sample.answer, sample.image and sample.image.name) == ("The horror garden 3", "i3.png")
    assert not by_task(stage(**keys).samples(), "picture")


def test_an_unknown_field() -> None:
    write_tiny_dataset("dataset")
    with pytest.raises(ValueError, match="mirm_description_field: .* no field 'x'; it has"):
        stage(mirm_description_field="x").samples()
