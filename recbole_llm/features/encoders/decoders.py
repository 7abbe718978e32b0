"""The files of a decoder: where they are, and what transformers makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recbole_llm.core.digest import file_digest, files_digest
from recbole_llm.core.errors import extra_install_command, first_names, named_error
from recbole_llm.core.log import without_bars
from recbole_llm.core.settings import ConfigLike
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.gguf_files import (
    dtype_key,
    gguf_positions,
    lacks_gguf_reader,
    unpack_gguf,
    unpacking_options,
)
from recbole_llm.features.encoders.locate import (
    hub_folder,
    local_path,
    log_source,
    model_files,
    read_json,
)
from recbole_llm.features.encoders.smollm import NAMES, smollm_gguf
from recbole_llm.features.settings import EncoderSettings
from recbole_llm.features.stored.store import cache_dir

_READ = (".json", ".jinja", ".txt", ".model", ".safetensors")


def without_special(tokenizer: Any, text: str) -> str:
    """A text from data, in which nothing can end a turn: special tokens are spaces, also those that
    a tokenizer has no name for."""
    added = tokenizer.added_tokens_decoder.values()
    special = {*tokenizer.all_special_tokens, *(str(token) for token in added if token.special)}
    for token in sorted(special, key=len, reverse=True):
        text = text.replace(token, " ")
    return text


def as_chat(maker: Any, content: Any) -> str:
    """A user's message as the model was trained to see it: by the chat template of its tokenizer or
    processor. A text for a model without one stays as it is."""
    if maker.chat_template is None and isinstance(content, str):
        return content
    message = [{"role": "user", "content": content}]
    text: str = maker.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    return text


def lacks_special(tokenizer: Any, prompt: str) -> bool:
    """Whether a tokenizer is to add its special tokens to what a chat template made: not to one
    that begins with them (as transformers' own `apply_chat_template`)."""
    begin = tokenizer.bos_token
    return begin is None or not prompt.startswith(begin)


@dataclass(frozen=True)
class Source:
    """A transformers folder, or a GGUF file in one."""

    folder: Path
    gguf: str | None = None  # the file's name
    key: str = "encoder_model"  # the config key that named it
    cache: Path | None = None  # keeps a plain copy of the GGUF file, read in its place; None: none

    @classmethod
    def of(cls, name: str, revision: str | None, cache: Path, key: str = "encoder_model") -> Source:
        """Where the model called `name` is: a local folder or ``.gguf`` file; for
        SmolLM2-135M-Instruct the GGUF file of a PyPI package; else the hub.

        Raises:
            EncoderError: it is nowhere to be had, or a GGUF file lacks a package to read it.
        """
        path, keep = local_path(name, key), None
        if path is None and name in NAMES and revision is None:
            path, keep = _find_smollm(name, cache, key), cache
        if path is None:
            path = hub_folder(name, revision, key)
        if path.suffix != ".gguf":
            if not (path / "config.json").is_file():
                raise EncoderError(f"{key} '{name}' is no model folder: it has no config.json")
            return cls(path, key=key)
        if lacks_gguf_reader():
            raise EncoderError(f"a GGUF file needs a package: {extra_install_command('gguf')}")
        return cls(path.parent, path.name, key, keep)

    @classmethod
    def of_encoder(cls, config: ConfigLike, kind: str, name: str) -> Source:
        """Where an encoder's model is, as of `of`; says which copy is used."""
        source = cls.of(name, EncoderSettings.of(config).encoder_revision, cache_dir(config))
        log_source(kind, name, str(source.path))
        return source

    @property
    def path(self) -> Path:
        """The folder, or the file in it."""
        return self.folder / (self.gguf or "")

    @property
    def digest(self) -> str:
        """Changes with the weights and the tokenizer."""
        if self.gguf is not None:
            return file_digest(self.path)
        return files_digest(self.folder, model_files(self.folder, _READ))

    def longest(self) -> int | None:
        """Tokens that the model has positions for; None where its files do not say so. A GGUF file
        takes seconds to read."""
        if self.gguf is not None:
            return gguf_positions(self.path)
        said = self.config.get("text_config", self.config)
        if not isinstance(said, dict):  # transformers says so when it reads it
            return None
        counts = [said.get(key) for key in ("max_position_embeddings", "n_positions")]
        return next((n for n in counts if isinstance(n, int) and n > 0), None)

    @property
    def config(self) -> dict[str, Any]:
        """Content of a folder's config.json; EncoderError where it is damaged."""
        return read_json(self.folder / "config.json")

    def tokenizer(self) -> Any:
        """Its tokenizer; EncoderError where transformers cannot read it."""
        return self.part("AutoTokenizer")

    def model(
        self, dtype: torch.dtype, kind: str = "AutoModel", unread: tuple[str, ...] = ()
    ) -> nn.Module:
        """The model, as transformers' class `kind` has it; EncoderError where it cannot be had, or
        lacks weights, which transformers would draw at random: but for its pooling, which it is
        without then, and those whose names begin with `unread`."""
        packed = self.gguf is not None and self.cache is None
        told = unpacking_options() if packed else {}
        model, info = self.part(kind, output_loading_info=True, **{dtype_key(): dtype}, **told)
        lacking = sorted(name for name in info["missing_keys"] if not name.startswith(unread))
        needed = [name for name in lacking if not name.startswith("pooler.")]
        if needed:
            raise EncoderError(f"{self.key} '{self.path}' lacks weights: {first_names(needed)}")
        if lacking:  # as of a classifier
            model.pooler = None
        return model

    def part(self, kind: str, **arguments: Any) -> Any:
        """What transformers' class `kind` makes of it; EncoderError where it cannot."""
        import transformers

        maker = getattr(transformers, kind)
        with without_bars():
            folder, where = self._place()
            try:
                return maker.from_pretrained(folder, **where, **arguments)
            except Exception as error:  # whatever a broken folder makes the library raise
                copied = self.gguf is not None and not where
                way_out = f"; remove '{folder}', its copy, which is made anew" if copied else ""
                raise EncoderError(
                    f"{self.key} '{self.path}' cannot be loaded by transformers "
                    f"({named_error(error)}){way_out}"
                ) from error

    def _place(self) -> tuple[Path, dict[str, str]]:
        """The folder that transformers reads, and which file of it is GGUF."""
        if self.gguf is None:
            return self.folder, {}
        if self.cache is None:
            return self.folder, {"gguf_file": self.gguf}
        return unpack_gguf(self.path, self.cache), {}


def _find_smollm(name: str, cache: Path, key: str) -> Path | None:
    """SmolLM2: the GGUF file of its package, or else the hub's folder; None: only the hub may
    still have it.

    Raises:
        EncoderError: the packages that read GGUF are missing, and the hub has nothing either.
    """
    if lacks_gguf_reader():
        try:
            return hub_folder(name, None, key)
        except EncoderError as error:
            raise EncoderError(
                f"{key} '{name}' comes from a package with the `gguf` extra: "
                f"{extra_install_command('gguf')}; without, it is neither in the hub's cache nor "
                f"to be had from the hub"
            ) from error
    try:
        return smollm_gguf(cache)
    except EncoderError as error:  # the hub may still have it
        getLogger("recbole_llm").warning("Decoder: %s; trying the hub", error)
        return None
