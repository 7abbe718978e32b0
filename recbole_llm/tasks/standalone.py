"""An exported model: recommendations from NumPy and ONNX alone.

>>> Standalone("folder").recommend(items=["A1", "B2"], k=5)  # doctest: +SKIP

Nothing of the folder is run or unpickled: it holds JSON, safetensors, plain arrays and ONNX.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recbole_llm.core.checkpoints.tokens import PADDING, names_of
from recbole_llm.core.errors import needing, one_line
from recbole_llm.tasks.ranking import Batch, Ranker
from recbole_llm.tasks.whom import Ids, Wanted

FORMAT = 3
_STEP_BYTES = 8 * 2**20  # of scores at once: what caches hold is ranked quickest


class _Files(NamedTuple):
    settings: str = "settings.json"
    items: str = "items.json"
    vectors: str = "items.safetensors"
    arrays: str = "items.npz"
    faiss: str = "items.faiss"
    users: str = "users.npz"
    encoder: str = "user_encoder.onnx"
    weights: str = "weights.safetensors"


FILES = _Files()


@dataclass(frozen=True)
class Lists:
    """A list of items a user, one after another."""

    starts: Ids  # where each begins, and their number, int [users + 1]
    items: Any  # internal ids, int32 [*]

    @classmethod
    def of(cls, lists: Sequence[Ids]) -> Lists:
        """From a list a user."""
        starts = np.cumsum([0, *map(len, lists)])
        return cls(starts, np.concatenate([*lists, np.zeros(0, np.int64)]).astype(np.int32))

    def check(self, users: int, n_items: int) -> None:
        """Refuse lists that do not fit so many users and items."""
        sizes = np.diff(self.starts, prepend=0, append=len(self.items))
        if len(sizes) != users + 2 or sizes.min() < 0 or sizes[0] or sizes[-1]:
            raise ValueError(f"{FILES.users} does not say where histories begin and end")
        if self.items.size and not 0 < self.items.min() <= self.items.max() <= n_items:
            raise ValueError(f"{FILES.users} names items that are not there")

    def __getitem__(self, user: Any) -> Any:
        return self.items[self.starts[user] : self.starts[user + 1]].astype(np.int64)


class Standalone(Ranker):
    """A model that ``recbole-llm export`` wrote.

    Raises:
        ValueError: no such folder, or one whose files are missing, damaged or do not fit.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if self.folder.is_file():
            raise ValueError(
                f"'{folder}' is a file; of a checkpoint write --checkpoint={folder}, from Python "
                f"Recommender.of('{folder}')"
            )
        if not (self.folder / FILES.settings).is_file():
            raise ValueError(
                f"'{folder}' holds no exported model; make one with recbole-llm export"
            )
        try:
            self._read()
        except Exception as error:  # whatever the readers of these files raise
            raise ValueError(
                f"exported model '{folder}' is damaged ({one_line(error)}); export it again"
            ) from error

    def _read(self) -> None:
        from safetensors.numpy import load

        settings = json.loads((self.folder / FILES.settings).read_text(encoding="utf-8"))
        if settings["format"] != FORMAT:
            raise ValueError(f"format {settings['format']}, this version reads {FORMAT}")
        self.name, self.longest = str(settings["model"]), int(settings["longest_history"])
        self.ordered = bool(settings["ordered"])
        self._digests = settings["sha256"]
        items = json.loads(self._content(FILES.items))
        self.item_tokens = np.array([PADDING, *items["tokens"]], dtype=object)
        self.item_ids = {token: i for i, token in enumerate(self.item_tokens)}
        self._titles, self._fields = items["titles"], items["fields"]
        self.vectors = load(self._content(FILES.vectors))["vectors"]  # [n - 1, D]
        self._check_items(len(items["tokens"]))
        self._encoder = self._content(FILES.encoder)
        self._read_users()

    def _check_items(self, number: int) -> None:
        if self.longest < 0:
            raise ValueError(f"longest_history is {self.longest}")
        if self.vectors.ndim != 2 or len(self.vectors) != number:
            raise ValueError(f"{FILES.vectors} does not fit {FILES.items}")
        if self.vectors.dtype != np.float32:
            raise ValueError(f"{FILES.vectors} holds no float32")
        columns = [self._titles or [""] * number, *self._fields.values()]
        if any(not isinstance(column, list) or len(column) != number for column in columns):
            raise ValueError(f"{FILES.items} has titles or fields of other items")

    def _content(self, name: str) -> bytes:
        """What is in a file, which must be the one that was exported with the others."""
        content = (self.folder / name).read_bytes()
        if sha256(content).hexdigest() != self._digests[name]:
            raise ValueError(f"{name} is not the one that belongs to {FILES.settings}")
        return content

    def _read_users(self) -> None:
        self.user_tokens: list[str] = []
        self._histories = self._others = Lists.of([])
        if FILES.users not in self._digests:
            return
        with np.load(io.BytesIO(self._content(FILES.users)), allow_pickle=False) as arrays:
            self.user_tokens = names_of(arrays["utf8"], arrays["lengths"])
            self._histories = Lists(arrays["starts"], arrays["items"])
            self._others = Lists(arrays["other_starts"], arrays["other_items"])
        for lists in (self._histories, self._others):
            lists.check(len(self.user_tokens), len(self.vectors))

    @cached_property
    def user_ids(self) -> Mapping[str, int]:  # type: ignore[override]
        """{user: internal id}, from 1."""
        return {token: i for i, token in enumerate(self.user_tokens, start=1)}

    @cached_property
    def titles(self) -> Mapping[str, str]:  # type: ignore[override]
        """{item: title}."""
        if self._titles is None:
            return {}
        return dict(zip(self.item_tokens[1:], self._titles, strict=True))

    @cached_property
    def fields(self) -> Mapping[str, Sequence[str]]:  # type: ignore[override]
        """{field: value of each item}."""
        return {name: ["", *column] for name, column in self._fields.items()}

    @cached_property
    def encoder(self) -> Any:
        """The user encoder as a session of onnxruntime.

        Raises:
            ValueError: onnxruntime is not installed, or cannot read it.
        """
        with needing("an exported model"):
            import onnxruntime
        try:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3  # errors
            return onnxruntime.InferenceSession(
                self._encoder, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # whatever onnxruntime raises
            raise ValueError(
                f"'{self.folder / FILES.encoder}' cannot be read ({one_line(error)}); export again"
            ) from error

    def states(self, histories: Sequence[Ids]) -> Any:
        """States of B histories of internal ids, oldest first: float32 [B, D]."""
        read = [items if self.ordered else np.unique(items) for items in histories]
        read = [items[-self.longest :] for items in read]  # 0: all
        lengths = np.array([len(items) for items in read])
        states = np.zeros((len(read), self.vectors.shape[1]), np.float32)
        for length in np.unique(lengths):  # the encoder takes no padding
            rows = np.flatnonzero(lengths == length)
            given = np.stack([read[row] for row in rows]).astype(np.int64)
            states[rows] = self.encoder.run(None, {"items": given})[0]
        return states

    def known_ids(self, users: Iterable[Any] | None, asked: bool = False) -> Ids:
        """Internal ids of users whose histories were exported; None: of all."""
        if not len(self.user_tokens):
            raise ValueError("users: the model was exported without histories; give items")
        every = np.arange(1, len(self.user_tokens) + 1)
        return every if users is None else self.ids("user", users)

    def accepted(self, wanted: Wanted) -> Wanted:
        """An exported model takes no query."""
        if wanted.query is not None:
            raise ValueError(
                "query: an exported model has no text encoder; a checkpoint of AlphaRec has one"
            )
        return wanted

    def batches(self, wanted: Wanted) -> Iterator[Batch]:
        """Scores of users, as many at a time as fit some megabytes."""
        step = max(1, _STEP_BYTES // (4 * len(self.item_tokens)))
        people = self._people(wanted)
        while batch := list(islice(people, step)):
            names, owns = [name for name, _, _ in batch], [own for _, own, _ in batch]
            scores = np.full((len(batch), len(self.item_tokens)), -np.inf, np.float32)
            np.matmul(self.states(owns), self.vectors.T, out=scores[:, 1:])
            yield names, [np.concatenate([own, other]) for _, own, other in batch], scores

    def _people(self, wanted: Wanted) -> Iterator[tuple[str, Ids, Ids]]:
        """Names, histories, and what users have besides."""
        if wanted.known is None:
            nothing = np.zeros(0, np.int64)
            yield from ((name, own, nothing) for name, own in wanted.new.items())
            return
        for user in wanted.known - 1:
            yield self.user_tokens[user], self._histories[user], self._others[user]
