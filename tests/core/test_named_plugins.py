"""Plugins in files and modules that the key `plugins` names."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from recbole_llm import load_data_and_model, run_recbole_llm
from recbole_llm.cli import main
from recbole_llm.core.checkpoints.stored import (
    arguments_for_reload,
    keys_required_for_vectors,
    plain_config,
)
from recbole_llm.core.config import Config
from recbole_llm.core.plugins.loading import get_registry, list_models
from recbole_llm.core.plugins.named import load_plugins
from recbole_llm.core.plugins.registry import ModelSpec
from recbole_llm.tasks.export.run import export
from recbole_llm.tasks.prepare import prepare

MINE = """
from recbole_llm import ModelSpec, StageSpec, get_model, hookimpl
from recbole_llm.core.settings import Text
from recbole_llm.models.stock.settings import SASRecSettings
import beside

class OwnSettings(SASRecSettings):
    revision: Text = "1"

class Own(get_model("SASRec")):
    pass

@hookimpl
def register_models(register):
    register(ModelSpec("Own", "mine:Own", settings="mine:OwnSettings"))

@hookimpl
def register_stages(register):
    register(StageSpec("theirs", "mine:NoStage"))
"""


@pytest.fixture(autouse=True)
def _mine(as_new: Callable[[], None]) -> None:
    Path("mine.py").write_text(MINE)
    Path("beside.py").write_text("")


@pytest.mark.parametrize(
    "given",
    [
        {"argv": ["--plugins=mine.py"]},
        {"config_dict": {"plugins": ["mine.py"]}},
        {"config_dict": {"plugins": Path("mine.py")}},
        {"config_file_list": ["a.yaml"], "argv": ["--plugins=['./mine.py', 'beside.py']"]},
    ],
    ids=["argv", "dict", "path", "file"],
)
def test_a_file_is_a_plugin(given: dict[str, Any]) -> None:
    Path("beside.py").write_text("from recbole_llm import hookimpl\n@hookimpl\n"
                                 "def on_result(result): pass\n")  # fmt: skip
    Path("a.yaml").write_text("plugins: other.py\nrevision: 1.10\n")
    given = {"argv": [], **given}
    config = Config("Own", "tiny", **{**given, "argv": [*given["argv"], "--revision=1.10"]})
    assert config["plugins"][0].endswith("mine.py") and config.unknown_keys() == ""
    assert config["revision"] == "1.10"  # the plugin's own settings declare a text
    assert config.spec.base == "SASRec"
    assert pickle.loads(pickle.dumps(config.model_class)) is config.model_class


def test_the_last_file_that_names_plugins_counts() -> None:
    Path("a.yaml").write_text("plugins: none.py")
    Path("b.yaml").write_text("plugins: [mine.py]")
    assert Config("Own", "tiny", ["a.yaml", "b.yaml"])["plugins"] == ["mine.py"]
    assert Config("SASRec", "tiny", ["a.yaml"], argv=["--plugins=None"])["plugins"] is None


def test_a_module_is_a_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path.cwd()))
    assert Config("Own", "tiny", argv=["--plugins=mine"]).model == "Own"
    load_plugins(argv=["--plugins=mine.py"])  # the same module


def test_a_file_is_read_once(caplog: pytest.LogCaptureFixture) -> None:
    load_plugins(argv=["--plugins=mine.py"])
    load_plugins(argv=["--plugins=./mine.py"])
    assert "mine" not in caplog.text
    Path("mine.py").write_text(MINE.replace('"Own"', '"Other"'))
    for _ in range(2):
        load_plugins(argv=["--plugins=mine.py"])
    assert "Own" in list_models() and "Other" not in list_models()
    assert caplog.text.count("plugins: 'mine.py' has changed since this process imported it") == 1


@pytest.mark.parametrize(
    ("code", "place"),
    [
        ("import os\nimport nowhere\n", "line 2"),
        ("import os\n\n{}['a']\n", "line 3"),
        ("import sys\nsys.exit(3)\n", "line 2"),
        (MINE.replace("register(Mod", "register(0 / 0, Mod"), "line 15"),
        (MINE.replace('get_model("SASRec")', 'get_model("SASRecc")'), "line 10"),
    ],
    ids=["missing", "import", "exit", "hook", "refused"],
)
def test_the_line_at_which_a_plugin_cannot_be_loaded_is_told(code: str, place: str) -> None:
    Path("mine.py").write_text(code)
    with pytest.raises(ValueError, match=rf"^plugins: 'mine.py': .* \(mine.py, {place}\)$"):
        load_plugins(argv=["--plugins=mine.py"])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("mien.py", None, "the file 'mien.py' does not exist; did you mean 'mine.py'"),
        ("a.py", "x = ", "SyntaxError: invalid syntax"),
        ("a.py", "import sys; sys.exit(3)", "SystemExit: 3"),
        ("a.py", "import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("a.py", "", "plugin 'a' implements no hook: put @hookimpl before its functions"),
        ("a.py", MINE.replace('"Own"', '"PAD"'), "model 'PAD' of plugin 'a' is already regist"),
        ("a.py", MINE.replace('"Own"', '"pad"'), "model 'pad' of plugin 'a' is already regist"),
        ("a.py", MINE.replace('"Own"', '"BPR"'), "model 'BPR' of plugin 'a' is one of RecBole's"),
        ("a.py", MINE.replace("register(Mod", "register(0 / 0, Mod"), "ZeroDivisionError: divis"),
        ("json.py", MINE, "there is another module 'json' ("),
        ("wave.py", MINE, "there is another module 'wave' ("),  # not imported yet
        ("nowhere", None, "there is no such module; a file ends in .py, and commas separate"),
    ],
)
def test_what_is_no_plugin_ends_the_command(name: str, content: str | None, said: str) -> None:
    if content is not None:
        Path(name).write_text(content)
    done = CliRunner().invoke(main, ["run", "--model=SASRec", f"--plugins={name}"])
    assert done.exit_code == 2, done.output
    assert done.output.startswith(f"error: plugins: '{name}': {said}")
    assert len(done.output.splitlines()) == 1 and "Own" not in list_models()


def test_a_plugin_is_read_anew_once_it_is_mended(caplog: pytest.LogCaptureFixture) -> None:
    Path("mine.py").write_text(MINE.replace("@hookimpl", "# none"))
    with pytest.raises(ValueError, match="implements no hook"):
        load_plugins(argv=["--plugins=mine.py"])
    Path("mine.py").write_text(MINE)
    load_plugins(argv=["--plugins=mine.py"])
    assert "Own" in list_models() and not caplog.text


def test_no_checkpoint_keeps_the_key_and_its_loading_needs_it() -> None:
    config = Config("Own", "tiny", argv=["--plugins=mine.py"])
    assert "plugins" not in plain_config(config)
    assert arguments_for_reload(config) == ["--plugins=mine.py"] and keys_required_for_vectors(
        config
    ) == ["plugins"]


def test_models_and_help_know_the_plugin() -> None:
    listed = CliRunner().invoke(main, ["models", "--plugins=mine.py"]).output
    assert "  mine: model Own; stage theirs\n" in listed
    own = CliRunner().invoke(main, ["models", "Own", "--plugins=mine.py"]).output
    helped = CliRunner().invoke(main, ["run", "--model=Own", "--plugins=mine.py", "--help"]).output
    assert "--revision=1 (" in own and "--revision=1 (" in helped


@pytest.mark.parametrize("base", ["SASRecSettings", "Settings"])
def test_a_misspelt_key_of_a_search_space_is_refused_in_every_run(
    as_new: Callable[[], None], base: str
) -> None:
    """A space may name keys of every run, and of the model that the class extends."""
    space = 'search_space = {"revision": ("1",), "learning_rate": (0.1,), "hidden_size": (8, 16)}'
    old, new = "class OwnSettings(SASRecSettings):", f"class OwnSettings({base}):\n    {space}"
    code = MINE.replace("import Text", "import Settings, Text").replace(old, new)
    Path("mine.py").write_text(code)
    assert Config("Own", "tiny", argv=["--plugins=mine.py"]).spec.name == "Own"
    as_new()
    Path("mine.py").write_text(code.replace('"hidden_size"', '"hiden_size"'))
    said = "^search_space of OwnSettings: the key 'hiden_size' is unknown; did you mean 'hidden_si"
    with pytest.raises(ValueError, match=said):
        Config("Own", "tiny", argv=["--plugins=mine.py"])


def test_a_stage_of_the_plugin_is_found(tiny: Path) -> None:
    given = {"plugins": ["mine.py"]}
    with pytest.raises(ValueError, match="^stage 'theirs'.* names 'mine:NoStage', and"):
        prepare("SASRec", "tiny", config_dict=given, stage="theirs")


def test_a_checkpoint_loads_with_the_plugin(
    tiny: Path, as_new: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"epochs": 1, "show_progress": False, "MAX_ITEM_LIST_LENGTH": 10}
    result = run_recbole_llm("Own", "tiny", config_dict={"plugins": ["mine.py"], **keys})
    file, plugins = result["checkpoint"], {"plugins": ["mine.py"]}
    as_new()
    with pytest.raises(ValueError, match="^model 'Own' is unknown; .* needs --plugins=FILE.py$"):
        load_data_and_model(file)
    assert "Own" not in get_registry().tables[ModelSpec]
    assert load_data_and_model(file, config_dict=plugins)[0].model == "Own"
    as_new()
    items = ["recommend", f"--checkpoint={file}", "--items=i1,i2", "-k", "2"]
    done = CliRunner().invoke(main, [*items, "--plugins=mine.py"])
    assert done.exit_code == 0, done.output
    as_new()
    monkeypatch.setattr("recbole_llm.tasks.export.run.Recommender.of", dict)  # makes export fail
    with pytest.raises(TypeError):  # after the model's class was found
        export(file, "exported", config_dict=plugins)
    assert "Own" in list_models()
