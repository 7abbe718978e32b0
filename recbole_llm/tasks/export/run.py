"""A trained model as a folder that needs no data set, no RecBole and no torch to recommend."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from recbole_llm.core.checkpoints.checkpoint import load_checkpoint
from recbole_llm.core.errors import optional_imports
from recbole_llm.core.files import (
    OTHER_FOLDER,
    files_moved_together,
    remove_left_parts,
    writable_folder,
)
from recbole_llm.core.lines import plural, quoted, say_meanwhile
from recbole_llm.core.plugins.loading import get_model
from recbole_llm.core.plugins.named import load_plugins
from recbole_llm.models.base import SequenceTraining
from recbole_llm.tasks.export.files import (
    README_FILE,
    get_ranked_vectors,
    write_file,
    write_histories,
    write_items,
    write_settings,
    write_weights,
)
from recbole_llm.tasks.export.onnx_encoder import (
    check_exportable,
    export_encoder,
    measure_disagreement,
)
from recbole_llm.tasks.recommend.recommender import Recommender
from recbole_llm.tasks.recommend.standalone import FILES

_N_CHECKED = 20  # histories on which the exported encoder must agree with torch


def export(
    checkpoint: str | Path,
    output: str | Path,
    histories: bool = True,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
) -> list[str]:
    """Write a trained model as a folder that `Recommender.load` reads.

    Args:
        checkpoint: of a model of this package: sequential, or AlphaRec.
        histories: whether to include users' interactions, from which known users are scored.
        config_file_list, config_dict, argv: settings that override the checkpoint's.

    Returns:
        lines that tell what was written.

    Raises:
        ValueError: a model of another kind, a missing package, a folder that cannot be written,
            or an exported encoder that does not agree with the model.
    """
    folder = Path(output)
    with optional_imports("export"):
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    remove_left_parts(folder)
    _check_folder_is_free(folder)
    load_plugins(config_file_list, config_dict, argv)
    _check_class_is_exportable(checkpoint, config_dict or {})
    with writable_folder(folder, OTHER_FOLDER):  # fails before the work
        say_meanwhile(f"loading {checkpoint}")
        source = Recommender.of(checkpoint, config_file_list, config_dict, argv)
        model: Any = source.scorer.model.to("cpu")
        ordered = isinstance(model, SequenceTraining)
        longest = int(source.config["MAX_ITEM_LIST_LENGTH"]) if ordered else 0
        with torch.no_grad():
            encoder = export_encoder(model, longest)
        say_meanwhile(f"writing {folder}")
        with torch.no_grad(), files_moved_together(folder, FILES.settings, OTHER_FOLDER) as part:
            write_file(part / FILES.encoder, encoder)
            write_items(part, source, get_ranked_vectors(model))
            write_weights(part, model)
            if histories:
                write_histories(part, source)
            write_settings(part, folder.resolve().name, source, longest, ordered)
            users = source.find_users(None)[:_N_CHECKED]
            examples = [source.scorer.ordered_history(user) for user in users]
            worst = measure_disagreement(part, model, examples, longest)
    if not histories:
        (folder / FILES.users).unlink(missing_ok=True)  # from an earlier export
    return list(_summarize(folder, source, worst, histories))


def _check_folder_is_free(folder: Path) -> None:
    """Refuse a folder with other files: those of a project could be overwritten, and among
    checkpoints an exported model would be hard to copy or remove."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    others = [name for name in names if not name.startswith(".")]
    if others and FILES.vectors not in names:
        raise ValueError(
            f"'{folder}' has a {others[0]} already, and holds no exported model; {OTHER_FOLDER}"
        )


def _check_class_is_exportable(checkpoint: str | Path, config_dict: Mapping[str, Any]) -> None:
    """Refuse a model whose class cannot be exported, before data and decoders are loaded."""
    name = str(load_checkpoint(checkpoint)["config"].get("model"))
    model = config_dict.get("model")  # a class, if no plugin registers it
    check_exportable(name, model if isinstance(model, type) else get_model(name))


def _summarize(folder: Path, source: Recommender, worst: float, histories: bool) -> Iterator[str]:
    files = ", ".join(sorted(name for name in (README_FILE, *FILES) if (folder / name).exists()))
    yield f"{source.name} with {plural(len(source.item_tokens) - 1, 'item')} in {folder}/: {files}"
    yield f"checked: user states are those of the checkpoint up to {worst:.0e}"
    option, tokens = ("users", source.user_tokens) if histories else ("items", source.item_tokens)
    example = f"--{option}={quoted(str(tokens[1]))}"
    yield f"next     recbole-llm recommend {shlex.join([f'--model={folder}', example])}"
