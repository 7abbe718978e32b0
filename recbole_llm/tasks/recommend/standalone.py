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

from recbole_llm.core.arrays import IntArray
from recbole_llm.core.checkpoints.tokens import PADDING, decode_names
from recbole_llm.core.errors import one_line, optional_imports
from recbole_llm.tasks.recommend.ranker import Ranker, ScoredUsers
from recbole_llm.tasks.recommend.request import Request, ResolvedRequest

FORMAT = 3
_BATCH_BYTES = 8 * 2**20  # of scores at once, which fit into a CPU's cache


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
class ItemLists:
    """One list of items per user, stored one after another."""

    starts: IntArray  # where each list begins, and the number of items, int [users + 1]
    items: Any  # internal ids, int32 [*]

    @classmethod
    def concatenate(cls, lists: Sequence[IntArray]) -> ItemLists:
        """Store the lists of all users."""
        starts = np.cumsum([0, *map(len, lists)])
        return cls(starts, np.concatenate([*lists, np.zeros(0, np.int64)]).astype(np.int32))

    def check(self, users: int, n_items: int) -> None:
        """Raise ValueError for lists that do not fit the number of users and items."""
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
                f"'{folder}' is a file; for a checkpoint write --checkpoint={folder}, from Python "
                f"Recommender.of('{folder}')"
            )
        if not (self.folder / FILES.settings).is_file():
            raise ValueError(
                f"'{folder}' holds no exported model; make one with recbole-llm export"
            )
        with optional_imports("an exported model"):
            import safetensors.numpy  # noqa: F401
        try:
            self._read()
        except Exception as error:  # whatever the readers of these files raise
            raise ValueError(
                f"exported model '{folder}' is damaged ({one_line(error)}); export it again"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "encoder"}  # made anew

    def _read(self) -> None:
        from safetensors.numpy import load

        settings = json.loads((self.folder / FILES.settings).read_text(encoding="utf-8"))
        if settings["format"] != FORMAT:
            raise ValueError(f"format {settings['format']}, this version reads {FORMAT}")
        self.name, self.longest = str(settings["model"]), int(settings["longest_history"])
        self.ordered = bool(settings["ordered"])
        self._digests = settings["sha256"]
        items = json.loads(self._read_file(FILES.items))
        self.item_tokens = np.array([PADDING, *items["tokens"]], dtype=object)
        self.item_ids = {token: i for i, token in enumerate(self.item_tokens)}
        self._titles, self._fields = items["titles"], items["fields"]
        self.vectors = load(self._read_file(FILES.vectors))["vectors"]  # [n - 1, D]
        self._check_items(len(items["tokens"]))
        self._encoder = self._read_file(FILES.encoder)
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

    def _read_file(self, name: str) -> bytes:
        """Read a file, and check that it was exported together with the others."""
        content = (self.folder / name).read_bytes()
        if sha256(content).hexdigest() != self._digests[name]:
            raise ValueError(f"{name} is not the one that belongs to {FILES.settings}")
        return content

    def _read_users(self) -> None:
        self.user_tokens: list[str] = []
        self._histories = self._filtered_out = ItemLists.concatenate([])
        if FILES.users not in self._digests:
            return
        with np.load(io.BytesIO(self._read_file(FILES.users)), allow_pickle=False) as arrays:
            self.user_tokens = decode_names(arrays["utf8"], arrays["lengths"])
            self._histories = ItemLists(arrays["starts"], arrays["items"])
            self._filtered_out = ItemLists(arrays["other_starts"], arrays["other_items"])
        for lists in (self._histories, self._filtered_out):
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
            ValueError: onnxruntime is not installed, or cannot read the encoder.
        """
        with optional_imports("an exported model"):
            import onnxruntime
        try:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3  # errors
            # Histories are too small to share: a thread per core spins between them, and in a
            # container there may be more threads than cores, which takes several times as long.
            options.intra_op_num_threads = 1
            return onnxruntime.InferenceSession(
                self._encoder, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # whatever onnxruntime raises
            raise ValueError(
                f"'{self.folder / FILES.encoder}' cannot be read ({one_line(error)}); export again"
            ) from error

    def states(self, histories: Sequence[IntArray]) -> Any:
        """States of B histories of internal ids, oldest first: float32 [B, D]."""
        inputs = [items if self.ordered else np.unique(items) for items in histories]
        inputs = [items[-self.longest :] for items in inputs]  # 0: all
        lengths = np.array([len(items) for items in inputs])
        states = np.zeros((len(inputs), self.vectors.shape[1]), np.float32)
        for length in np.unique(lengths):  # the encoder takes no padding
            rows = np.flatnonzero(lengths == length)
            items = np.stack([inputs[row] for row in rows]).astype(np.int64)
            states[rows] = self.encoder.run(None, {"items": items})[0]
        return states

    def find_users(self, users: Iterable[Any] | None, has_query: bool = False) -> IntArray:
        """Internal ids of users whose histories were exported; None: of all."""
        if not len(self.user_tokens):
            raise ValueError("users: the model was exported without histories; give items")
        if users is None:
            return np.arange(1, len(self.user_tokens) + 1)
        return self.ids("user", users)

    def resolve(self, request: Request) -> ResolvedRequest:
        resolved = super().resolve(request)
        if request.query is not None:
            raise ValueError(
                "query: an exported model has no text encoder; a checkpoint of AlphaRec has one"
            )
        return resolved

    def score_users(self, request: ResolvedRequest) -> Iterator[ScoredUsers]:
        """Score all items for the users of a request, some megabytes of scores at a time."""
        n_items = len(self.item_tokens)
        users = self._iterate_users(request)
        while batch := list(islice(users, max(1, _BATCH_BYTES // (4 * n_items)))):
            names, histories, filtered_out = zip(*batch)
            scores = np.full((len(batch), n_items), -np.inf, np.float32)
            np.matmul(self.states(histories), self.vectors.T, out=scores[:, 1:])
            seen_items = [np.concatenate(pair) for pair in zip(histories, filtered_out)]
            yield ScoredUsers(list(names), seen_items, scores)

    def _iterate_users(self, request: ResolvedRequest) -> Iterator[tuple[str, IntArray, IntArray]]:
        """Yield each user's name, history, and the items that filters removed from it."""
        if request.known_users is None:
            nothing = np.zeros(0, np.int64)
            yield from ((name, items, nothing) for name, items in request.new_users.items())
            return
        for user in request.known_users - 1:
            yield self.user_tokens[user], self._histories[user], self._filtered_out[user]
