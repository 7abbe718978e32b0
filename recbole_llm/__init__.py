"""LLM-enhanced recommenders for RecBole.

>>> import recbole_llm
>>> recbole_llm.run_recbole_llm(model="PAD", dataset="ml-100k")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recbole_llm.hookspecs import hookimpl
from recbole_llm.registry import EncoderSpec, ModelSpec
from recbole_llm.version import __version__

if TYPE_CHECKING:
    from recbole_llm.config import Config as Config
    from recbole_llm.plugins import default_config_files as default_config_files
    from recbole_llm.plugins import get_model as get_model
    from recbole_llm.plugins import get_trainer as get_trainer
    from recbole_llm.plugins import list_encoders as list_encoders
    from recbole_llm.plugins import list_models as list_models
    from recbole_llm.quick_start import load_data_and_model as load_data_and_model
    from recbole_llm.quick_start import objective_function as objective_function
    from recbole_llm.quick_start import run_recbole_llm as run_recbole_llm

# Looked up on first use, so that `import recbole_llm` (which every plugin does) costs no torch.
_LAZY = {
    "Config": "recbole_llm.config",
    "default_config_files": "recbole_llm.plugins",
    "get_model": "recbole_llm.plugins",
    "get_trainer": "recbole_llm.plugins",
    "list_encoders": "recbole_llm.plugins",
    "list_models": "recbole_llm.plugins",
    "load_data_and_model": "recbole_llm.quick_start",
    "objective_function": "recbole_llm.quick_start",
    "run_recbole_llm": "recbole_llm.quick_start",
}

__all__ = ["EncoderSpec", "ModelSpec", "__version__", "hookimpl", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'recbole_llm' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
