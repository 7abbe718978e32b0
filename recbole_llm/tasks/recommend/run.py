"""The command ``recommend``: from a request to a file of recommendations."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pandas import DataFrame
from tqdm import tqdm

from recbole_llm.core.lines import plural, say_meanwhile
from recbole_llm.tasks.recommend.input import leave_out_unknown_items
from recbole_llm.tasks.recommend.output import choose_format, write_frames
from recbole_llm.tasks.recommend.ranker import Ranker
from recbole_llm.tasks.recommend.request import Request
from recbole_llm.tasks.recommend.standalone import Standalone


@dataclass(frozen=True)
class ModelSource:
    """A checkpoint, with settings that override its own, or the folder of an exported model.

    Raises:
        ValueError: neither or both are named, or the checkpoint is a folder.
    """

    checkpoint: str | None
    folder: str | None
    config_file_list: Sequence[str]
    argv: Sequence[str]

    def __post_init__(self) -> None:
        if (not self.checkpoint) == (not self.folder):
            raise ValueError(
                "name a model: --checkpoint=FILE, or --model=FOLDER of an exported one"
            )
        if self.checkpoint and Path(self.checkpoint).is_dir():
            raise ValueError(
                f"checkpoint '{self.checkpoint}' is a folder; for an exported model write "
                f"--model={self.checkpoint}"
            )

    def check_can_answer(self, request: Request) -> None:
        """Refuse a request that the checkpoint's class of models cannot answer, before data and
        texts are loaded."""
        has_query = request.query is not None
        if self.checkpoint is None or (request.users is not None and not has_query):
            return
        from recbole_llm.core.checkpoints.checkpoint import load_checkpoint
        from recbole_llm.core.plugins.loading import get_model
        from recbole_llm.core.plugins.named import load_plugins
        from recbole_llm.tasks.recommend.scorer import check_class_can_answer

        load_plugins(self.config_file_list, None, self.argv)
        name = str(load_checkpoint(self.checkpoint)["config"].get("model"))
        check_class_can_answer(name, get_model(name), has_query)

    def load(self) -> Ranker:
        """Load the model."""
        if self.folder is None:
            from recbole_llm.tasks.recommend.recommender import Recommender

            return Recommender.of(str(self.checkpoint), self.config_file_list, None, self.argv)
        if self.argv or self.config_file_list:
            settings = " ".join([*self.argv, *self.config_file_list])
            raise ValueError(
                f"an exported model takes no settings: leave out {settings}, or see the options by "
                f"recbole-llm recommend --help"
            )
        return Standalone(self.folder)


def recommend_to_file(
    source: ModelSource, request: Request, file_format: str | None, output: str | None
) -> None:
    """Write recommendations to a file; None or "-": to the screen."""
    output = None if output == "-" else output
    file_format = choose_format(file_format, output)
    request.check()
    source.check_can_answer(request)
    say_meanwhile(f"loading {source.checkpoint or source.folder}")
    ranker = source.load()
    resolved = ranker.resolve(leave_out_unknown_items(request, ranker))
    frames = ranker.stream(resolved)
    is_hidden = True if output is None else None  # None: hidden unless the screen is a terminal
    with tqdm(total=resolved.n_users, unit=" users", leave=False, disable=is_hidden) as bar:
        served: list[int] = []
        rows = write_frames(_count_users(frames, bar, served), file_format, output)
    if without := resolved.n_users - sum(served):
        hint = "; --keep-history recommends what they have, too" if request.mask_history else ""
        of = f"{without:,} of {plural(resolved.n_users, 'user')}"
        print(f"mind: no item is left to recommend for {of}{hint}", file=sys.stderr)
    if output is not None:
        counts = f"{plural(resolved.n_users, 'user')}, {plural(rows, 'recommendation')}"
        print(f"{counts} → {output}", file=sys.stderr)


def _count_users(frames: Iterator[DataFrame], bar: Any, served: list[int]) -> Iterator[DataFrame]:
    """Show the progress, and add each frame's number of users to `served`."""
    for frame in frames:
        yield frame
        served.append(int((frame["rank"] == 1).sum()))
        bar.update(served[-1])
