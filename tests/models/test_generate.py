"""Batched generation against the library's own: same tokens, whatever joins, leaves or runs out of memory."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers import GPT2LMHeadModel as Gpt2

from star1lib.errors import UserError
from star1lib.models import decode, generate
from star1lib.models.generate import Generation, Settings

VOCABULARY = 97
BIG = 1 << 30


def shape(**more):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return {
        "vocab_size": VOCABULARY,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "initializer_range": 0.3,
        **sizes,
        **more,
    }


def build(kind, config):
    torch.manual_seed(0)
    return kind(config).train(False)


MODELS = {
    "llama": lambda: build(LlamaForCausalLM, LlamaConfig(**shape(tie_word_embeddings=True))),
    "llama3_rope": lambda: build(
        LlamaForCausalLM,
        LlamaConfig(
            **shape(
                rope_parameters={
                    "rope_type": "llama3",
                    "rope_theta": 10000.0,
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 64,
                }
            )
        ),
    ),
    "qwen2": lambda: build(Qwen2ForCausalLM, Qwen2Config(**shape())),
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
def test_logits_equal_the_models(name):
    model = MODELS[name]()
    assert decode.supports(model)
    asked = prompts(4, first=(5, 6, 7))
    with torch.inference_mode():
        stepper = decode.Decoder(model, [5, 6, 7], 8, 16, BIG)
        got = stepper.join(asked)
        for prompt, row in zip(asked, got, strict=True):
            torch.testing.assert_close(row, model(torch.tensor([prompt])).logits[0, -1], atol=2e-4, rtol=1e-4)
        got = stepper.step(torch.tensor([9, 10, 11, 12]))
        for prompt, token, row in zip(asked, (9, 10, 11, 12), got, strict=True):
            whole = model(torch.tensor([[*prompt, token]])).logits[0, -1]
            torch.testing.assert_close(row, whole, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("penalty", [1.0, 1.2])
def test_batches_do_not_change_a_token(llama, own, penalty, monkeypatch):
    monkeypatch.setattr(decode, "supports", lambda model: own)
    asked = prompts()
    stop = {2, *range(60, 64)}
    wanted = reference(llama, asked, 24, penalty, stop)
    for batch in (1, 3, 64):
        got = generate.generate(llama, asked, Settings(24, penalty), stop_ids=stop, batch_size=batch)
        assert tokens(got) == wanted
        assert [result.prompt_tokens for result in got] == [len(prompt) for prompt in asked]
        ended = ["stop" if made[-1] in stop else "max_tokens" for made in wanted]
        assert [result.stop_reason for result in got] == ended
        assert "stop" in ended and (penalty > 1 or "max_tokens" in ended)


def test_equals_the_librarys_generate(llama):
    asked = prompts(5, seed=3)
    got = generate.generate(llama, asked, Settings(12, 1.2), stop_ids={2})
    for prompt, result in zip(asked, got, strict=True):
        whole = llama.generate(
            torch.tensor([prompt]), do_sample=False, max_new_tokens=12, repetition_penalty=1.2, pad_token_id=0
        )
        assert whole[0, len(prompt) :].tolist() == result.tokens


def test_an_architecture_without_a_fast_way():
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=64, n_embd=32, n_layer=2, n_head=2, initializer_range=0.3)
    model = build(Gpt2, config)
    assert not decode.supports(model)
    asked = prompts(6)
    assert tokens(generate.generate(model, asked, Settings(9), stop_ids={2}, batch_size=4)) == reference(
        model, asked, 9, stop={2}
    )


def test_little_memory_halves_the_batch_and_keeps_every_prompt(llama, caplog, monkeypatch):
    asked = prompts()
    wanted = reference(llama, asked, 30)
    per_token = 2 * 2 * 2 * 8 * 4
    monkeypatch.setattr(generate, "cache_bytes", lambda: per_token * 50 * 3)
    got = generate.generate(llama, asked, Settings(30), stop_ids=set(), batch_size=8)
    assert tokens(got) == wanted
    assert "out of memory" in caplog.text
    monkeypatch.setattr(generate, "cache_bytes", lambda: per_token * 10)
    with pytest.raises(UserError, match="single prompt"):
        generate.generate(llama, asked, Settings(30), stop_ids=set())


def test_out_of_memory_in_the_middle_of_a_step(llama, monkeypatch):
    asked = prompts()
    wanted = reference(llama, asked, 10, 1.2)
    step, calls = decode.Decoder.step, []

    def failing(self, chosen):
        calls.append(self.rows)
        if len(calls) in (4, 9):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, chosen)

    monkeypatch.setattr(decode.Decoder, "step", failing)
    reported = []
    got = generate.generate(
        llama,
        asked,
        Settings(10, 1.2),
        stop_ids=set(),
        batch_size=8,
        on_done=lambda index, _: reported.append(index),
    )
    assert tokens(got) == wanted
    assert sorted(reported) == list(range(len(asked)))
    assert max(calls[9:]) <= 2


def test_the_librarys_batch_is_halved_too(llama, monkeypatch):
    asked = prompts()
    wanted = reference(llama, asked, 10)
    whole, sizes = llama.generate, []

    def failing(ids, **settings):
        sizes.append(len(ids))
        if len(ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(ids, **settings)

    monkeypatch.setattr(decode, "supports", lambda model: False)
    monkeypatch.setattr(llama, "generate", failing)
    assert tokens(generate.generate(llama, asked, Settings(10), stop_ids=set(), batch_size=8)) == wanted
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 1]


def test_other_errors_pass(llama, monkeypatch):
    def broken(self, chosen):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(decode.Decoder, "step", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        generate.generate(llama, prompts(), Settings(4), stop_ids=set())


@pytest.mark.parametrize("own", [True, False])
def test_the_models_window_is_a_stop_reason(llama, own, monkeypatch):
    monkeypatch.setattr(decode, "supports", lambda model: own)
    long = [3] * 256
    got = generate.generate(llama, [long, [4] * 250, [5, 6]], Settings(20), stop_ids=set())
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


def test_common_prefix_leaves_every_prompt_a_token():
    assert generate.common_prefix([[1, 2, 3], [1, 2, 4, 5]]) == [1, 2]
    assert generate.common_prefix([[1, 2], [1, 2]]) == [1]
    assert generate.common_prefix([[7], [1, 2]]) == []
    assert generate.common_prefix([[7, 8]]) == []


def test_gaps_are_filled_from_the_end():
    assert generate._fill_gaps([0, 2, 3, 5]) == [0, 5, 2, 3]
    assert generate._fill_gaps([]) == []


def test_the_best_token_in_two_rounds_is_the_first_of_the_largest():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 1024, generator=draw)
    logits[0, [300, 700]] = 9.0
    logits[1, [301, 302]] = 9.0
    logits[2] = float("-inf")
    logits[2, 3] = 0.0
    assert decode.best(logits).tolist() == logits.argmax(-1).tolist()
    assert decode.best(logits)[:3].tolist() == [300, 301, 3]
    odd = torch.randn(3, 1001, generator=draw)
    assert decode.best(odd).tolist() == odd.argmax(-1).tolist()
