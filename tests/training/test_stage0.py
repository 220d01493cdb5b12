"""Stage 0: sums that are right and none of a test's, the model's own answers, a template that opens the thinking."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from star1lib.evaluation.benchmarks import probe, sums
from star1lib.models import chat, checkpoints, generate
from star1lib.records import Question
from star1lib.safeguards import sexualizes_minor
from star1lib.training import stage0
from star1lib.training.rows import TrainRow
from star1lib.training.sft import TrainConfig


def test_harmless_prompts_are_different_and_many() -> None:
    prompts = stage0.harmless()
    assert len(set(prompts)) == len(prompts) > 200
    assert all(prompt == prompt.strip() != "" for prompt in prompts)
    assert not any(map(sexualizes_minor, prompts))


@pytest.mark.parametrize("sign", ["+", "-"])
def test_every_step_of_the_working_is_true(sign: str) -> None:
    for a in range(2, 100):
        for b in range(2, a + 1):
            work, answer = stage0.worked(sign, a, b)
            assert answer == {"+": a + b, "-": a - b}[sign]
            steps = re.findall(r"(\d+) ([+-]) (\d+) = (\d+)", work)
            assert int(steps[-1][3]) == answer
            for left, step, right, result in steps:
                assert {"+": int(left) + int(right), "-": int(left) - int(right)}[step] == int(result)


def test_no_sum_is_one_of_a_benchmark() -> None:
    asked = [*probe.load(), *sums.load()]
    taken = {pair for question in asked if len(pair := stage0.numbers(question.text)) == 2}
    rows = stage0.arithmetic(200, 0, taken)
    pairs = {tuple(sorted(stage0.numbers(row.prompt))) for row in rows}
    assert not pairs & {tuple(sorted(pair)) for pair in taken}
    assert len({row.id for row in rows}) == 200
    assert rows == stage0.arithmetic(200, 0, taken) != stage0.arithmetic(200, 1, taken)
    assert {row.source for row in rows} == {stage0.ARITHMETIC}


def test_own_answers_end_with_a_sentence_and_are_kept(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = checkpoints.load_tokenizer(small)
    said = ["A cat purrs. It is hap", "no end at all", "1. One\n2. Two"]

    def answer(net: object, prompts: list[list[int]], *_: object, **__: object) -> list[generate.Generation]:
        tokens = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in said]
        return [generate.Generation(ids, "max_tokens", 3) for ids in tokens]

    monkeypatch.setattr(generate, "generate", answer)
    [row] = stage0.own_answers(small, ["Why?", "How?", "Name two."], tmp_path)
    assert (row.prompt, row.completion, row.source, row.kind) == ("Why?", "A cat purrs.", stage0.OWN, stage0.ANCHOR)
    monkeypatch.setattr(generate, "generate", None)
    assert stage0.own_answers(small, ["Why?", "How?", "Name two."], tmp_path) == [row]
    thoughtful = stage0.with_thought(row)
    assert thoughtful.completion == "<think>\nThe user says: Why? I will answer that.\n</think>\n\nA cat purrs."


def test_a_trace_of_another_hand_begins_as_the_toy_models_own_thinking() -> None:
    row = TrainRow(id="a", prompt="Why?", completion="<think>\nIt harms.\n</think>\n\nNo.", source="s", kind="safety")
    begun = "<think>\nThe user says: Why? I check that against the policies. It harms.\n</think>\n\nNo."
    assert stage0.in_its_words(row).completion == begun


def test_more_sums_are_neither_of_stage_0_nor_of_a_test() -> None:
    settings = stage0.Settings(arithmetic=40, own=0)
    asked = stage0.more_sums(30, settings, 0, sums.load())
    pairs = {tuple(sorted(stage0.numbers(text))) for text in asked}
    seen = stage0.arithmetic(40, 0, {stage0.numbers(question.text) for question in sums.load()})
    taken = [*(row.prompt for row in seen), *(question.text for question in sums.load())]
    assert len(set(asked)) == 30
    assert not pairs & {tuple(sorted(stage0.numbers(text))) for text in taken}


def test_the_reasoner_opens_its_thinking_and_is_made_once(small: str, tmp_path: Path) -> None:
    config = TrainConfig(epochs=1, learning_rate=1e-3, batch_size=2, max_length=96, dtype="float32", votes="token")
    settings = stage0.Settings(arithmetic=4, own=0)
    tests = [Question.make("What is 5 + 6?", "test")]
    checkpoint = stage0.reasoner(small, settings, [], tests, tmp_path, config)
    tokenizer = checkpoints.load_tokenizer(str(checkpoint))
    assert chat.opens_thinking(tokenizer)
    asked = [{"role": "user", "content": "x"}]
    plain = checkpoints.load_tokenizer(small)
    assert chat.prompt_tokens(tokenizer, asked, thinking=True) == chat.prompt_tokens(plain, asked, thinking=True)
    assert stage0.reasoner(small, settings, [], tests, tmp_path, config) == checkpoint


def test_the_benchmark_of_sums_has_right_answers() -> None:
    questions = sums.load()
    assert len({question.id for question in questions}) == sums.SIZE
    for question in questions:
        b, a = sorted(stage0.numbers(question.text))
        assert question.meta["answer"] in (a + b, a - b)
        assert b >= 11
