"""State that the next epoch of a training depends on, but that RecBole's checkpoints lack."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from recbole_llm.core import model_traits

Marks = dict[tuple[str, str], tuple[Any, int]]
_WIDEST = 8  # bytes of the largest numbers of torch
_PARTS = ("general_dataloader", "kg_dataloader")  # of RecBole's loader of knowledge graphs


def random_state(loaders: Sequence[Any]) -> dict[str, Any]:
    """State of every source of random numbers: the process's and the loaders' own."""
    version, numbers, gauss = random.getstate()
    name, keys, *others = np.random.get_state(legacy=True)
    return {
        "python": [version, torch.tensor(numbers), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys, np.int64)), *others],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "loaders": [g.get_state() for g in _generators(loaders)],
    }


def set_random_state(state: Mapping[str, Any], loaders: Sequence[Any]) -> None:
    """The inverse of `random_state`."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    name, keys, *others = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *others))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    for generator, own in zip(_generators(loaders), state["loaders"], strict=True):
        generator.set_state(own)


def _generators(loaders: Sequence[Any]) -> Iterator[torch.Generator]:
    for loader in loaders:
        for part in (loader, *(getattr(loader, name, None) for name in _PARTS)):
            generator = getattr(part, "generator", None)
            if isinstance(generator, torch.Generator):
                yield generator


def mark_states(model: nn.Module) -> Marks:
    """Each of `_states` with its version, by which `find_changes` detects changes."""
    return {key: (value, _version(value)) for key, value in _states(model)}


def find_changes(model: nn.Module, before: Marks) -> list[tuple[str, str, Any]]:
    """Values that have changed since the marks were made: module, name, value.

    VAEs count their steps, KGAT recomputes its adjacency, LLM-ESR's bank fills, LINE shuffles a
    list: none of it is in RecBole's ``state_dict`` or ``other_parameter``. Values that exist only
    in training, such as SGL's subgraphs of an epoch, are left out, as the model makes them anew.
    """
    changes = []
    for key, value in _states(model):
        if key not in before:
            continue
        old, version = before[key]
        same = value == old if isinstance(value, (int, float)) else value is old
        if not same or _version(value) != version:
            changes.append((*key, torch.tensor(value) if isinstance(value, np.ndarray) else value))
    return changes


def restore_changes(model: nn.Module, values: Sequence[tuple[str, str, Any]]) -> None:
    """Put the values of `find_changes` into a model of the same shape."""
    modules, present = dict(model.named_modules()), dict(_states(model))
    own = next((p.device for p in model.parameters()), None)
    for module, name, value in values:
        before: Any = present.get((module, name))
        if isinstance(before, np.ndarray) and isinstance(value, Tensor):
            before, value = value, value.numpy()
        elif _kind(before) is not _kind(value) and not _is_begun(before, value):
            raise ValueError(f"resume: the model has no '{module}.{name}' of this kind")
        device = before.device if isinstance(before, Tensor) else own
        moved = value.to(device) if isinstance(value, Tensor) else value
        setattr(modules[module], name, moved)


def _is_begun(before: object, value: object) -> bool:
    """Whether a number became a tensor, as RaCT's does at its first batch."""
    return _kind(before) is float and isinstance(value, Tensor)


def _states(model: nn.Module) -> Iterator[tuple[tuple[str, str], Any]]:
    """Yield public numbers, arrays and tensors, including buffers, that no checkpoint holds."""
    saved = set(model_traits.other_parameter_names(model))
    for module_name, module in model.named_modules():
        outside = module._non_persistent_buffers_set
        buffers = {name: value for name, value in module._buffers.items() if name in outside}
        for name, value in {**vars(module), **buffers}.items():
            public = not name.startswith("_") and (module_name or name not in saved)
            plain = value.item() if isinstance(value, np.number) else value
            if public and _kind(plain) is not None:
                yield (module_name, name), plain


def _kind(value: Any) -> type | None:
    """The kind of a value: number, array or tensor; None if a checkpoint cannot hold it."""
    if isinstance(value, np.ndarray):
        of = value.dtype
        held = of.kind in "biuf" and of.isnative and of.itemsize <= _WIDEST
        return np.ndarray if held else None
    if isinstance(value, Tensor):
        return Tensor
    return float if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _version(value: Any) -> int:
    """A number that differs after the value is changed in place."""
    if isinstance(value, np.ndarray):
        return crc32(np.ascontiguousarray(value).data)
    return value._version if isinstance(value, Tensor) else 0
