"""Batched generation against the model asked token by token: the same, whatever leaves or runs out of memory."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers import GPT2LMHeadModel as Gpt2

from star1lib.errors import UserError
from star1lib.models import cache, generate
from star1lib.models.generate import Generation, Settings

VOCABULARY = 97


SHAPE = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 1,
         "eos_token_id": 2, "initializer_range": 0.3}  # fmt: skip
ROPE = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}  # fmt: skip


def build(kind, config):
    torch.manual_seed(0)
    return kind(config).train(False)


MODELS = {
    "llama": lambda: build(LlamaForCausalLM, LlamaConfig(**SHAPE, tie_word_embeddings=True)),
    "llama3_rope": lambda: build(LlamaForCausalLM, LlamaConfig(**SHAPE, rope_parameters=ROPE)),
    "mistral, a sliding window": lambda: build(MistralForCausalLM, MistralConfig(**SHAPE, sliding_window=8)),
    "qwen2": lambda: build(Qwen2ForCausalLM, Qwen2Config(**SHAPE)),
    "gpt2": lambda: build(
        Gpt2,
        GPT2Config(vocab_size=VOCABULARY, n_positions=64, n_embd=32, n_layer=2, n_head=2, initializer_range=0.3),
    ),
}


@pytest.fixture(scope="module")
def llama():
    return MODELS["llama"]()


def prompts(count=11, seed=0, first=()):
    draw = torch.Generator().manual_seed(seed)
    sizes = torch.randint(3, 17, (count,), generator=draw).tolist()
    return [[*first, *torch.randint(3, VOCABULARY, (size,), generator=draw).tolist()] for size in sizes]


def reference(model, asked, new, penalty=1.0, stop=frozenset()):
    """One prompt at a time, the whole sequence computed again for each token."""
    found = []
    for prompt in asked:
        ids = list(prompt)
        while len(ids) - len(prompt) < new:
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0, -1]
            seen = torch.tensor(sorted(set(ids)))
            kept = logits[seen]
            logits[seen] = torch.where(kept < 0, kept * penalty, kept / penalty)
            ids.append(int(logits.argmax()))
            if ids[-1] in stop:
                break
        found.append(ids[len(prompt) :])
    return found


def tokens(results: list[Generation]) -> list[list[int]]:
    return [result.tokens for result in results]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("penalty", [1.0, 1.2])
def test_batches_do_not_change_a_token(name, penalty, monkeypatch):
    model, asked, stop = MODELS[name](), prompts(), {2, *range(60, 64)}
    wanted = reference(model, asked, 24, penalty, stop)
    monkeypatch.setattr(generate, "ROUND", 5)
    for batch in (1, 3, 64):
        monkeypatch.setattr(generate, "BATCH", batch)
        got = generate.generate(model, asked, Settings(24, penalty), stop_ids=stop)
        assert tokens(got) == wanted
        assert [result.prompt_tokens for result in got] == [len(prompt) for prompt in asked]
        ended = ["stop" if made[-1] in stop else "max_tokens" for made in wanted]
        assert [result.stop_reason for result in got] == ended
        assert name != "llama" or ("stop" in ended and (penalty > 1 or "max_tokens" in ended))


def test_finished_rows_leave_the_batch(llama, monkeypatch):
    whole, sizes = llama.generate, []

    def counted(ids, **settings):
        sizes.append(len(ids))
        return whole(ids, **settings)

    monkeypatch.setattr(llama, "generate", counted)
    monkeypatch.setattr(generate, "ROUND", 4)
    generate.generate(llama, prompts(), Settings(24), stop_ids=set(range(60, 64)))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 11 > sizes[-1]


def test_keys_and_values_stay_where_they_are(llama):
    held, places = cache.empty_cache(llama.config), []
    for _ in range(cache.ROOM + 1):
        with torch.no_grad():
            llama(torch.tensor([[5]]), cache=held, use_cache=True)
        places.append(held.layers[0].keys.data_ptr())
    assert len(set(places)) == 1 and held.get_seq_length() == len(places)
    mistral = MODELS["mistral, a sliding window"]()
    assert "SlidingWindow" in type(cache.empty_cache(mistral.config).layers[0]).__name__


def test_memory_for_keys_and_values_bounds_the_batch(llama, monkeypatch):
    asked, sizes, whole = prompts(), [], llama.generate
    monkeypatch.setattr(llama, "generate", lambda ids, **how: sizes.append(len(ids)) or whole(ids, **how))
    token = 2 * 2 * 2 * 8 * 4  # keys and values, two layers, two heads of eight numbers, float32
    longest = max(map(len, asked)) + 10
    monkeypatch.setattr(generate, "cache_bytes", lambda device: 3 * token * longest)
    assert tokens(generate.generate(llama, asked, Settings(10), stop_ids=set())) == reference(llama, asked, 10)
    assert max(sizes) == 3


def test_out_of_memory_halves_the_batch_and_keeps_what_was_made(llama, monkeypatch, caplog):
    asked = prompts()
    wanted = reference(llama, asked, 10, 1.2)
    whole, calls, reported = llama.generate, [], []

    def failing(ids, **settings):
        calls.append(tuple(ids.shape))
        if len(calls) == 2 or len(ids) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(ids, **settings)

    monkeypatch.setattr(llama, "generate", failing)
    monkeypatch.setattr(generate, "ROUND", 4)
    monkeypatch.setattr(generate, "BATCH", 4)
    how = {"stop_ids": set(), "on_done": lambda index, _: reported.append(index)}
    assert tokens(generate.generate(llama, asked, Settings(10, 1.2), **how)) == wanted
    assert sorted(reported) == list(range(len(asked)))
    assert calls[2] == (2, calls[1][1])  # the two longest go on from the fourth token
    assert "going on with 2 sequences" in caplog.text
    monkeypatch.setattr(llama, "generate", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        generate.generate(llama, asked, Settings(10), stop_ids=set())


def test_one_prompt_that_does_not_fit_is_named(llama, monkeypatch):
    def failing(ids, **settings):
        raise RuntimeError("[enforce fail] can't allocate memory")

    monkeypatch.setattr(llama, "generate", failing)
    with pytest.raises(UserError, match="single prompt"):
        generate.generate(llama, prompts(), Settings(4), stop_ids=set())


@pytest.mark.parametrize("name", MODELS)
def test_the_models_window_is_a_stop_reason(name):
    model = MODELS[name]()
    window = model.config.max_position_embeddings
    long = [[3] * window, [4] * (window - 6), [5, 6]]
    got = generate.generate(model, long, Settings(20), stop_ids=set())
    assert [result.stop_reason for result in got] == ["model_length", "model_length", "max_tokens"]
    assert [len(result.tokens) for result in got] == [0, 6, 20]


def test_bad_input_is_named(llama):
    assert generate.generate(llama, [], Settings(3), stop_ids=set()) == []
    with pytest.raises(UserError, match="without tokens"):
        generate.generate(llama, [[3], []], Settings(3), stop_ids=set())
    with pytest.raises(UserError, match="max_new_tokens"):
        Settings(0)
    with pytest.raises(UserError, match="repetition_penalty"):
        Settings(3, 0)
