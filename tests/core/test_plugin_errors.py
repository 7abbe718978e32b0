"""Messages when a plugin fails in a run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from commands import run_main

from recbole_llm import Config, quick_start
from recbole_llm.core.plugins import loading
from recbole_llm.core.plugins.errors import plugin_behind
from recbole_llm.core.plugins.registry import ModelSpec

pytestmark = pytest.mark.usefixtures("tiny")
ROOT = Path(__file__).parents[2]
BPR = ("--model=BPR", "--dataset=tiny", "--epochs=1", "--show_progress=False")
HOOK = "from recbole_llm import hookimpl\n@hookimpl\n"
Register = Callable[[str, str], None]


@pytest.fixture
def register() -> Iterator[Register]:
    """``register(name, code)`` makes a plugin of code, which is unregistered after the test."""
    manager, names = loading.get_plugins().manager, []

    def registered(name: str, code: str) -> None:
        module = ModuleType(f"{name}_pkg.hooks")
        exec(code, vars(module))
        loading.get_plugins().register(module, name)
        names.append(name)

    yield registered
    for name in names:
        manager.unregister(name=name)


@pytest.mark.parametrize("hook", ["on_validation(config, score)", "on_result(config, result)"])
def test_a_hook_that_raises_is_reported_with_its_plugin(
    register: Register, capsys: pytest.CaptureFixture[str], hook: str
) -> None:
    register("good", f"{HOOK}def {hook}: pass")
    register("badfour", f"{HOOK}def {hook}: raise RuntimeError('hook broke')")
    assert run_main(BPR) == 1
    (said,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("error")]
    found = re.fullmatch(
        r"error: plugin 'badfour': RuntimeError: hook broke \(<string>, line 3\); the traceback is "
        r"in (\S+)",
        said,
    )
    assert found is not None, said
    assert "in on_" in Path(found[1]).read_text()


def test_a_plugin_that_refuses_is_named_too(
    register: Register, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ValueError comes from a library that the plugin calls."""
    code = f"import json\n{HOOK}def prepare_dataset(config, dataset): json.loads('[')"
    register("badfour", code)
    assert run_main(BPR) == 2
    assert "error: plugin 'badfour': Expecting value: line 1" in capsys.readouterr().err


def test_where_a_plugin_refuses_is_told(
    register: Register, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python raises ValueError too, in words that do not name the place."""
    register("badfour", f"{HOOK}def prepare_dataset(config, dataset):\n    a, b = [1]")
    assert run_main(BPR) == 2
    assert re.search(
        r"^error: plugin 'badfour': not enough values to unpack \(.*\) \(<string>, line \d+\)$",
        capsys.readouterr().err,
        re.MULTILINE,
    )


def test_an_error_of_this_package_is_no_plugins(register: Register) -> None:
    register("badfour", f"{HOOK}def on_result(config, result): config.unknown_keys()")
    with pytest.raises(AttributeError) as ours:
        loading.get_plugin_manager().hook.on_result(config=Config.__new__(Config), result={})
    assert plugin_behind(ours.value) is None
    with pytest.raises(AttributeError) as theirs:
        loading.get_plugin_manager().hook.on_result(config=None, result={})
    assert plugin_behind(theirs.value) == "badfour"


def test_where_our_code_fails_the_plugin_of_the_model_is_told(
    register: Register, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model's table is no module. Plugins that do not provide the model are not named."""
    code = (
        "import torch\nfrom recbole_llm import ModelSpec\n"
        "from recbole_llm.models.base import SequenceRecommender\n"
        "class Odd(SequenceRecommender):\n"
        "    def __init__(self, config, dataset):\n"
        "        super().__init__(config, dataset)\n"
        "        self.table = torch.nn.Embedding(dataset.item_num, 4)\n"
        "        self.item_embedding = None\n"
        "    def user_states(self, item_seq, mask): return self.table(item_seq)\n"
        f"{HOOK}def register_models(register): register(ModelSpec('Odd', Odd))"
    )
    register("badfour", code)
    register("good", f"{HOOK}def on_result(config, result): pass")
    assert run_main(("--model=Odd", *BPR[1:])) == 1
    (said,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("error")]
    assert said.startswith("error: AttributeError: "), said
    assert "an unexpected situation with plugin 'badfour': the traceback is in " in said
    assert "; if the fault is not the plugin's, report it with that file to the pro" in said


def test_where_our_code_fails_with_a_model_of_ours_all_plugins_are_told(
    register: Register, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("badfour", "good"):
        register(name, f"{HOOK}def on_result(config, result): pass")
    monkeypatch.setattr(quick_start, "load_data", lambda _: None)
    assert run_main(BPR) == 1
    said = capsys.readouterr().err
    assert "an unexpected situation with plugins 'badfour', 'good': the traceback is in " in said


def test_a_metric_that_returns_no_numbers_is_named_with_its_plugin(
    register: Register, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plugin that provides the model is not named."""
    from recbole.evaluator.register import metrics_dict

    register(
        "badmetric",
        "from recbole.evaluator.base_metric import TopkMetric\n"
        "class Wrong(TopkMetric):\n"
        "    def calculate_metric(self, dataobject): return self.returned\n"
        f"{HOOK}def register_metrics(register): register(Wrong)",
    )
    register(
        "innocent",
        "from recbole.model.general_recommender import BPR\nfrom recbole_llm import ModelSpec\n"
        "class Fine(BPR): pass\n"
        f"{HOOK}def register_models(register): register(ModelSpec('Fine', Fine))",
    )
    asked = ("--metrics=Wrong,NDCG", "--valid_metric=NDCG@10", "--embedding_size=8")
    for returned in (3.0, {"wrong@10": "much"}):
        metrics_dict["wrong"].returned = returned
        assert run_main(("--model=Fine", *BPR[1:], *asked)) == 2
        assert (
            f"error: metric 'Wrong' of plugin 'badmetric': calculate_metric returned {returned}; "
            "it is to return {name: number}, such as {'wrong@10': 0.5}\n"
        ) in capsys.readouterr().err
    metrics_dict["wrong"].returned = {"wrong@10": np.float32(0.5)}
    assert run_main(("--model=Fine", *BPR[1:], *asked)) == 0
    del metrics_dict["wrong"]


def test_texts_that_are_no_mapping_are_refused_with_the_hooks_plugin(
    register: Register, capsys: pytest.CaptureFixture[str]
) -> None:
    register("badfour", f"{HOOK}def item_texts(config, dataset): return ['a text']")
    assert run_main(("--model=AlphaRec", "--encoder=hash", *BPR[1:])) == 2
    said = "error: item_texts of plugin 'badfour' returned a list; it must return {token: text}"
    assert said in capsys.readouterr().err


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> loading.Plugins:
    """Plugins, one of which names metrics that cannot be imported."""
    Path("bad_metrics.py").write_text("class Some: pass\n")
    Path("bad_syntax.py").write_text("def\n")
    Path("bad_import.py").write_text("import os\nimport nowhere\n")
    module = ModuleType("badfour")
    targets = "('bad_metrics:Nope', 'bad_metrics:Some', 'bad_syntax:Much', 'bad_import:Far')"
    code = f"{HOOK}def register_metrics(register):\n    for t in {targets}: register(t)"
    exec(code, vars(module))
    monkeypatch.syspath_prepend(Path.cwd())
    fresh = loading.build_plugins()
    fresh.register(module, "badfour")
    monkeypatch.setattr("recbole_llm.core.keys.evaluation.get_plugins", lambda: fresh)
    return fresh


def test_a_broken_metric_does_not_stop_runs_that_do_not_ask_for_it(
    broken: loading.Plugins, caplog: pytest.LogCaptureFixture
) -> None:
    from recbole.evaluator.register import metrics_dict

    for _ in range(2):
        Config("BPR", "tiny", config_dict={"metrics": ["Novelty", "MRR"]})
    nope, some, much, far = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
    assert nope.startswith(
        "metric 'Nope' of plugin 'badfour' was left out: it names 'bad_metrics:Nope', and '"
    ) and nope.endswith("bad_metrics.py' has no 'Nope'")
    assert "'Some' of plugin 'badfour' was left out: <class 'bad_metrics.Some'> is no class" in some
    assert "'Much' of plugin 'badfour' was left out: it names 'bad_syntax:Much', whose" in much
    assert "import failed: SyntaxError: " in much
    assert far.endswith("No module named 'nowhere' (bad_import.py, line 2)")
    assert "some" not in metrics_dict


def test_a_broken_metric_that_is_asked_for_is_an_error(broken: loading.Plugins) -> None:
    said = "^metrics: the metric 'Nope' is unknown; .*'Nope' of plugin 'badfour' was left out"
    with pytest.raises(ValueError, match=said):
        Config("BPR", "tiny", config_dict={"metrics": ["Nope"]})


def test_an_installed_plugins_other_modules_are_known_and_its_parts_listed(tmp_path: Path) -> None:
    """The model is in a module of its own, as in the sample plugin."""
    (tmp_path / "walkrec.py").write_text(
        "from recbole_llm import EncoderSpec, ModelSpec, hookimpl\n"
        "@hookimpl\ndef register_models(register):\n"
        "    register(ModelSpec('Mine', 'walk_models:Mine'))\n"
        "    register(ModelSpec('WalkBPR', 'walk_models:Mine'))\n"
        "@hookimpl\ndef register_encoders(register): register(EncoderSpec('vowels', 'walk:v'))\n"
        "@hookimpl\ndef register_metrics(register): register('walk:HitsSquared')\n"
        "@hookimpl\ndef on_result(config, result): pass\n"
    )
    (tmp_path / "walk_models.py").write_text(
        "from recbole.model.general_recommender import BPR\n"
        "class Mine(BPR):\n    def calculate_loss(self, interaction): return {}['a']\n"
    )
    info = tmp_path / "walk_rec-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: walk-rec\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[recbole_llm]\nwalk = walkrec\n")
    (info / "top_level.txt").write_text("walk_models\nwalkrec\n")

    def done(*argv: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join((str(ROOT), str(tmp_path)))
        command = [sys.executable, "-m", "recbole_llm", *argv]
        return subprocess.run(
            command,
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )

    listed = "walk: models Mine, WalkBPR; encoder vowels; metric HitsSquared; hook on_result"
    assert f"  {listed}\n" in done("models").stdout
    run = done("run", *BPR[1:], "--model=Mine", "--embedding_size=8")
    assert run.returncode == 1
    assert "error: plugin 'walk': KeyError: 'a' (walk_models.py, line 3); the trace" in run.stderr
    assert run.stderr.count("metric 'HitsSquared' of plugin") == 1


def test_one_broken_plugin_does_not_take_the_others_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    modules = {
        "broken_import": "import no_such_module_at_all",
        "broken_hook": "from recbole_llm import hookimpl\n@hookimpl\ndef prepare_data(config): ...",
        "good": "from recbole_llm import hookimpl, ModelSpec\n@hookimpl\n"
        "def register_models(register):\n    register(ModelSpec('Good', 'json:JSONDecoder'))",
    }
    for name, code in modules.items():
        (tmp_path / f"{name}.py").write_text(code)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[recbole_llm]\n{name} = {name}\n")
    monkeypatch.syspath_prepend(tmp_path)
    loaded = loading.build_plugins()
    assert (
        "Good" in loaded.registry.tables[ModelSpec] and "PAD" in loaded.registry.tables[ModelSpec]
    )
    said = "No module named 'no_such_module_at_all' (broken_import.py, line 1)"
    assert said in loaded.failed["broken_import"]
    assert "did you mean 'prepare_dataset'" in loaded.failed["broken_hook"]
    lines = [r.getMessage() for r in caplog.records if "was left out" in r.getMessage()]
    assert len(lines) == 2
