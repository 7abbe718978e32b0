"""What identifies a run: its code, its settings, and the files that it reads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from recbole.model.general_recommender import BPR

from recbole_llm.core.config import Config
from recbole_llm.core.plugins.loading import get_plugins, get_registry
from recbole_llm.core.plugins.registry import FeatureSpec, Registered
from recbole_llm.tasks.compare import keys
from recbole_llm.tasks.compare.cells import make_cells
from recbole_llm.tasks.compare.entries import parse_models
from recbole_llm.tasks.compare.keys import code_digest, module_digest, run_key
from recbole_llm.testing import write_tiny_dataset


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's package, with a model and with other code beside it."""
    folder = Path("theirs")
    for file, text in {
        "__init__.py": "",
        "nets/__init__.py": "",
        "nets/model.py": "from recbole.model.general_recommender import BPR\n"
                         "class Net(BPR): pass\n",
        "parts/layer.py": "WIDTH = 1\n",
    }.items():  # fmt: skip
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "theirs"]:
        del sys.modules[name]
    code_digest.cache_clear()


def changed(model: type, file: Path) -> bool:
    """Whether an added line changes the digest."""
    code_digest.cache_clear()
    before = code_digest(model)
    with file.open("a") as opened:
        opened.write("# another\n")
    code_digest.cache_clear()
    return code_digest(model) != before


def test_a_models_whole_package_matters(package: Path) -> None:
    net = import_module("theirs.nets.model").Net
    assert changed(net, package / "nets/model.py")
    assert changed(net, package / "parts/layer.py")
    assert not changed(BPR, package / "parts/layer.py")


@pytest.mark.parametrize("name", ["theirs", "recbole-theirs"])
def test_the_code_of_active_plugins_matters(package: Path, name: str) -> None:
    manager = get_plugins().manager
    plugin = import_module("theirs")
    code_digest.cache_clear()
    without = code_digest(BPR)
    manager.register(plugin, name)
    try:
        assert changed(BPR, package / "parts/layer.py")
        assert code_digest(BPR) != without
    finally:
        manager.unregister(plugin)


def test_a_plugin_that_registers_models_alone_matters_to_these(package: Path) -> None:
    (package / "__init__.py").write_text(
        "from recbole_llm import ModelSpec, hookimpl\n"
        "@hookimpl\n"
        "def register_models(register):\n"
        "    register(ModelSpec('Net', 'theirs.nets.model:Net'))\n"
    )
    manager, plugin = get_plugins().manager, import_module("theirs")
    manager.register(plugin, "theirs")
    try:
        assert not changed(BPR, package / "parts/layer.py")
        assert changed(import_module("theirs.nets.model").Net, package / "parts/layer.py")
    finally:
        manager.unregister(plugin)


def test_the_code_of_what_a_plugin_registered_matters(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This includes code outside of the plugin's package, and code that is not imported."""
    others = Path("elsewhere")
    others.mkdir()
    for name in ("own_features.py", "own_notes.py"):
        (others / name).write_text("SCALE = 1\n")
    monkeypatch.syspath_prepend(str(others.absolute()))
    manager, registry, plugin = get_plugins().manager, get_registry(), import_module("theirs")
    manager.register(plugin, "recbole-theirs")
    spec = FeatureSpec("theirs", "own_features:build")
    theirs = Registered(spec, "recbole-theirs")
    monkeypatch.setitem(registry.tables[FeatureSpec], "theirs", theirs)
    try:
        assert "own_features" not in sys.modules
        assert changed(BPR, others / "own_features.py")
    finally:
        manager.unregister(plugin)


def test_an_installed_module_matters_without_those_of_others_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed = Path("site-packages").absolute()
    installed.mkdir()
    (installed / "others.py").write_text("")
    (installed / "theirs_model.py").write_text("class Net: pass\n")
    monkeypatch.syspath_prepend(str(installed))
    try:
        net = import_module("theirs_model").Net
        assert changed(net, installed / "theirs_model.py")
        assert not changed(net, installed / "others.py")
    finally:
        del sys.modules["theirs_model"]
        code_digest.cache_clear()


def test_what_the_versions_tell_has_no_digest() -> None:
    assert module_digest(BPR.__module__) == module_digest("abc") == ""
    assert len(module_digest("recbole_llm.core.config")) == len(module_digest("pluggy")) == 32


@pytest.mark.parametrize(
    "reads", [{"item_init": "llm"}, {"metrics": ["NDCG", "Diversity"], "valid_metric": "NDCG@10"}]
)
@pytest.mark.parametrize("field", [None, "genre"])
def test_pictures_that_a_run_reads_matter(
    monkeypatch: pytest.MonkeyPatch, reads: dict[str, Any], field: str | None
) -> None:
    folder = write_tiny_dataset("dataset")
    seeing = SimpleNamespace(fingerprint="seeing", reads_text=False, encode_contents=zip)
    monkeypatch.setattr(keys, "create_encoder", lambda config: seeing)
    item = (folder / "tiny.item").read_text().splitlines()[2].split("\t")
    file = folder / "images" / f"{item[0]}.png" if field is None else folder / item[2]
    file.parent.mkdir(exist_ok=True)
    pictured = {"data_path": "dataset", "item_feature": "item_image", "item_image_field": field}

    def key(**own: Any) -> str:
        return run_key(Config("BPR", "tiny", config_dict={"data_path": "dataset", **own}))

    found = []
    for content in (b"one", b"another", b"one"):
        file.write_bytes(content)
        found.append(key(**pictured, **reads))
        plain = {key(), key(**pictured)}  # keys of runs that read no pictures
    assert found[0] == found[2] != found[1]
    file.write_bytes(b"another")
    assert plain == {key(), key(**pictured)}
    if field is None:  # the run finds this file, too
        file.rename(file.with_suffix(".webp"))
        assert key(**pictured, **reads) == found[1]


def test_loaders_of_other_workers_are_other_runs() -> None:
    write_tiny_dataset("dataset")
    entries = parse_models("one: BPR; two: BPR --worker=2; three: BPR", ["--dataset=tiny"])
    one, two, three = (cell.folder for cell in make_cells(entries, [1], Path("comparison")))
    assert one == three != two


@pytest.mark.parametrize("theirs", [(), (("acme", ""),)])
def test_unknown_keys_count_where_a_plugin_may_read_them(
    monkeypatch: pytest.MonkeyPatch, theirs: tuple[tuple[str, str], ...]
) -> None:
    write_tiny_dataset("dataset")
    monkeypatch.setattr(keys, "_plugin_digests", lambda: iter(theirs))
    given = {"data_path": "dataset", "hiden_size": 3}
    odd, plain = (
        keys._read_settings(
            Config("BPR", "tiny", config_dict=given if own else {"data_path": "dataset"})
        )
        for own in (True, False)
    )
    assert (odd == plain) == (not theirs)
