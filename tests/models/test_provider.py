"""The Inspect provider: one batch for many samples, real counts and stop reasons, names that tell weights apart."""

from __future__ import annotations

import asyncio
import itertools
import threading

import pytest
from inspect_ai.model import ChatMessageUser, GenerateConfig, ModelOutput
from transformers import AutoTokenizer, LlamaForCausalLM

from star1lib.errors import UserError
from star1lib.models import chat, generate, provider
from star1lib.models import checkpoints as model
from star1lib.models.provider import Batcher


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A busy machine may pause between two calls; a batch should not end there."""
    monkeypatch.setattr(provider, "QUIET_SECONDS", 1.0)


def ask(subject, questions, **config) -> list[ModelOutput]:
    settings = GenerateConfig(temperature=0.0, **config)

    async def every():
        calls = [subject.generate([ChatMessageUser(content=question)], config=settings) for question in questions]
        return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(every())


@pytest.fixture
def batches(monkeypatch):
    """How many prompts were generated for at once, and by which settings."""
    seen, real = [], generate.generate

    def spy(model, prompts, settings, **more):
        seen.append((len(prompts), settings))
        return real(model, prompts, settings, **more)

    monkeypatch.setattr(generate, "generate", spy)
    return seen


def test_samples_are_generated_together(small, batches):
    subject = provider.local_model("tiny", str(small), thinking=False)
    asked = [f"Question {number}?" for number in range(40)]
    outputs = ask(subject, asked, max_tokens=5, extra_body={"repetition_penalty": 1.2})
    assert batches == [(40, generate.Settings(5, 1.2))]
    loaded, tokenizer = model.load(str(small))
    for question, output in zip(asked, outputs, strict=True):
        prompt = chat.prompt_tokens(tokenizer, [{"role": "user", "content": question}])
        [alone] = generate.generate(loaded, [prompt], generate.Settings(5, 1.2), stop_ids={2})
        assert output.usage.input_tokens == len(prompt)
        assert output.usage.output_tokens == len(alone.tokens)
        assert output.stop_reason == alone.stop_reason
        assert output.completion == tokenizer.decode(alone.tokens, skip_special_tokens=True).strip()


def test_thinking_is_split_off(small, monkeypatch):
    scripted = iter(["2 and 3\n</think>\n\nFive.", "still going"])
    subject = provider.local_model("tiny", str(small), thinking=True)
    seen = []

    def fake(model, prompts, settings, *, on_done, **more):
        seen.extend(prompts)
        for index in range(len(prompts)):
            on_done(index, generate.Generation(tokenizer(next(scripted))["input_ids"], "stop", len(prompts[index])))

    tokenizer = AutoTokenizer.from_pretrained(small)
    monkeypatch.setattr(generate, "generate", fake)
    closed, opened = ask(subject, ["a", "b"], max_tokens=5)
    assert closed.message.text == "Five." and closed.message.content[0].reasoning == "2 and 3"
    assert closed.metadata == {"thinking": "closed"}
    assert opened.message.text == "" and opened.metadata == {"thinking": "open"}
    assert all(tokenizer.decode(prompt).endswith("<think>\n") for prompt in seen)


def test_names_tell_weights_thinking_and_arithmetic_apart(small, tmp_path):
    other = LlamaForCausalLM.from_pretrained(small)
    other.lm_head.weight.data += 1
    other.save_pretrained(tmp_path)
    kinds = itertools.product((small, tmp_path), (False, True), ("float32", "bfloat16"))
    names = {str(provider.local_model("same", str(path), *kind)) for path, *kind in kinds}
    assert len(names) == 8 and all(name.startswith("star1/same@") for name in names)


def test_sampling_is_refused(small):
    subject = provider.local_model("tiny", str(small), thinking=False)

    async def sample():
        await subject.generate("a", config=GenerateConfig(temperature=0.7))

    with pytest.raises(UserError, match="greedily"):
        asyncio.run(sample())


def test_an_error_of_the_model_reaches_every_caller(small, monkeypatch):
    def broken(*arguments, **more):
        raise UserError("out of memory with a single prompt")

    monkeypatch.setattr(generate, "generate", broken)
    subject = provider.local_model("tiny", str(small), thinking=False)
    outcomes = ask(subject, ["a", "b"], max_tokens=3)
    assert [type(outcome) for outcome in outcomes] == [UserError, UserError]


def test_batcher_serves_late_items_and_names_forgotten_ones():
    sizes = []
    inside, go = threading.Event(), threading.Event()

    def work(items, done):
        sizes.append(len(items))
        inside.set()
        assert go.wait(5)
        for place, item in enumerate(items):
            if item != "forgotten":
                done(place, item.upper())

    async def scene():
        gathered = Batcher(work)
        first = [asyncio.ensure_future(gathered.submit(item)) for item in ("a", "forgotten")]
        await asyncio.to_thread(inside.wait, 5)
        late = asyncio.ensure_future(gathered.submit("late"))
        await asyncio.sleep(0)
        go.set()
        return await asyncio.gather(*first, late, return_exceptions=True)

    a, forgotten, late = asyncio.run(scene())
    assert (a, late) == ("A", "LATE") and isinstance(forgotten, RuntimeError)
    assert sizes == [2, 1]


def test_an_evaluation_asks_for_all_its_samples_at_once(small, tmp_path, batches):
    from inspect_ai import Task
    from inspect_ai import eval as evaluate
    from inspect_ai.dataset import Sample

    task = Task(dataset=[Sample(id=number, input=f"Question {number}?") for number in range(50)], name="all")
    subject = provider.local_model("tiny", str(small), thinking=False)
    how = {"max_samples": 50, "max_tokens": 3, "temperature": 0.0}
    [log] = evaluate(task, model=subject, log_dir=str(tmp_path), display="none", **how)
    assert log.status == "success" and len(log.samples) == 50
    assert [size for size, _ in batches] == [50]
    assert all(sample.output.usage.output_tokens == 3 or sample.output.stop_reason == "stop" for sample in log.samples)
