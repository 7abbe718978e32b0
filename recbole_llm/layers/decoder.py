"""A decoder of transformers, or some of its blocks, that reads vectors instead of words."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from recbole_llm.core.errors import one_line, optional_imports
from recbole_llm.layers.exporting import is_exporting

_POSITIONS = 8192  # at most in a pass without gradients
_BLOCKS = ("layers", "h")  # their names in Llama-style and GPT-2-style decoders


class CausalDecoder(nn.Module):
    """Blocks of a causal decoder, with its last norm and without its word embeddings.

    Args:
        model: a base model of transformers, such as ``LlamaModel``; it is changed in place.
        first: the first block that is kept.
        count: number of blocks that are kept; None: all from `first` on.
        tuning: what is trained: all weights (full), low-rank adapters (lora; Hu et al., ICLR
            2022), or nothing (frozen).
        rank: of the adapters.
        checkpointing: whether activations are recomputed for the gradients instead of kept.

    Raises:
        ValueError: the model is not causal, or its blocks cannot be selected.
    """

    def __init__(
        self,
        model: Any,
        first: int = 0,
        count: int | None = None,
        tuning: str = "full",
        rank: int = 8,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        _keep_blocks(model, first, count)
        _check_causal(model)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.requires_grad_(tuning == "full")
        model.get_input_embeddings().requires_grad_(False)  # a placeholder for the words'
        table = getattr(model, "wpe", None)  # GPT-2-style; other kinds have no limit
        self.longest = table.num_embeddings if isinstance(table, nn.Embedding) else None
        self.model = model
        self.scale = 1.0  # vectors are divided by it
        if tuning == "lora":
            _add_adapters(model, rank)

    def take_states(self) -> None:
        """Read vectors as hidden states: skip what the model does to word embeddings before its
        first block. Learned positions are still added.

        Raises:
            ValueError: that is neither a factor nor Bloom's norm.
        """
        if hasattr(self.model, "word_embeddings_layernorm"):  # Bloom
            self.model.word_embeddings_layernorm = nn.Identity()
        vector, read = _first_inputs(self.model)
        scale = float((vector * read).sum() / vector.square().sum())  # not 1 for Granite and Gemma
        if not read.allclose(scale * vector, atol=1e-4 * max(scale, 1.0)):
            raise ValueError(
                f"the decoder {type(self.model).__name__} cannot read states: it changes its "
                f"inputs before its first block"
            )
        self.scale = scale if abs(scale - 1) > 1e-5 else 1.0

    @property
    def width(self) -> int:
        """H, the length of its vectors."""
        return int(self.model.config.hidden_size)

    def forward(self, vectors: Tensor, lengths: Tensor | None = None) -> Tensor:
        """States after every position: [B, L, H] -> [B, L, H].

        Args:
            vectors: sequences padded on the right, so that the causal mask hides padding from real
                positions.
            lengths: of the sequences, int [B], 0…L. If given, rows of similar length are read
                together, since a decoder also computes padding, and states of padding are zeros.
        """
        if self.scale != 1:
            vectors = vectors / self.scale
        if is_exporting():  # rows have no padding, and any number and length
            return self.model(inputs_embeds=vectors, use_cache=False).last_hidden_state
        if lengths is None:
            return self._read(vectors)
        states = torch.zeros_like(vectors)
        limit = 2 ** lengths.clamp(min=1).log2().ceil().long()  # [B], 1, 2, 4, …
        for width in set(limit.cpu().tolist()):
            rows, some = (limit == width).nonzero().squeeze(1), min(width, vectors.shape[1])
            read = self._read(vectors[rows, :some])
            states[rows, :some] = read.to(states.dtype)  # a norm makes float32 under autocast
        slots = torch.arange(vectors.shape[1], device=vectors.device)
        return states.masked_fill((slots >= lengths[:, None])[..., None], 0)

    def _read(self, vectors: Tensor) -> Tensor:
        rows = len(vectors)
        if self.longest is not None and vectors.shape[1] > self.longest:
            raise ValueError(
                f"the decoder has {self.longest} positions, but a history takes "
                f"{vectors.shape[1]}: lower MAX_ITEM_LIST_LENGTH (for BAHE's baseline: "
                f"coupled_max_tokens), or choose another decoder_model"
            )
        if not torch.is_grad_enabled():  # nothing is kept, so memory can be bounded
            rows = max(_POSITIONS // vectors.shape[1], 1)
        parts = [
            self.model(inputs_embeds=some, use_cache=False).last_hidden_state
            for some in torch.split(vectors, rows)
        ]
        return torch.cat(parts)


def small_decoder(
    width: int, depth: int, heads: int, inner: int, positions: int, dropout: float = 0.0
) -> nn.Module:
    """Return a GPT-2-style decoder of random weights, for sequences of at most `positions` vectors.

    Args:
        width, depth, heads, inner: H, blocks, attention heads, width of the feed-forward net.
        positions: number of position embeddings.
        dropout: on attention probabilities and on what attention and feed-forward net add.
    """
    from transformers import GPT2Config, GPT2Model

    return GPT2Model(
        GPT2Config(
            vocab_size=1,
            bos_token_id=None,
            eos_token_id=None,
            n_embd=width,
            n_layer=depth,
            n_head=heads,
            n_inner=inner,
            n_positions=max(positions, 2),  # the causality check needs two
            embd_pdrop=0.0,  # the vectors have a dropout of their own
            attn_pdrop=dropout,
            resid_pdrop=dropout,
        )
    )


def depth_of(model: Any) -> int:
    """Return the number of a decoder's blocks; ValueError if it has no known list of them."""
    return len(getattr(model, _block_list(model)))


def _block_list(model: Any) -> str:
    for name in _BLOCKS:
        if isinstance(getattr(model, name, None), nn.ModuleList):
            return name
    raise _unsplittable(model, f"it has no list of blocks called {' or '.join(_BLOCKS)}")


def _keep_blocks(model: Any, first: int, count: int | None) -> None:
    name = _block_list(model)
    blocks = getattr(model, name)
    end = len(blocks) if count is None else first + count
    if not 0 <= first < end <= len(blocks):
        raise _unsplittable(
            model, f"it has {len(blocks)} blocks, but blocks {first + 1} to {end} are wanted"
        )
    if end - first < len(blocks):
        setattr(model, name, blocks[first:end])
        _trim_config(model, first, end)
    embedding = model.get_input_embeddings().weight
    model.set_input_embeddings(nn.Embedding(1, embedding.shape[1], dtype=embedding.dtype))


def _trim_config(model: Any, first: int, end: int) -> None:
    model.config = copy.deepcopy(model.config)
    model.config.num_hidden_layers = end - first
    kinds = getattr(model.config, "layer_types", None)  # such as blocks with a sliding window
    if kinds is None:
        return
    try:
        model.config.layer_types = kinds[first:end]
    except AttributeError as error:
        raise _unsplittable(model, "its layer_types cannot be changed") from error


def _check_causal(model: Any) -> None:
    """Raise ValueError if states depend on later inputs, as a forward pass shows."""
    _, states = _states_of_two_pairs(model)
    if not states[0, 0].allclose(states[1, 0], atol=1e-4):
        raise _unsplittable(model, "it is not causal: a state sees what comes after it")


def _first_inputs(model: Any) -> tuple[Tensor, Tensor]:
    """Return the difference of two sequences, and that of the first block's inputs for them,
    [2, H] each; added positions cancel out."""
    seen: list[Tensor] = []
    hook = getattr(model, _block_list(model))[0].register_forward_pre_hook(
        lambda _, args, named: seen.append(args[0] if args else named["hidden_states"]),
        with_kwargs=True,
    )
    vectors, _ = _states_of_two_pairs(model)
    hook.remove()
    return vectors[0] - vectors[1], seen[0][0] - seen[0][1]


@torch.no_grad()
def _states_of_two_pairs(model: Any) -> tuple[Tensor, Tensor]:
    """Return two sequences [2, 2, H], whose second vectors differ in sign, and their states."""
    training = model.training
    model.eval()
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(1, 2, model.config.hidden_size, generator=generator)
    vectors = vectors.repeat(2, 1, 1).to(model.device, model.dtype)
    vectors[1, 1] *= -1
    try:
        states = model(inputs_embeds=vectors.clone(), use_cache=False).last_hidden_state
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise _unsplittable(model, f"it does not take vectors ({one_line(error)})") from error
    model.train(training)
    return vectors, states


def _unsplittable(model: Any, reason: str) -> ValueError:
    return ValueError(
        f"the decoder {type(model).__name__} cannot be split: {reason}; Llama-style and "
        f"GPT-2-style decoders can"
    )


def adapter_settings(rank: int) -> Any:
    """Return peft's settings of low-rank adapters at all linear layers.

    Raises:
        ValueError: peft is not installed.
    """
    with optional_imports("LoRA"):
        from peft import LoraConfig
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")


def _add_adapters(model: Any, rank: int) -> None:
    """Add adapters in place, without peft's wrapper."""
    settings = adapter_settings(rank)
    from peft import inject_adapter_in_model

    inject_adapter_in_model(settings, model)
