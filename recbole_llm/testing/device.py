"""An emulated second device, which shows device mismatches on a machine without a GPU.

Its tensors hold CPU tensors and compute with them, but report another device. Like CUDA tensors,
they cannot be mixed with CPU tensors and do not become NumPy arrays. The device is called ``lazy``,
a name that torch knows and that needs no driver. Properties of a real GPU, such as fused kernels,
mixed precision and memory, are not emulated.

>>> with second_device():  # doctest: +SKIP
...     model.to(DEVICE).calculate_loss(batch.to(DEVICE)).backward()
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("lazy", 0)
# As with CUDA, an index may be on the CPU, and copies may cross devices.
_INDEXED = ("aten::index", "aten::index_put_", "aten::_index_put_impl_", "aten::index_put")
_COPIES = ("aten::_to_copy", "aten::copy_")


def _run(
    dispatcher: object,
    func: Any,
    types: Sequence[type],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> Any:
    """Run an operator on the CPU; put its results on the requested or its arguments' device."""
    kwargs = kwargs or {}
    name = func._schema.name
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    on_device = [t for t in tensors if isinstance(t, Elsewhere)]
    on_cpu = [t for t in tensors if not isinstance(t, Elsewhere) and t.dim() > 0]
    if on_device and on_cpu and name not in (*_INDEXED, *_COPIES):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, {DEVICE}")
    asked = kwargs.get("device")
    plain = {**kwargs, "device": torch.device("cpu")} if asked is not None else kwargs
    values = tree_map(lambda t: t.inner if isinstance(t, Elsewhere) else t, (args, dict(plain)))
    if func is torch.ops.aten.view.default:  # a real device's strides would allow it
        func = torch.ops.aten.reshape.default
    result = func(*values[0], **values[1])
    stays = not on_device if asked is None else torch.device(asked).type != DEVICE.type
    if stays:
        return result
    arguments = {id(t.inner): t for t in on_device}  # changed in place, a tensor stays the same

    def placed(value: object) -> Any:
        if not isinstance(value, Tensor):
            return value
        return arguments[id(value)] if id(value) in arguments else Elsewhere(value)

    return tree_map(placed, result)


class Elsewhere(Tensor):
    """A tensor of the emulated device; `inner` is the CPU tensor that it stands for."""

    inner: Tensor  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: Tensor) -> Elsewhere:
        tensor: Elsewhere = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            requires_grad=inner.requires_grad,
            device=DEVICE,
        )
        tensor.inner = inner
        return tensor

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    __torch_dispatch__: Any = classmethod(_run)

    def __repr__(self, *, tensor_contents: object = None) -> str:  # type: ignore[override]
        return f"Elsewhere({self.inner!r})"


class _Dispatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Applies `_run` to operators that create tensors on the emulated device."""

    __torch_dispatch__ = _run


class _Literals(TorchFunctionMode):
    """Handles ``torch.tensor(numbers, device=…)``, which never reaches the dispatcher."""

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if func is torch.tensor and torch.device(named.get("device") or "cpu").type == DEVICE.type:
            return func(*args, **{**named, "device": "cpu"}).to(DEVICE)
        return func(*args, **named)


@contextlib.contextmanager
def second_device() -> Iterator[torch.device]:
    """Make `DEVICE` available in the block, without mixed precision, which it lacks."""
    autocast, enabled = torch.autocast, torch.is_autocast_enabled

    def off(device_type: str | None = None) -> bool:
        return device_type != DEVICE.type and enabled(*(device_type,) if device_type else ())

    def without(device_type: str, *args: Any, **kwargs: Any) -> Any:
        emulated = device_type == DEVICE.type
        return contextlib.nullcontext() if emulated else autocast(device_type, *args, **kwargs)

    torch.autocast = without  # type: ignore[assignment,misc]
    torch.is_autocast_enabled = off
    try:
        with _Literals(), _Dispatch():  # type: ignore[no-untyped-call]
            yield DEVICE
    finally:
        torch.autocast = autocast  # type: ignore[misc]
        torch.is_autocast_enabled = enabled
