"""Plugins of other projects: found, run, and refused one by one when broken."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recbole_llm import EncoderSpec, FeatureSpec, ModelSpec, StageSpec, hookimpl, hookspecs
from recbole_llm.core.config import Config
from recbole_llm.core.plugins import loading
from recbole_llm.tasks.models import describe
from recbole_llm.testing import write_tiny_dataset

SAMPLE = Path(__file__).parents[1] / "sample_plugin"


def plugin(**hooks: Any) -> object:
    marked = {name: staticmethod(hookimpl(function)) for name, function in hooks.items()}
    return type("Plugin", (), marked)()


def models_of(*specs: ModelSpec) -> object:
    return plugin(register_models=lambda register: [register(spec) for spec in specs] and None)


@pytest.fixture
def fresh() -> loading.Plugins:
    return loading.build_plugins()


def test_built_in_models_come_through_the_same_seam(fresh: loading.Plugins) -> None:
    assert "PAD" in fresh.registry.tables[ModelSpec]
    assert fresh.registry.plugin_of(ModelSpec, "PAD") == "recbole_llm.models.pad"


def test_a_registered_model_is_listed_and_found(fresh: loading.Plugins) -> None:
    fresh.register(models_of(ModelSpec("Mine", "json:JSONDecoder")), "mine")
    assert fresh.registry.find(ModelSpec, "Mine").model == "json:JSONDecoder"


def test_a_hook_may_have_another_name_in_the_plugin(fresh: loading.Plugins) -> None:
    def mine(register: Callable[[ModelSpec], None]) -> None:
        register(ModelSpec("Mine", "json:JSONDecoder"))

    named = staticmethod(hookimpl(mine, specname="register_models"))
    fresh.register(type("Plugin", (), {"mine": named})(), "mine")
    assert "Mine" in fresh.registry.tables[ModelSpec]


def test_a_model_whose_class_is_not_there_is_named_with_its_plugin(
    fresh: loading.Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.register(models_of(ModelSpec("Mine", "json:JSONDecodr")), "acme")
    monkeypatch.setattr(loading, "get_plugins", lambda: fresh)
    said = "^model 'Mine' of plugin 'acme' names 'json:JSONDecodr', and .*did you mean 'JSONDecode"
    with pytest.raises(ValueError, match=said):
        loading.get_model("Mine")


def test_settings_whose_class_is_not_there_are_named_with_their_plugin(
    fresh: loading.Plugins,
) -> None:
    wrong = "recbole_llm.models.stock.settings:SASRecSetings"
    with pytest.raises(ValueError, match="^plugin 'acme' names .*did you mean 'SASRecSettings'"):
        fresh.register(plugin(register_settings=lambda register: register(wrong)), "acme")
    assert not fresh.manager.has_plugin("acme")


def test_settings_that_cannot_be_imported_leave_the_models_of_others_alone(
    fresh: loading.Plugins, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = "from recbole_llm.core.settings import Settings\nclass Own(Settings):\n    alpha = 3\n"
    (tmp_path / "acme_broken.py").write_text(broken)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = "acme_broken:Own"
    fresh.register(models_of(ModelSpec("Theirs", "acme_broken:Theirs", settings=own)), "acme")
    encoder = EncoderSpec("theirs", "acme_broken:make", settings=own)
    fresh.register(plugin(register_encoders=lambda register: register(encoder)), "other")
    monkeypatch.setattr(loading, "get_plugins", lambda: fresh)
    assert Config("SASRec", "ml-100k", config_dict={"hidden_size": 32}).unknown_keys() == ""
    with pytest.raises(Exception, match="non-annotated"):
        Config("Theirs", "ml-100k")


def test_a_class_is_no_plugin(fresh: loading.Plugins) -> None:
    class Mine:
        @hookimpl
        def register_models(self, register: Any) -> None:
            register(ModelSpec("M", "x:M"))

    with pytest.raises(ValueError, match="^plugin 'mine' is a class; name an instance of it, or"):
        fresh.register(Mine, "mine")
    fresh.register(Mine(), "mine")


@pytest.mark.parametrize("metric", [dict, 3])
def test_what_is_no_metric_is_refused(fresh: loading.Plugins, metric: Any) -> None:
    with pytest.raises(ValueError, match="is no class that extends recbole.evaluator.base_metric"):
        fresh.register(plugin(register_metrics=lambda register: register(metric)), "mine")


def test_a_package_inside_one_that_is_not_there_is_missing() -> None:
    spec = EncoderSpec("theirs", "x:make", requires=("not_there.part", "json.decoder"))
    assert spec.missing() == ["not_there.part"]


def test_a_duplicate_name_is_refused_and_leaves_nothing(fresh: loading.Plugins) -> None:
    specs = (ModelSpec("New", "x:New"), ModelSpec("PAD", "x:PAD"))
    with pytest.raises(ValueError, match="model 'PAD' of plugin 'mine' is already registered by"):
        fresh.register(models_of(*specs), "mine")
    assert "New" not in fresh.registry.tables[ModelSpec]
    assert not fresh.manager.has_plugin("mine")


def test_a_name_of_recboles_is_taken_but_for_the_models_that_come_with_this_package(
    fresh: loading.Plugins,
) -> None:
    with pytest.raises(ValueError, match="^model 'BPR' of plugin 'mine' is one of RecBole's; rena"):
        fresh.register(models_of(ModelSpec("BPR", "x:BPR")), "mine")
    with pytest.raises(ValueError, match="^model 'bpr' of .* is one of RecBole's, 'BPR'; rename"):
        fresh.register(models_of(ModelSpec("bpr", "x:BPR")), "mine")
    assert (
        "BPR" not in fresh.registry.tables[ModelSpec]
        and "SASRec" in fresh.registry.tables[ModelSpec]
    )
    assert not fresh.manager.has_plugin("mine")


@pytest.mark.parametrize(
    ("hook", "registered", "said"),
    [
        ("models", "badm:Bad", "plugin 'mine' registers 'badm:Bad', which is no ModelSpec"),
        ("models", ModelSpec("M", "x:M", reads="item_text"),  # type: ignore[arg-type]
         r"model 'M' of plugin 'mine': reads: write a tuple, \('item_text',\), in place of"),
        ("models", ModelSpec("M", "x:M", stages="x"), "'M' .*: stages: write"),  # type: ignore[arg-type]
        ("models", ModelSpec("M", "x:M", settings=dict),
         "model 'M' of plugin 'mine': its settings, dict, are no class that extends recbole_llm."),
        ("features", FeatureSpec("f", "x:f", when="later"),  # type: ignore[arg-type]
         "feature 'f' of plugin 'mine': when 'later' is unknown; choose from loaded, split"),
        ("settings", dict, "plugin 'mine': its settings, dict, are no class"),
    ],
)  # fmt: skip
def test_what_is_no_sound_spec_is_refused(
    fresh: loading.Plugins, hook: str, registered: Any, said: str
) -> None:
    mine = plugin(**{f"register_{hook}": lambda register: register(registered)})
    with pytest.raises(ValueError, match=said):
        fresh.register(mine, "mine")
    assert not fresh.manager.has_plugin("mine")


def test_named_settings_that_are_none_are_refused_where_they_are_read(
    fresh: loading.Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ModelSpec("M", "recbole.model.general_recommender:BPR", settings="json:JSONDecoder")
    fresh.register(models_of(spec), "mine")
    monkeypatch.setattr(loading, "get_plugins", lambda: fresh)
    with pytest.raises(ValueError, match="^model 'M': its settings, JSONDecoder, are no class"):
        Config("M", "ml-100k")


def test_a_misspelt_hook_is_refused(fresh: loading.Plugins) -> None:
    message = (
        "plugin 'mine' implements the unknown hook 'register_model'; did you mean 'register_mo"
    )
    with pytest.raises(ValueError, match=message):
        fresh.register(plugin(register_model=lambda register: None), "mine")


def test_prepare_dataset_and_on_result_are_called(fresh: loading.Plugins) -> None:
    seen: list[Any] = []
    mine = plugin(
        prepare_dataset=lambda config, dataset: seen.append(dataset),
        on_result=lambda config, result: seen.append(result),
    )
    fresh.register(mine, "mine")
    fresh.manager.subset_hook_caller("prepare_dataset", _others(fresh, mine))(config=1, dataset=2)
    fresh.manager.hook.on_result(config=1, result={"a": 1})
    assert seen == [2, {"a": 1}]


@pytest.mark.parametrize("hook", ["item_texts", "user_texts"])
def test_the_first_plugin_that_gives_texts_wins(fresh: loading.Plugins, hook: str) -> None:
    fresh.register(plugin(**{hook: lambda config, dataset: {"i1": "one"}}), "first")
    fresh.register(plugin(**{hook: lambda config, dataset: None}), "second")
    assert getattr(fresh.manager.hook, hook)(config=None, dataset=None) == {"i1": "one"}


def test_an_encoder_and_a_metric_are_registered(fresh: loading.Plugins) -> None:
    from recbole.evaluator import metrics, register

    class FirstHit(metrics.Hit):  # type: ignore[misc]
        pass

    fresh.register(
        plugin(
            register_encoders=lambda register: register(EncoderSpec("mine", "x:y")),
            register_metrics=lambda register: register(FirstHit),
        ),
        "mine",
    )
    assert fresh.registry.find(EncoderSpec, "mine").factory == "x:y"
    assert register.metrics_dict.pop("firsthit") is FirstHit
    assert register.metric_information.pop("firsthit") == ["rec.topk"]


def test_a_feature_and_a_stage_are_registered(fresh: loading.Plugins) -> None:
    feature = FeatureSpec("item_sound", "x:build", summary="of pictures")
    stage = StageSpec("tune", "x:Tune")
    mine = plugin(
        register_features=lambda register: register(feature),
        register_stages=lambda register: register(stage),
    )
    fresh.register(mine, "mine")
    assert fresh.registry.find(FeatureSpec, "item_sound") is feature
    assert fresh.registry.find(StageSpec, "tune") is stage
    with pytest.raises(ValueError, match="feature 'item_imag' is unknown; did you mean 'item_imag"):
        fresh.registry.find(FeatureSpec, "item_imag")
    with pytest.raises(ValueError, match="stage 'encod' is unknown; did you mean 'encode'"):
        fresh.registry.find(StageSpec, "encod")
    taken = plugin(register_features=lambda register: register(FeatureSpec("item_text", "x:y")))
    with pytest.raises(ValueError, match="feature 'item_text' .* by plugin 'recbole_llm.features'"):
        fresh.register(taken, "other")


@pytest.mark.parametrize("name", ["Recall", "NEW"])  # of RecBole; New but for its case
def test_a_refused_metric_leaves_nothing(fresh: loading.Plugins, name: str) -> None:
    from recbole.evaluator import metrics, register

    class New(metrics.Hit):  # type: ignore[misc]
        pass

    taken = type(name, (metrics.Hit,), {})
    mine = plugin(
        register_models=lambda register: register(ModelSpec("New", "x:New")),
        register_metrics=lambda register: [register(New), register(taken)],
    )
    with pytest.raises(ValueError, match=f"metric '{name}' is already registered"):
        fresh.register(mine, "mine")
    assert "New" not in fresh.registry.tables[ModelSpec] and not fresh.manager.has_plugin("mine")
    assert "new" not in register.metrics_dict


def test_a_model_may_bring_its_data_set_class(request: pytest.FixtureRequest) -> None:
    from recbole.data.dataset import Dataset

    from recbole_llm import Config, testing
    from recbole_llm.data.create import create_dataset

    class MyDataset(Dataset):  # type: ignore[misc]
        pass

    testing.write_tiny_dataset("dataset")
    spec = ModelSpec("OfMine", "recbole.model.general_recommender:BPR", dataset=MyDataset)
    loading.get_plugins().register(models_of(spec), "of mine")
    request.addfinalizer(lambda: loading.get_plugin_manager().unregister(name="of mine"))
    config = Config("OfMine", "tiny", config_dict={"data_path": "dataset"})
    assert type(create_dataset(config)) is MyDataset


def _others(fresh: loading.Plugins, mine: object) -> list[object]:
    return [p for p in fresh.manager.get_plugins() if p is not mine]


def test_every_hook_has_a_docstring_and_stands_in_the_readme() -> None:
    readme = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
    for name in hook_names():
        assert getattr(hookspecs, name).__doc__, name
        assert f"`{name}" in readme, f"{name} is not in docs/plugins.md"


def hook_names() -> list[str]:
    return [name for name, f in vars(hookspecs).items() if hasattr(f, "recbole_llm_spec")]


def test_the_sample_stands_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
    for name in ("acme_recommender.py", "acme_model.py", "pyproject.toml"):
        assert f"\n{(SAMPLE / name).read_text(encoding='utf-8')}```\n" in page, name


def test_every_import_of_the_docs_works() -> None:
    page = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
    imports = re.findall(r"^\| `(from [\w.]+ import [\w, ]+)`", page, re.M)
    assert len(imports) > 10
    for line in imports:
        exec(line, {})


def test_a_yaml_file_of_some_keys_lies_over_the_settings_class(
    fresh: loading.Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "Mine.yaml"
    file.write_text("hidden_size: 96\n")
    settings = "recbole_llm.models.stock.settings:SASRecSettings"
    model = "recbole_llm.models.stock.sasrec:SASRec"
    fresh.register(models_of(ModelSpec("Mine", model, settings=settings, config=file)), "mine")
    monkeypatch.setattr(loading, "get_plugins", lambda: fresh)
    config = Config("Mine")
    assert config.unknown_keys() == ""
    assert (config["hidden_size"], config["train_level"]) == (96, "sequence")
    said = list(describe("Mine"))
    assert any(line.startswith("--hidden_size=96") for line in said)
    assert "  hidden_size: 64, 128" in said and "  learning_rate: 0.0001 to 0.01" in said
    file.unlink()
    with pytest.raises(ValueError, match="config file '.*Mine.yaml' does not exist"):
        Config("Mine")


def test_a_misspelt_key_of_the_yaml_file_is_told(
    fresh: loading.Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "Mine.yaml"
    file.write_text("hiden_size: 96\n")
    settings = "recbole_llm.models.stock.settings:SASRecSettings"
    model = "recbole_llm.models.stock.sasrec:SASRec"
    fresh.register(models_of(ModelSpec("Mine", model, settings=settings, config=file)), "mine")
    monkeypatch.setattr(loading, "get_plugins", lambda: fresh)
    said = f"'{file}': unknown config key: 'hiden_size', did you mean 'hidden_size'?"
    assert Config("Mine").unknown_keys() == said
    with pytest.raises(ValueError, match="hiden_size.* .strict_config: True."):
        Config("Mine", config_dict={"strict_config": True})


def test_another_projects_package_is_installed_discovered_and_run(tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    source = tmp_path / "source"
    source.mkdir()
    for file in SAMPLE.iterdir():
        if file.is_file():
            (source / file.name).write_bytes(file.read_bytes())
    subprocess.run([*install, "--target", str(site), str(source)], check=True)
    write_tiny_dataset(tmp_path / "dataset")
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "from recbole_llm import run_recbole_llm, list_models, list_encoders\n"
        "assert 'TextMean' in list_models() and 'letters' in list_encoders()\n"
        "result = run_recbole_llm('TextMean', 'tiny', config_dict=dict(encoder='letters', epochs=8,"
        " learning_rate=0.01, show_progress=False, MAX_ITEM_LIST_LENGTH=10))\n"
        "print('ndcg', result['test_result']['ndcg@10'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    # 60 items: a random ranking gives about .08 at 10, the user's genre alone gives far more.
    # Titles of the same letters tie.
    assert float(run.stdout.split("ndcg ")[1]) > 0.12


def test_the_keys_of_an_encoder_are_listed() -> None:
    said = "\n".join(describe("openai"))
    assert said.startswith("\x1b[1m--encoder=openai\x1b[0m: any OpenAI-compatible")
    assert "--encoder_request_size=128 (" in said and "--encoder_prefix=None (" in said
    assert "--encoder_dtype" not in said  # the encoder does not read it
