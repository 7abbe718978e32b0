"""The user encoder of a model as ONNX, which needs neither RecBole nor torch to run."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from recbole.utils import ModelType
from torch import Tensor, nn

from recbole_llm.core.arrays import IntArray
from recbole_llm.core.errors import one_line
from recbole_llm.models.base import SequenceTraining
from recbole_llm.tasks.recommend.standalone import Standalone

_FROM_CHECKPOINT = "recommend from the checkpoint (recbole-llm recommend --checkpoint=…), or "
_EXPORTABLE = (
    "train a model that can be: PAD, LLM-ESR, Molar, SASRec, GRU4Rec, AlphaRec, or a "
    "SequenceRecommender that reads the history alone"
)
# Both sides round in float32. AlphaRec's whitening enlarges small differences of texts, and the
# rounding with them: texts with a long common part give 1.5e-5 in either, against float64.
_TOLERANCE = 1e-4
_HINT_FOR_OURS = "other backbones may, such as SASRec"
_HINT_FOR_OTHERS = (
    "its user_states must be traceable by torch.export: no `if` on values of tensors (as in "
    "PyTorch's nn.TransformerEncoder without is_causal=True), no .item() or .tolist(), no NumPy"
)
_NOISY_LOGGERS = ("torch.onnx", "torch.fx", "onnx_ir")


@runtime_checkable
class StandaloneModel(Protocol):
    """A model whose score is the product of a vector of a history and one of an item.

    Sequential models of this package need not have these two methods.
    """

    def history_vector(self, items: Tensor) -> Tensor:
        """Vectors of users from their items, int [B, L] -> [B, D]; exported for any B and L."""

    def ranked_vectors(self) -> Tensor:
        """Vectors of all items with the padding, [n, D]."""


class _UserEncoder(nn.Module):
    """The exported part of a model: it maps histories without padding to states."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, items: Tensor) -> Tensor:
        if isinstance(self.model, StandaloneModel):
            return self.model.history_vector(items)
        return self.model.last_states(items)


def check_exportable(name: str, kind: type[Any]) -> None:
    """Raise ValueError for a class of models that cannot be exported."""
    ordered = issubclass(kind, SequenceTraining)
    if issubclass(kind, StandaloneModel) or (ordered and kind.reads_history_alone):
        return
    why = "a user's state depends on more than the history"
    if not ordered:
        why = "its score is no product of a history's vector and an item's"
    ranks = kind.type != ModelType.DECISIONTREE  # recommend refuses these, too
    way_out = f"{_FROM_CHECKPOINT if ranks else ''}{_EXPORTABLE}"
    raise ValueError(f"{name} cannot be exported: {why}; {way_out}")


def export_encoder(model: Any, longest: int) -> bytes:
    """Write the user encoder as an ONNX file: ``items`` int64 [B, L] -> ``state`` float32 [B, D].

    Args:
        model: in eval mode, on the CPU.
        longest: the largest L; 0: any.

    Raises:
        ValueError: torch cannot write the model as ONNX.
    """
    length = min(3, longest or 3)
    example = (torch.arange(2 * length) % (model.n_items - 1) + 1).view(2, length)
    encoder = _UserEncoder(model).eval()
    recurrent = _runs_recurrent(encoder, example)
    levels = {logger: logger.level for logger in map(logging.getLogger, _NOISY_LOGGERS)}
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):  # torch prints graphs there
            warnings.simplefilter("ignore")
            for logger in levels:  # exporters' warnings do not concern the user
                logger.setLevel(logging.ERROR)
            return _to_onnx(encoder, example, longest, recurrent)
    except Exception as error:  # whatever torch's exporters cannot express
        is_ours = type(model).__module__.startswith("recbole_llm.")
        hint = _HINT_FOR_OURS if is_ours else _HINT_FOR_OTHERS
        raise ValueError(
            f"the user encoder of {type(model).__name__} cannot be written as ONNX "
            f"({type(error).__name__}: {one_line(error)}); {hint}"
        ) from error
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def _runs_recurrent(encoder: nn.Module, example: Tensor) -> bool:
    """Whether recurrent layers run; some may be unused, such as those of Molar's ID model. The run
    also fills the model's caches, so that they are no part of the exported graph."""
    ran: list[nn.Module] = []
    layers = [part for part in encoder.modules() if isinstance(part, nn.RNNBase)]
    hooks = [layer.register_forward_hook(lambda part, *_: ran.append(part)) for layer in layers]
    encoder(example)
    for hook in hooks:
        hook.remove()
    return bool(ran)


def _to_onnx(encoder: nn.Module, example: Tensor, longest: int, recurrent: bool) -> bytes:
    names: dict[str, Any] = {"input_names": ["items"], "output_names": ["state"]}
    if recurrent:
        # torch.export unrolls recurrent layers for the length of the example.
        file: Any = io.BytesIO()
        axes = {"items": {0: "users", 1: "length"}}
        torch.onnx.export(encoder, (example,), file, dynamo=False, dynamic_axes=axes, **names)
        return file.getvalue()
    users, length = torch.export.Dim("users"), torch.export.Dim("length", max=longest or 2**20)
    shapes = ({0: users} if longest == 1 else {0: users, 1: length},)
    exported = torch.export.export(encoder, (example,), dynamic_shapes=shapes)
    program = torch.onnx.export(exported, dynamo=True, verbose=False, **names)
    assert program is not None
    return program.model_proto.SerializeToString()


def measure_disagreement(
    folder: Path, model: Any, histories: Sequence[IntArray], longest: int
) -> float:
    """Measure the largest relative difference between a folder's encoder and the model, over some
    histories.

    Raises:
        ValueError: the difference is too large for the folder to be usable.
    """
    exported, encoder, differences = Standalone(folder), _UserEncoder(model), []
    for items in histories:
        items = items[-longest:]
        expected = encoder(torch.from_numpy(items)[None]).numpy()
        difference = np.abs(exported.states([items]) - expected).max()
        differences.append(difference / max(np.abs(expected).max(), 1e-12))
    worst = float(np.max(differences, initial=0.0))  # NaN if any is
    if not worst <= _TOLERANCE:
        raise ValueError(f"the exported encoder differs from the model by {worst:.1e}; not usable")
    return worst
