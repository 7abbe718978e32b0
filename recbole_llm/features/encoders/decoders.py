"""The files of a decoder: where they are, and what transformers loads from them."""

from __future__ import annotations

from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recbole_llm.core.digest import file_digest, files_digest
from recbole_llm.core.errors import extra_install_command, first_names, named_error
from recbole_llm.core.log import transformers_quiet
from recbole_llm.core.settings import ConfigLike
from recbole_llm.features.encoders.base import NO_HUB_KERNELS, EncoderError
from recbole_llm.features.encoders.gguf_files import (
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
    """A text from data, made unable to end a chat turn: all special tokens become spaces, also
    those that the tokenizer assigns no role."""
    added = tokenizer.added_tokens_decoder.values()
    special = {*tokenizer.all_special_tokens, *(str(token) for token in added if token.special)}
    for token in sorted(special, key=len, reverse=True):
        text = text.replace(token, " ")
    return text


def as_chat(maker: Any, content: Any) -> str:
    """A user's message in the chat template of `maker`, a tokenizer or processor. If it has no
    template, a text stays as it is."""
    if maker.chat_template is None and isinstance(content, str):
        return content
    message = [{"role": "user", "content": content}]
    text: str = maker.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    return text


def lacks_special(tokenizer: Any, prompt: str) -> bool:
    """Whether the tokenizer must add its special tokens to a prompt made by a chat template: not if
    the prompt begins with them (as in transformers' own `apply_chat_template`)."""
    begin = tokenizer.bos_token
    return begin is None or not prompt.startswith(begin)


@dataclass(frozen=True)
class Source:
    """A transformers folder, or a GGUF file in one."""

    folder: Path
    gguf: str | None = None  # the file's name
    key: str = "encoder_model"  # the config key that named it
    cache: Path | None = None  # has an unpacked copy of the GGUF file, read instead; None: no copy

    @classmethod
    def of(cls, name: str, revision: str | None, cache: Path, key: str = "encoder_model") -> Source:
        """Find the model called `name`: a local folder or ``.gguf`` file; for
        SmolLM2-135M-Instruct the GGUF file of a PyPI package; else a model of the hub.

        Raises:
            EncoderError: the model cannot be found, or a package to read its GGUF file is missing.
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
        """Find an encoder's model as `of` does, and log which copy is used."""
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
        """Number of the model's positions; None if its files do not say. A GGUF file takes seconds
        to read."""
        if self.gguf is not None:
            return gguf_positions(self.path)
        said = self.config.get("text_config", self.config)
        if not isinstance(said, dict):  # transformers reports it on loading
            return None
        counts = [said.get(key) for key in ("max_position_embeddings", "n_positions")]
        return next((n for n in counts if isinstance(n, int) and n > 0), None)

    @property
    def config(self) -> dict[str, Any]:
        """Content of a folder's config.json; EncoderError if it is damaged."""
        return read_json(self.folder / "config.json")

    def tokenizer(self) -> Any:
        """The model's tokenizer, without types of tokens, which decoders misread or refuse;
        EncoderError if transformers cannot read it."""
        return self.part("AutoTokenizer", model_input_names=["input_ids", "attention_mask"])

    def model(
        self, dtype: torch.dtype, kind: str = "AutoModel", unread: tuple[str, ...] = ()
    ) -> nn.Module:
        """The model, loaded by transformers' class `kind`; EncoderError if that fails or weights
        are missing, which transformers would draw at random. Missing weights whose names begin with
        `unread` are accepted; if those of the pooling are missing, the pooling is removed."""
        packed = self.gguf is not None and self.cache is None
        told = unpacking_options() if packed else {}
        model, info = self.part(
            kind, output_loading_info=True, dtype=dtype, **told, **NO_HUB_KERNELS
        )
        lacking = sorted(name for name in info["missing_keys"] if not name.startswith(unread))
        needed = [name for name in lacking if not name.startswith("pooler.")]
        if needed:
            raise EncoderError(f"{self.key} '{self.path}' lacks weights: {first_names(needed)}")
        if lacking:  # such as in a classifier's file
            model.pooler = None
        return model

    def part(self, kind: str, **arguments: Any) -> Any:
        """What transformers' class `kind` loads from the files; EncoderError if it fails."""
        import transformers

        maker = getattr(transformers, kind)
        with transformers_quiet():
            folder, where = self._place()
            try:
                return maker.from_pretrained(folder, **where, **arguments)
            except Exception as error:  # whatever a broken folder makes the library raise
                copied = self.gguf is not None and not where
                way_out = f"; remove its copy '{folder}', which is then remade" if copied else ""
                raise EncoderError(
                    f"{self.key} '{self.path}' cannot be loaded by transformers "
                    f"({named_error(error)}){way_out}"
                ) from error

    def _place(self) -> tuple[Path, dict[str, str]]:
        """The folder that transformers reads, and an argument that names its GGUF file, if any."""
        if self.gguf is None:
            return self.folder, {}
        if self.cache is None:
            return self.folder, {"gguf_file": self.gguf}
        return unpack_gguf(self.path, self.cache), {}


def _find_smollm(name: str, cache: Path, key: str) -> Path | None:
    """The GGUF file of SmolLM2's package, or else the hub's folder; None if only the hub may still
    have the model.

    Raises:
        EncoderError: the packages that read GGUF are missing, and the hub has nothing either.
    """
    if lacks_gguf_reader():
        try:
            return hub_folder(name, None, key)
        except EncoderError as error:
            raise EncoderError(
                f"{key} '{name}' comes from a package with the `gguf` extra: "
                f"{extra_install_command('gguf')}; it is neither in the hub's cache nor available "
                f"from the hub"
            ) from error
    try:
        return smollm_gguf(cache)
    except EncoderError as error:  # the hub may still have it
        getLogger("recbole_llm").warning("Decoder: %s; trying the hub", error)
        return None
