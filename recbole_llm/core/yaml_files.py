"""YAML of configurations: read safely, and written from settings classes.

``python -m recbole_llm.core.yaml_files`` writes the files of ``properties/`` anew.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Container, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from recbole_llm.core.errors import missing_file_error, one_line
from recbole_llm.core.plugins.loading import get_registry
from recbole_llm.core.plugins.registry import PROPERTIES, ModelSpec, resolve
from recbole_llm.core.settings import Settings, key_infos

_WIDTH = 100
_FILES: dict[str, tuple[str | type, ...]] = {
    "overall.yaml": ("recbole_llm.core.keys.run:RunSettings",),
    "features.yaml": (
        "recbole_llm.features.settings:ItemSettings",
        "recbole_llm.features.settings:PromptSettings",
        "recbole_llm.features.settings:EncoderSettings",
        "recbole_llm.features.encoders.settings:CausalLMSettings",
        "recbole_llm.features.encoders.settings:MultimodalSettings",
        "recbole_llm.features.encoders.settings:EndpointSettings",
        "recbole_llm.features.encoders.settings:PrecomputedSettings",
        "recbole_llm.features.settings:StoreSettings",
    ),
    "generator.yaml": ("recbole_llm.offline.settings:GeneratorSettings",),
    "engine.yaml": ("recbole_llm.data.settings:EngineSettings",),
    "groups.yaml": ("recbole_llm.evaluation.settings:GroupSettings",),
}
_AS_WRITTEN = [f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp")]
# As in RecBole, 1e-3 is a number, which YAML 1.1 reads as a text.
_FLOAT = re.compile(
    r"^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|\.[0-9_]+(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)


# PyYAML's C loader is several times as fast, but not every build of PyYAML has it.
class ConfigLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A loader of plain data only, without ``!!python`` tags; a duplicate key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Build the mapping of a node."""
        seen: set[object] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # <<: *defaults
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' is given twice", key_node.start_mark
                )
            seen.add(key if isinstance(key, Hashable) else id(key))
        return super().construct_mapping(node, deep)


ConfigLoader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def read_yaml(file: str | Path, texts: Container[str] = ()) -> dict[str, Any]:
    """The keys of a config file; numbers and dates under keys in `texts` stay as they are written.

    Raises:
        ValueError: the file does not exist, is not valid YAML, gives a key twice, has a tag that is
            not plain data, or is not a mapping.
    """
    if not Path(file).is_file():
        raise missing_file_error("config file", str(file))
    try:
        content = _content(Path(file).read_text(encoding="utf-8"), texts)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"config file '{file}' is not valid YAML: {_fault(error)}") from error
    if content is not None and not isinstance(content, dict):
        raise ValueError(f"config file '{file}' must hold 'key: value' lines")
    return content or {}


def files_given(files: Sequence[str] | str | Path | None) -> list[str | Path]:
    """The files that `config_file_list` gives, as a list.

    Raises:
        ValueError: a mapping is given.
    """
    if isinstance(files, Mapping):
        raise ValueError("config_file_list: expected YAML files; pass settings as config_dict")
    return [files] if isinstance(files, (str, Path)) else list(files or ())


def _content(text: str, texts: Container[str]) -> object:
    loader = ConfigLoader(text)
    try:
        node = loader.get_single_node()
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.value in texts and value.tag in _AS_WRITTEN:
                value.tag = "tag:yaml.org,2002:str"
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _fault(error: Exception) -> str:
    """The place and the reason of an error in a file, in one line."""
    if isinstance(error, UnicodeDecodeError):
        line = error.object.count(b"\n", 0, error.start) + 1
        return f"line {line} is no UTF-8 text; save the file as UTF-8"
    mark = getattr(error, "problem_mark", None)
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return one_line(re.sub(r'\s+in "<unicode string>"', "", str(error)))
    said = ", ".join(filter(None, (error.context, error.problem)))
    return one_line(f"line {mark.line + 1}, column {mark.column + 1}: {said}")


def render(*classes: type[Settings]) -> str:
    """Render settings classes as a YAML file of defaults, with type and meaning above each key. A
    key of several classes is written only for the first of them."""
    written: set[str] = set()
    parts = []
    for settings in classes:
        parts.append(_render(settings, written))
        written |= set(settings.model_fields)
    return "\n".join(parts)


def _render(settings: type[Settings], written: Container[str]) -> str:
    parts = [_comment(" ".join((settings.__doc__ or "").split()))]
    for info in (info for info in key_infos(settings) if info.key not in written):
        meaning = _comment(f"({info.type}) {info.meaning}")
        parts.append(f"{meaning}\n{info.key}: {_value(info.default)}")
    return "\n\n".join(parts) + "\n"


def property_files() -> dict[Path, str]:
    """{file: content} of ``properties/``, including the models' files, from settings classes."""
    files = {PROPERTIES / name: classes for name, classes in _FILES.items()}
    for spec in get_registry().specs(ModelSpec).values():
        if spec.settings is not None and spec.config is not None:
            files[Path(spec.config)] = (spec.settings,)
    return {file: render(*map(resolve, classes)) for file, classes in files.items()}


def _comment(text: str) -> str:
    lines = textwrap.wrap(text, _WIDTH - 2, break_long_words=False, break_on_hyphens=False)
    return "\n".join(f"# {line}" for line in lines)


def _value(value: object) -> str:
    if value is None:
        return "~"
    if isinstance(value, float):
        return repr(value)
    text: str = yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


if __name__ == "__main__":
    for path, text in property_files().items():
        path.write_text(text, encoding="utf-8")
