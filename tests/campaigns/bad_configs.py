"""Bad configurations: every key of every settings class with values that it may not have.

``python tests/campaigns/bad_configs.py [--seed N] [--runs N]`` prints the counts. A bad value must
be refused by the configuration itself, in one line that names the key: before any data is read,
and so before any text is encoded. Then a sample of values at the edges of what is allowed is run
to the end on a tiny data set: each must work, or end in one line.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt

from recbole_llm import run_recbole_llm, testing
from recbole_llm.core.checks import settings_classes
from recbole_llm.core.config import Config
from recbole_llm.core.plugins.loading import find_model, get_plugins, list_encoders
from recbole_llm.core.settings import Nested, OneOrMore, Settings
from recbole_llm.testing import write_tiny_dataset

MODELS = ("PAD", "LLMESR", "AlphaRec", "SASRec", "GRU4Rec", "BERT4Rec", "LightGCN", "DIN", "DeepFM")
QUIET = {
    "show_progress": False, "encoder": "hash", "epochs": 1, "state": "error",
    "data_path": "dataset", "eval_memory_mib": 16,
}  # fmt: skip
# Keys whose numbers have no lower bound on purpose: a logit, and layers counted from the end.
UNBOUNDED = {"gamma_2", "encoder_layer", "gpu_id", "threshold"}
# Bad combinations, which the bad values of single keys do not cover.
TOGETHER: tuple[tuple[str, dict[str, Any]], ...] = (
    ("PAD", {"n_heads": 3}),
    ("LLMESR", {"n_heads": 5}),
    ("LLMESR", {"cross_heads": 7}),
    ("SASRec", {"n_heads": 3}),
    ("BERT4Rec", {"n_heads": 3}),
    ("PAD", {"hidden_size": 127}),
    ("PAD", {"pad_pretrained": "no.pth"}),
    ("PAD", {"window_stride": 99}),
    ("SASRec", {"window_stride": 51}),
    ("SASRec", {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}),
    ("PAD", {"train_neg_sample_args": {"distribution": "popularity"}}),
    ("SASRec", {"transform": "crop_itemseq"}),
    ("BERT4Rec", {"train_level": "sequence"}),
    ("LightGCN", {"train_level": "sequence"}),
    ("AlphaRec", {"negatives": "in_batch", "train_neg_sample_args": {"distribution": "uniform"}}),
    ("LLMESR", {"encoder": "precomputed", "embedding_path": "x.npz"}),
    ("PAD", {"valid_metric": "NDCG"}),
    ("PAD", {"valid_metric": "NDCG@20"}),
    ("PAD", {"metrics": ["NDCG", "AUC"]}),
    ("PAD", {"metrics": ["AUC"], "valid_metric": "AUC"}),
    ("DIN", {"metrics": ["NDCG"], "valid_metric": "NDCG@10", "eval_args": {"mode": "labeled"}}),
    ("PAD", {"metrics": ["GAUC"], "valid_metric": "GAUC", "eval_groups": ["items"]}),
    ("PAD", {"eval_args": {"split": {"RS": [0, 1, 1]}}}),
    ("PAD", {"eval_args": {"split": {"XS": [8, 1, 1]}}}),
    ("PAD", {"eval_args": {"split": {"LS": "valid"}}}),
    ("PAD", {"eval_args": {"mode": {"valid": "uni"}}}),
    ("PAD", {"eval_args": {"mode": "pop-1"}}),
    ("PAD", {"nproc": 2}),
    ("PAD", {"encoder_max_length": 1}),
    ("PAD", {"encoder_max_length": 2}),
    ("PAD", {"encoder_device": "cuda:99"}),
    ("PAD", {"encoder_device": "gpu"}),
    ("PAD", {"item_prompt": "{{ title"}),
    ("LLMESR", {"user_prompt": "{% for %}"}),
    ("PAD", {"item_prompt": "no/such/file.jinja"}),
    ("LightGCN", {"reg_weight": -1}),
    ("DeepFM", {"mlp_hidden_size": [0]}),
    ("DeepFM", {"mlp_hidden_size": "wide"}),
)
YAML = (
    "epochs: 1\nepochs: 2",
    "eval_args: {order: TO, order: RO}",
    "model: !!python/name:os.system",
    "- epochs",
    "epochs: [",
)


def bad_values(annotation: Any, metadata: list[Any], key: str) -> Iterator[Any]:
    """Values that a field of this type may not have."""
    kinds = _kinds(annotation)
    numbers = [kind for kind in kinds if kind in (int, float)]
    if str not in kinds:
        yield "" if OneOrMore in metadata and _of_texts(kinds) else "nonsense"
    if not any(get_origin(kind) is list for kind in kinds):
        yield from ([], [None])
    if not any(get_origin(kind) is dict or _nested(kind) for kind in kinds):
        yield {"a": 1}
    if any(_nested(kind) for kind in kinds):
        yield {"no_such_key": 1}
    if numbers:
        yield from (math.nan, math.inf, -math.inf, True)
        if key not in UNBOUNDED:
            yield from (-1, -0.5, -(10**9))
        if float not in numbers:
            yield 1.5
        yield from _outside(metadata)
    if bool in kinds:
        yield from (2, -1, "maybe")


def _kinds(annotation: Any) -> list[Any]:
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if origin in (list, dict, Literal) or not arguments:
        return [annotation]
    # The type is the first argument of Annotated; of a union, every argument is a type.
    parts = arguments[:1] if hasattr(annotation, "__metadata__") else arguments
    return [kind for part in parts for kind in _kinds(part)]


def _of_texts(kinds: list[Any]) -> bool:
    """Whether the types include a list of texts, which may be given as a single text."""
    parts = [part for kind in kinds if get_origin(kind) is list for part in get_args(kind)]
    return str in [kind for part in parts for kind in _kinds(part)]


def _nested(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Nested)


def _outside(metadata: list[Any]) -> Iterator[Any]:
    for part in metadata:
        if isinstance(part, (Ge, Le)):
            bound = part.ge if isinstance(part, Ge) else part.le
            yield bound - 1 if isinstance(part, Ge) else bound + 1
        if isinstance(part, (Gt, Lt)):
            yield part.gt if isinstance(part, Gt) else part.lt


def edge_values(metadata: list[Any]) -> Iterator[Any]:
    """Values at the edge of what a field may be."""
    for part in metadata:
        if isinstance(part, Ge):
            yield part.ge
        if isinstance(part, Gt):
            yield part.gt + 1e-6
        if isinstance(part, Le):
            yield part.le


def _metadata(settings: type[Settings], key: str) -> list[Any]:
    field = settings.model_fields[key]
    flat = list(field.metadata)
    for part in get_args(field.annotation):
        for inner in getattr(part, "__metadata__", ()):
            flat += getattr(inner, "metadata", [inner])
    return flat


def cases() -> list[tuple[str, dict[str, Any]]]:
    """(model, keys) of every bad configuration."""
    found: list[tuple[str, dict[str, Any]]] = list(TOGETHER)
    for model in MODELS:
        config = Config(model, "tiny", config_dict=QUIET)
        classes = settings_classes(config, find_model(model))
        for settings in classes if model == "PAD" else classes[:1]:
            for key, field in settings.model_fields.items():
                metadata = _metadata(settings, key)
                values = bad_values(field.annotation, metadata, key)
                found += [(model, {key: value}) for value in values]
    return found


def edges() -> list[tuple[str, dict[str, Any]]]:
    """(model, keys) of configurations at the edge of what is allowed."""
    found = []
    for model in MODELS:
        config = Config(model, "tiny", config_dict=QUIET)
        for settings in settings_classes(config, find_model(model)):
            for key in settings.model_fields:
                for value in edge_values(_metadata(settings, key)):
                    found.append((model, {key: value}))
    return found


def configure(model: str, keys: dict[str, Any]) -> None:
    """Make the configuration alone."""
    Config(model, "tiny", config_dict={**QUIET, **keys})


def train(model: str, keys: dict[str, Any]) -> None:
    """Run a model; models that learn from labels get them from the ratings."""
    labels = {"threshold": {"rating": 3}} if model in ("DIN", "DeepFM") else {}
    run_recbole_llm(model, "tiny", config_dict={**QUIET, **labels, **keys})


def outcome(action: Callable[[], object], keys: Collection[str]) -> str:
    """Return ok, refused (in one line that names a key), or what went wrong."""
    try:
        action()
    except ValueError as error:
        text = str(error)
        if "\n" in text:
            return "several lines"
        named = any(key in text for key in keys)
        return "refused" if named else "key not named"
    except BaseException as error:  # noqa: BLE001
        return f"traceback ({type(error).__name__})"
    return "ok"


def campaign(seed: int = 0, runs: int = 120) -> dict[str, Counter[str]]:
    """Outcomes of the bad configurations, and of a sample of those at the edges."""
    if "hash" not in list_encoders():
        get_plugins().register(testing, testing.__name__)
    write_tiny_dataset("dataset")
    bad: Counter[str] = Counter()
    for model, keys in cases():
        result = outcome(partial(configure, model, keys), keys)
        bad[result] += 1
        if result != "refused":
            print(f"{result}: {model} {keys}", flush=True)
    for text in YAML:
        Path("bad.yaml").write_text(text, encoding="utf-8")
        result = outcome(partial(Config, "PAD", "tiny", ["bad.yaml"]), ["config file"])
        bad[result] += 1
        if result != "refused":
            print(f"{result}: {text!r}", flush=True)
    allowed: Counter[str] = Counter()
    sample = random.Random(seed).sample(edges(), runs)
    for model, keys in sample:
        # Errors that depend on the data, such as a loss of nan, need not name the key.
        result = outcome(partial(train, model, keys), [""])
        allowed[result] += 1
        if result not in ("ok", "refused"):
            print(f"at the edge, {result}: {model} {keys}", flush=True)
    return {"bad": bad, "edge": allowed}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=120, help="runs at the edges")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["RECBOLE_LLM_CACHE"] = folder
        for name, counts in campaign(arguments.seed, arguments.runs).items():
            print(f"{name}: {sum(counts.values())} cases, {dict(counts)}")
