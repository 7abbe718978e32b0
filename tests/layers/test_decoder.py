from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from recbole_llm.layers.decoder import CausalDecoder, depth_of, small_decoder

DEPTH = 4


def make(kind: str, **more: Any) -> Any:
    import transformers

    small: dict[str, Any] = {
        "vocab_size": 9,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_attention_heads": 4,
    }
    small |= {"num_hidden_layers": DEPTH, "num_key_value_heads": 4, **more}
    config = getattr(transformers, f"{kind}Config")(**small)
    torch.manual_seed(0)
    return getattr(transformers, f"{kind}Model")(config).eval()


SLIDING = {"use_sliding_window": True, "sliding_window": 2, "max_window_layers": 2}  # upper half


@pytest.mark.parametrize(
    ("kind", "keys"), [("Llama", {}), ("Qwen2", {}), ("Qwen2", SLIDING), ("GPTNeoX", {})]
)
@pytest.mark.parametrize("first", [0, 1, DEPTH - 1])
def test_the_halves_together_are_the_whole(kind: str, keys: dict[str, Any], first: int) -> None:
    model = make(kind, **keys)
    with torch.no_grad():
        whole = model(torch.tensor([[1, 2, 3], [4, 5, 6]]), output_hidden_states=True)
        upper = CausalDecoder(copy.deepcopy(model), first)
        states = upper(whole.hidden_states[first])
    torch.testing.assert_close(states, whole.last_hidden_state)
    assert depth_of(upper.model) == DEPTH - first


@pytest.mark.parametrize(
    ("kind", "keys"), [("Llama", {}), ("Granite", {"embedding_multiplier": 3.0}), ("Bloom", {})]
)
@pytest.mark.parametrize("first", [0, 1, DEPTH - 1])
def test_states_pass_what_is_done_to_word_embeddings(
    kind: str, keys: dict[str, Any], first: int
) -> None:
    model = make(kind, **keys)
    with torch.no_grad():
        whole = model(torch.tensor([[1, 2, 3], [4, 5, 6]]), output_hidden_states=True)
        upper = CausalDecoder(copy.deepcopy(model), first)
        upper.take_states()
        states = upper(whole.hidden_states[first])
    torch.testing.assert_close(states, whole.last_hidden_state)


def test_learned_positions_are_added_to_states() -> None:
    model = make("GPT2").requires_grad_(False)
    upper, vectors = CausalDecoder(copy.deepcopy(model), DEPTH - 1), torch.randn(1, 3, 16)
    upper.take_states()
    expected = model.ln_f(model.h[-1](vectors + model.wpe.weight[:3]))
    torch.testing.assert_close(upper(vectors), expected)


def test_what_else_is_done_to_word_embeddings_is_refused() -> None:
    upper = CausalDecoder(make("Llama"), 1)
    upper.model.register_forward_pre_hook(
        lambda _, args, named: (args, {**named, "inputs_embeds": named["inputs_embeds"].tanh()}),
        with_kwargs=True,
    )
    with pytest.raises(ValueError, match="decoder LlamaModel cannot read states: it changes its"):
        upper.take_states()


def test_a_decoder_that_scales_its_embeddings_itself() -> None:
    """Gemma's decoder did so before transformers 5."""
    model, scaled = make("Llama"), make("Llama")
    scaled.register_forward_pre_hook(
        lambda _, args, named: (args, {**named, "inputs_embeds": named["inputs_embeds"] * 4}),
        with_kwargs=True,
    )
    upper, vectors = CausalDecoder(scaled, 1), torch.randn(2, 3, 16)
    upper.take_states()
    assert upper.scale == pytest.approx(4)
    torch.testing.assert_close(upper(vectors), CausalDecoder(model, 1)(vectors))


def test_some_blocks_and_the_last_norm_by_hand() -> None:
    model = make("Llama")
    vectors = torch.randn(2, 5, 16)
    upper = CausalDecoder(copy.deepcopy(model), 1, 2)
    with torch.no_grad():
        expected, positions = vectors, torch.arange(5)[None]
        mask = torch.full((5, 5), -torch.inf).triu(1)[None, None]
        angles = model.rotary_emb(vectors, positions)
        for block in model.layers[1:3]:
            expected = block(expected, attention_mask=mask, position_embeddings=angles)
        torch.testing.assert_close(upper(vectors), model.norm(expected))


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "GPTNeoX"])
def test_no_state_sees_a_later_vector_nor_the_padding(kind: str) -> None:
    upper = CausalDecoder(make(kind), 1)
    vectors = torch.randn(1, 6, 16)
    changed = vectors.clone()
    changed[:, 4:] = 7.0
    with torch.no_grad():
        assert torch.equal(upper(vectors)[:, :4], upper(changed)[:, :4])


def test_rows_of_like_length_read_together_have_the_same_states() -> None:
    upper = CausalDecoder(make("Llama"), 1)
    vectors, lengths = torch.randn(6, 7, 16), torch.tensor([7, 1, 3, 0, 4, 7])
    with torch.no_grad():
        together, apart = upper(vectors), upper(vectors, lengths)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(apart[row, :length], together[row, :length])
        assert not apart[row, length:].any()


def test_what_trains() -> None:
    counts = {}
    for tuning in ("full", "lora", "frozen"):
        upper = CausalDecoder(make("Llama"), 2, None, tuning, rank=3)
        counts[tuning] = sum(p.numel() for p in upper.parameters() if p.requires_grad)
    # In a block: q, k, v, o of 16 x 16; gate, up, down of 16 x 32.
    assert counts["lora"] == 2 * 3 * (4 * (16 + 16) + 3 * (16 + 32))
    assert counts["frozen"] == 0
    assert counts["full"] == 2 * (4 * 16 * 16 + 3 * 16 * 32 + 2 * 16) + 16


def test_adapters_start_at_the_model_and_get_gradients_through_checkpoints() -> None:
    vectors = torch.randn(2, 3, 16, requires_grad=True)
    plain = CausalDecoder(make("Llama"), 2, None, "frozen")
    tuned = CausalDecoder(make("Llama"), 2, None, "lora", checkpointing=True).train()
    states = tuned(vectors)
    torch.testing.assert_close(states, plain(vectors))
    states.sum().backward()
    trained = {n: p for n, p in tuned.named_parameters() if p.requires_grad}
    assert trained and all(p.grad is not None for p in trained.values())
    assert all("lora_" in name for name in trained)
    assert vectors.grad is not None


def test_a_small_decoder_has_the_asked_sizes() -> None:
    upper = CausalDecoder(small_decoder(width=8, depth=2, heads=2, inner=16, positions=3))
    assert upper.width == 8
    assert upper(torch.randn(2, 3, 8)).shape == (2, 3, 8)
    inner, positions = upper.model.h[0].mlp.c_fc.weight, upper.model.wpe.weight
    assert inner.shape == (8, 16) and positions.shape == (3, 8)


def test_a_small_decoder_may_have_one_position() -> None:
    upper = CausalDecoder(small_decoder(width=8, depth=1, heads=2, inner=16, positions=1))
    assert upper(torch.randn(2, 1, 8)).shape == (2, 1, 8)


def test_histories_beyond_the_positions_are_refused() -> None:
    upper = CausalDecoder(small_decoder(width=8, depth=1, heads=2, inner=16, positions=3))
    with pytest.raises(ValueError, match="has 3 positions, but a history takes 4: lower MAX_ITEM"):
        upper(torch.randn(2, 4, 8))


def test_a_small_decoder_drops_out_in_training_alone() -> None:
    torch.manual_seed(0)
    made = small_decoder(width=8, depth=1, heads=2, inner=16, positions=3, dropout=0.5)
    upper, vectors = CausalDecoder(made), torch.randn(1, 3, 8)
    assert not upper.train()(vectors).equal(upper(vectors))
    assert upper.eval()(vectors).equal(upper(vectors))
    assert made.drop.p == 0  # Molar itself applies dropout to the vectors


@pytest.mark.parametrize(
    "kind, reason",
    [
        ("Bert", "cannot be split: it has no list of blocks called layers or h"),
        ("ModernBert", "cannot be split: it is not causal"),
    ],
)
def test_a_model_that_is_no_decoder_is_refused_by_name(kind: str, reason: str) -> None:
    import transformers

    small: dict[str, Any] = {"vocab_size": 9, "hidden_size": 16, "num_attention_heads": 4}
    small |= {"num_hidden_layers": 2, "intermediate_size": 32}
    if kind == "ModernBert":
        names = ("pad", "bos", "eos", "cls", "sep")
        small |= {f"{name}_token_id": 0 for name in names}
    model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**small))
    with pytest.raises(ValueError, match=f"the decoder {kind}Model {reason}"):
        CausalDecoder(model)


@pytest.mark.parametrize("first, count", [(DEPTH, None), (3, 2), (-1, 1), (1, 0)])
def test_blocks_that_are_not_there(first: int, count: int | None) -> None:
    with pytest.raises(ValueError, match=f"cannot be split: it has {DEPTH} blocks"):
        CausalDecoder(make("Llama"), first, count)


def test_rows_of_several_lengths_are_read_in_bfloat16() -> None:
    """Under autocast, the last norm gives float32, though the vectors are bfloat16."""
    upper = CausalDecoder(small_decoder(width=8, depth=1, heads=2, inner=16, positions=5)).eval()
    vectors, lengths = torch.randn(3, 5, 8), torch.tensor([1, 5, 3])
    with torch.no_grad():
        exact = upper(vectors, lengths)
        with torch.autocast("cpu", torch.bfloat16):
            states = upper(vectors.bfloat16(), lengths)
    assert states.dtype == torch.bfloat16
    torch.testing.assert_close(states.float(), exact, atol=0.1, rtol=0.1)
