"""Workarounds for RecBole and other packages, each with its reason and the condition for its
removal; see compat_pandas too.

``apply()`` may be called any number of times; nothing happens at import.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from logging import Logger, getLogger
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from recbole_llm.core.processes.torchrun import started_together

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset

# RecBole spells dtypes as np.float etc., removed in NumPy 1.24 (np.float_ in 2.0).
# Remove once RecBole uses np.float64.
_NUMPY_NAMES: dict[str, type] = {
    "bool": np.bool_, "int": np.int_, "float": np.float64, "complex": np.complex128,
    "object": np.object_, "str": np.str_, "long": np.int_, "unicode": np.str_,
    "float_": np.float64, "complex_": np.complex128, "unicode_": np.str_,
    "bool8": np.bool_,  # of ray 2.6.3, which recbole.quick_start imports
}  # fmt: skip

_curves: str | None = None  # folder of the current run's curves


@functools.cache
def apply() -> None:
    """Make RecBole 1.2.0 and 1.2.1 work with current NumPy, SciPy and torch."""
    _set_numpy_names()
    from recbole.config import Config
    from recbole.data.dataset import Dataset

    # One warning per epoch about torch.cuda.amp. Remove once RecBole calls torch.amp.
    warnings.filterwarnings("ignore", ".*GradScaler", FutureWarning, "recbole")
    # Several warnings per data set about fillna(inplace=True); data/datasets/dataset.py fixes that.
    warnings.filterwarnings("ignore", "(?s).*chained assignment", Warning, "recbole")
    # RecBole makes tensors of read-only columns of pandas 3, but copies them before any change.
    warnings.filterwarnings("ignore", ".*NumPy array is not writable", UserWarning, "recbole")
    # Graph models make sparse tensors by an old name of torch. Remove once RecBole does not.
    warnings.filterwarnings("ignore", "torch.sparse.SparseTensor", UserWarning, "recbole")
    warnings.filterwarnings("ignore", "Creating a tensor from a list", UserWarning, "recbole")
    # peft reads an old attribute of transformers' models. Remove once peft does not.
    old = "`is_gradient_checkpointing` is deprecated"
    warnings.filterwarnings("ignore", old, FutureWarning, "transformers")
    Config.compatibility_settings = lambda self: _set_numpy_names()
    _restore_dok_update()
    _keep_numbers_apart()
    Dataset._download = _without_barrier(Dataset._download)
    _give_runs_their_tensorboard()


def _set_numpy_names() -> None:
    for name, dtype in _NUMPY_NAMES.items():
        if name not in np.__dict__:
            setattr(np, name, dtype)


def _restore_dok_update() -> None:
    # Eight graph models fill a dok_matrix through _update, which SciPy 1.13 removed.
    # Remove once RecBole builds its graphs from coo_matrix.
    from scipy.sparse import dok_matrix

    dok_matrix._update = lambda self, data: self._dict.update(data)


def _keep_numbers_apart() -> None:
    # DIN, DIEN and the models with features of items read numbers as pairs [value, 1], and join
    # those of several fields to one row, so that they fail. Remove once RecBole's
    # embed_input_fields joins them along the fields.
    from recbole.model.layers import ContextSeqEmbAbstractLayer

    embed = ContextSeqEmbAbstractLayer.embed_float_fields

    def embed_float_fields(self: Any, float_fields: Any, type: str, *options: Any) -> Any:
        if float_fields is not None:
            float_fields = float_fields.reshape(*float_fields.shape[:-2], -1, 2)
        return embed(self, float_fields, type, *options)

    ContextSeqEmbAbstractLayer.embed_float_fields = embed_float_fields


def _give_runs_their_tensorboard() -> None:
    # Each of RecBole's trainers opens a writer, in every process, in a folder named after the log
    # file, which may be another program's or of many runs. Remove once RecBole takes a folder.
    from recbole.trainer import trainer

    from recbole_llm.core.curves import CurveWriter
    from recbole_llm.core.processes import distributed

    get = trainer.get_tensorboard
    ignored = ("add_scalar", "add_hparams", "close")
    nothing = SimpleNamespace(**dict.fromkeys(ignored, lambda *_, **__: None))

    def get_tensorboard(logger: Logger) -> Any:
        if not distributed.is_main():
            return nothing
        return CurveWriter(_curves) if _curves else get(logger)

    trainer.get_tensorboard = get_tensorboard


def set_tensorboard(folder: str | None) -> None:
    """Make trainers write their curves into a folder; None: into RecBole's default folder."""
    global _curves
    _curves = folder


def tensorboard_folder() -> str | None:
    """The folder of the current run's curves; None outside of a run, and if it was removed."""
    return _curves if _curves and os.path.isdir(_curves) else None


def import_late_packages(model: str) -> None:
    """Import what a RecBole model imports only in its first training step, so that a missing
    package is reported earlier. Remove once RecBole imports it at the top of the module."""
    if model in ("KGIN", "MCCLK"):
        import_module("torch_scatter")


def anomaly_detection_kept() -> contextlib.AbstractContextManager[None]:
    """Within it, an import of RecBole's SINE does not leave autograd's anomaly detection on.

    It would make every backward pass of the process about 1.6 times slower. Remove once line 25 of
    RecBole's sine.py is gone.
    """
    import torch

    return torch.autograd.set_detect_anomaly(torch.is_anomaly_enabled())  # restores it at the end


@contextlib.contextmanager
def prints_logged(name: str) -> Iterator[None]:
    """Within it, log what a model prints, and turn its exit into an error.

    Some models print while they are built, between the lines that a command writes (FEARec), or
    even end the process with status 0 (SASRecCPR). Remove once RecBole does neither.

    Raises:
        ValueError: the model called `name` ended the process.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield
    except SystemExit:
        said = printed.getvalue().strip()
        raise ValueError(f"{name} cannot be built with these settings; it says: {said}") from None
    finally:
        for line in printed.getvalue().splitlines():
            getLogger().info(line)


def worker_start(workers: int) -> str | None:
    """The start method of a loader's workers; None: Python's default. Since Python 3.14, that is
    not fork on Linux, but only fork passes RecBole's data sets to workers. Remove once other start
    methods do."""
    return "fork" if workers and sys.platform == "linux" else None


@contextlib.contextmanager
def gguf_bar_off() -> Iterator[None]:
    """Within it, transformers shows no bar for GGUF files. Remove once its own switch does that."""
    module: Any = import_module("transformers.modeling_gguf_pytorch_utils")
    bar = getattr(module, "tqdm", None)
    if bar is None:
        yield
        return
    module.tqdm = functools.partial(bar, disable=True)
    try:
        yield
    finally:
        module.tqdm = bar


def register_metrics(metrics: Sequence[type[Any]]) -> None:
    """Add all metric classes, or none, to RecBole's tables, which hold only its own metrics."""
    from recbole.evaluator import register
    from recbole.evaluator.base_metric import AbstractMetric

    for metric in metrics:
        if not (isinstance(metric, type) and issubclass(metric, AbstractMetric)):
            raise ValueError(
                f"{metric!r} is no class that extends recbole.evaluator.base_metric.AbstractMetric"
            )
    named: dict[str, type[Any]] = {}
    for metric in metrics:
        name = metric.__name__.lower()
        if named.setdefault(name, register.metrics_dict.get(name, metric)) is not metric:
            raise ValueError(f"metric '{metric.__name__}' is already registered; rename it")
    facts = {n: (m.metric_need, m.metric_type, m.smaller) for n, m in named.items()}
    for name, (need, kind, smaller) in facts.items():
        register.metrics_dict[name] = named[name]
        register.metric_information[name] = need
        register.metric_types[name] = kind
        if smaller:
            register.smaller_metrics.append(name)


def _without_barrier(download: Callable[[Dataset], None]) -> Callable[[Dataset], None]:
    """Keep RecBole's download of a data set from failing at the barrier at its end.

    A single process has no process group for the barrier, and one of several processes might reach
    it without the others. Remove once RecBole asks torch.distributed.is_initialized() first.
    """

    @functools.wraps(download)
    def _download(self: Dataset) -> None:
        if started_together():
            self._get_download_url("url")  # refuses a name that RecBole does not know
            raise ValueError(
                f"dataset: '{self.dataset_name}' is not in '{self.dataset_path}', and processes "
                f"that torchrun started do not download it; run once without torchrun first"
            )
        try:
            download(self)
        except ValueError as error:
            if "process group has not been initialized" not in str(error):
                raise

    return _download
