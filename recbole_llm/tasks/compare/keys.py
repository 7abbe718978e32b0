"""A digest of all that a run's numbers depend on: settings that it reads, data, versions, code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recbole_llm.core.checkpoints.stored import plain_config
from recbole_llm.core.checks import key_marks, unknown_keys, unread_keys
from recbole_llm.core.config import Config
from recbole_llm.core.digest import digest, file_digest, files_digest, fingerprints
from recbole_llm.core.keys.evaluation import RecBoleEvaluation
from recbole_llm.core.marks import Mark
from recbole_llm.core.metrics import metric_class_name
from recbole_llm.core.plugins.errors import packages_of_plugins
from recbole_llm.core.plugins.loading import built_in, find_model, get_plugins, get_registry
from recbole_llm.core.plugins.registry import PACKAGE, PROPERTIES, FeatureSpec
from recbole_llm.evaluation.beyond import run_reads
from recbole_llm.features.attach import vector_settings
from recbole_llm.features.contents.pictures import pictures_digest
from recbole_llm.features.encoders.base import PictureEncoder, create_encoder, holds_table
from recbole_llm.features.settings import ItemSettings
from recbole_llm.report import versions

# Folders of code that the results of every run depend on; of the models, only the run's own counts.
_CODE = ("core", "layers", "data", "features", "offline", "evaluation", "trainers")
_MODELS = PACKAGE / "models"
_KNOWN = ("recbole", "torch", "builtins", *sys.stdlib_module_names)  # covered by the versions
_PICTURED = {"item_image", "item_multimodal"}  # features
_UNSEEN = ("python", "system")  # versions to ignore: another machine may go on


def run_key(config: Config) -> str:
    """Digest of all that a run's numbers depend on: settings, data, code, versions, encoder."""
    settings = _read_settings(config)
    data = fingerprints(config["data_path"], config["dataset"])
    used = {k: v for k, v in versions().items() if k not in _UNSEEN}
    code = code_digest(config.model_class)
    files = _digest_named_files(settings)
    return digest(settings, data, used, code, _encoder_fingerprint(config), files)


def _read_settings(config: Config) -> dict[str, Any]:
    """The settings that affect results. Keys that the run does not read have their defaults, and
    the key plugins is left out, since plugins count by their code."""
    defaults, unread = config.internal_config_dict, _unread_keys(config)
    settings = RecBoleEvaluation.of(config)
    read = config.with_values(
        **{key: defaults.get(key) for key in unread},
        metrics=[metric_class_name(metric) for metric in settings.metrics],
        valid_metric=metric_class_name(settings.valid_metric),
    )
    plain = plain_config(read, Mark.NO_EFFECT_ON_RESULTS)
    taken = (k for k in plain if k != "plugins" and (k not in unread or k in defaults))
    return {k: plain[k] for k in taken}


def _unread_keys(config: Config) -> set[str]:
    """The given keys that do not affect this run."""
    if config.model_class.__module__.partition(".")[0] not in ("recbole", PACKAGE.name):
        return set()  # a plugin's model may read what it does not declare
    spec = find_model(config["model"])
    unread = set(unread_keys(config, spec))
    if next(_plugin_digests(), None) is None:  # their metrics and hooks may read any key
        unread |= set(unknown_keys(config, spec))
    if not run_reads(config):
        feature = get_registry().find(FeatureSpec, ItemSettings.of(config).item_feature)
        unread |= {key.partition(".")[2] for key in vector_settings(config, feature)}
    return unread & set(config.external_config_dict)


def _digest_named_files(settings: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the files and folders that settings name: templates, adapters, checkpoints."""
    marks, found = key_marks(), {}
    for key, value in settings.items():
        named = marks[key] & (Mark.LOCAL | Mark.MODEL_NAME | Mark.TEMPLATE)
        if named and isinstance(value, str) and os.path.exists(value):  # a long template is no file
            path = Path(value)
            inside = [file for file in path.rglob("*") if file.is_file()]
            found[key] = files_digest(path, inside) if path.is_dir() else file_digest(path)
    return found


def _encoder_fingerprint(config: Config) -> str | None:
    """Fingerprint of the encoder, with its pictures; None if the run reads no item vectors."""
    read = run_reads(config)
    if not read:
        return None
    encoder = create_encoder(config)
    if holds_table(encoder):
        return encoder.table("item").fingerprint
    if _PICTURED.intersection(read) and isinstance(encoder, PictureEncoder):
        return digest(encoder.fingerprint, pictures_digest(config))
    return encoder.fingerprint


@cache
def code_digest(model: type) -> str:
    """Digest of the code that a model's numbers depend on; RecBole's counts by its version."""
    files = [file for part in _CODE for file in (PACKAGE / part).rglob("*.py")]
    files += [*PACKAGE.glob("*.py"), *_MODELS.glob("*.py")]
    prompts = files_digest(PROPERTIES, PROPERTIES.glob("prompt/*.jinja"))
    own = digest(files_digest(PACKAGE, files), prompts)
    bases = [code for base in model.__mro__ if (code := module_digest(base.__module__))]
    return digest(own, bases, sorted(_plugin_digests()))


def _plugin_digests() -> Iterator[tuple[str, str]]:
    """Active plugins of others, each with a digest of its packages and of what it registered; not
    plugins that only register models, since the code of a run's model counts anyway."""
    own, manager = built_in(), get_plugins().manager
    modules = [*packages_of_plugins().items(), *_registered_modules()]
    for name, plugin in manager.list_name_plugin():
        hooks = {caller.name for caller in manager.get_hookcallers(plugin) or ()}
        if plugin is not None and name not in own and hooks != {"register_models"}:
            yield name, digest(*sorted({module_digest(m) for m, of in modules if of == name}))


def _registered_modules() -> Iterator[tuple[str, str]]:
    """The modules of what plugins registered, each with its plugin."""
    for _, registered in get_registry().all_registered():
        for target in vars(registered.spec).values():
            if isinstance(target, str) and ":" in target:
                yield target.partition(":")[0], registered.plugin
            elif callable(target):
                yield target.__module__, registered.plugin


def module_digest(name: str) -> str:
    """Digest of a module's code and of what may belong to it: its package, or the files beside a
    single module; "" if the versions cover it."""
    top = name.partition(".")[0]
    of_top = _module_file(top)  # None for a package without __init__.py
    file = _module_file(name) or of_top
    if top in _KNOWN or file is None:
        return ""
    folder = file.parent
    if top == PACKAGE.name:
        if _MODELS not in folder.parents:
            return files_digest(folder, folder.glob("*.py"))
        folder = _MODELS / folder.relative_to(_MODELS).parts[0]
    elif of_top is not None and of_top.name != "__init__.py":
        installed = folder.name in ("site-packages", "dist-packages")  # among other packages
        return files_digest(folder, [file] if installed else folder.glob("*.py"))
    elif of_top is not None:
        folder = of_top.parent
    return files_digest(folder, folder.rglob("*.py"))


def _module_file(name: str) -> Path | None:
    """The file of an imported or a top-level module; None if it has none."""
    if name in sys.modules:
        file = getattr(sys.modules[name], "__file__", None)
    else:
        spec = None if "." in name else find_spec(name)
        file = spec.origin if spec is not None and spec.has_location else None
    return None if file is None else Path(file).resolve()
