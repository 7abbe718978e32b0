"""Messages for missing files, names and packages."""

from __future__ import annotations

import os
from configparser import ConfigParser
from pathlib import Path

import pytest

from recbole_llm.core import errors
from recbole_llm.core.errors import (
    _EXTRAS,
    decimal_comma_hint,
    install_command,
    missing_file_error,
    near_matches,
    optional_imports,
    unknown_name_error,
)
from recbole_llm.features.tables.table import TableError


def test_a_file_that_is_not_there_has_the_near_names_of_its_folder() -> None:
    Path("tables").mkdir()
    Path("tables/orders.csv").touch()
    said = str(missing_file_error("config file", "tables/ordes.csv"))
    assert said == "config file 'tables/ordes.csv' does not exist; did you mean 'orders.csv'?"
    assert (
        str(missing_file_error("the file", "tables")) == "the file 'tables' is a folder, not a file"
    )
    assert str(missing_file_error("checkpoint", "")) == "checkpoint: the name of the file is empty"
    assert (
        str(missing_file_error("the file", "nowhere/x.csv"))
        == "the file 'nowhere/x.csv' does not exist"
    )


def test_of_files_that_are_not_there_the_newest_are_named() -> None:
    Path("saved").mkdir()
    assert str(missing_file_error("checkpoint", "saved/x.pth", "*.pth")).endswith("does not exist")
    for age, name in enumerate(("PAD-shop-1.pth", "SASRec-shop-2.pth", "notes.txt")):
        Path("saved", name).touch()
        os.utime(Path("saved", name), (1000 - age, 1000 - age))
    said = str(missing_file_error("checkpoint", "saved/x.pth", "*.pth"))
    assert said.endswith("not exist; the newest there: 'PAD-shop-1.pth', 'SASRec-shop-2.pth'")
    Path("saved/gone.pth").symlink_to("nowhere.pth")
    assert str(missing_file_error("checkpoint", "saved/x.pth", "*.pth")) == said
    near = str(missing_file_error("checkpoint", "saved/SASRec-shop-1.pth", "*.pth"))
    assert near.endswith("did you mean 'SASRec-shop-2.pth'?")


def test_only_names_about_as_near_as_the_nearest_are_meant() -> None:
    assert near_matches("epoch", ["epochs", "nproc", "depth"]) == ["epochs"]
    assert near_matches("shop-3", ["shop-1", "shop-2"]) == ["shop-2", "shop-1"]


def test_a_single_choice_is_named_once() -> None:
    assert str(unknown_name_error("item_init", "LLM", ["llm"])).endswith(
        "is unknown; did you mean 'llm'?"
    )
    assert str(unknown_name_error("item_init", "x", ["llm"])).endswith(
        "is unknown; choose from llm"
    )
    two = str(unknown_name_error("mode", "LLM", ["llm", "none"]))
    assert two.endswith("did you mean 'llm'? choose from llm, none")


@pytest.mark.parametrize(
    ("value", "said"),
    [("0,001", "; write 0.001"), ([0, 5], "; write 0.5"), ("x,1", ""), ([1, 2, 3], ""), (0.5, "")],
)
def test_a_decimal_comma(value: object, said: str) -> None:
    assert decimal_comma_hint(value) == said


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    said = "^export needs the package 'not_there': pip install not-there$"
    with pytest.raises(TableError, match=said), optional_imports("export", TableError):
        import not_there  # type: ignore[import-not-found]  # noqa: F401


def test_an_extra_that_brings_a_package_is_named() -> None:
    assert install_command("pyarrow") == "pip install 'recbole-llm[parquet]'"
    assert install_command("gguf", "accelerate") == "pip install 'recbole-llm[gguf]'"
    assert install_command("peft", "no_such") == "pip install 'recbole-llm[lora]' no-such"
    assert install_command("no_such") == "pip install no-such"
    with pytest.raises(ValueError, match=r"'pyarrow\.x': pip install 'recbole-llm\[parquet\]'$"):
        with optional_imports("a file"):
            raise ImportError(name="pyarrow.x")
    with pytest.raises(ValueError, match=r"^a file: torch is too old$"):
        with optional_imports("a file"):
            raise ImportError("torch is too old")


def test_where_models_are_served_alone_no_extra_brings_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    assert install_command("pyarrow") == "pip install pyarrow"


def test_the_extras_bring_the_packages_that_messages_say() -> None:
    setup = ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg", encoding="utf-8")
    for extra, modules in _EXTRAS.items():
        brought = setup["options.extras_require"][extra].lower().replace("-", "_")
        for module in modules:
            assert {"PIL": "pillow"}.get(module, module) in brought
