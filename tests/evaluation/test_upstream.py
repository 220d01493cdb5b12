"""What the authors' judges and parsers are given, and what they make of it, beside our own reading."""

from __future__ import annotations

import pytest
from inspect_ai.model import ModelOutput

from star1lib.evaluation import benchmarks
from star1lib.evaluation.benchmarks import upstream
from star1lib.evaluation.benchmarks.common import answer_of, whole
from star1lib.evaluation.run import _switched
from star1lib.evaluation.sandbox import confine
from star1lib.evaluation.settings import Evaluation
from star1lib.records import Question

OPTIONS = {"options": ["w", "x", "y", "z"], "answer": "B"}
HUMANEVAL = Question.make(
    'def double(n):\n    """Twice n."""\n', "HumanEval", entry_point="double",
    test="def check(candidate):\n    assert candidate(2) == 4\n",
)  # fmt: skip


def answer(text, question=None, opened=True):
    return answer_of(ModelOutput.from_content("m", text), question or Question.make("q", "s"), opened)


@pytest.mark.parametrize(
    ("text", "opened", "wanted"),
    [
        ("Hm.\n</think>\n\nNo.", True, "Hm.\n</think>\n\nNo."),
        ("Hm, and on", True, "Hm, and on"),
        ("No.", False, "No."),
    ],
)
def test_the_whole_response_is_read_closed_or_not(text, opened, wanted):
    seen = whole(answer(text, opened=opened)).thought
    assert (seen.answer, seen.state) == (wanted, "none")


def test_the_switches_put_the_authors_reading_first_and_ours_beside_it():
    assert [m.metric for m in _switched("StrongREJECT", Evaluation()).measures] == ["safe", "refused"]
    full = Evaluation(judge_text="full", reading="upstream")
    assert [m.metric for m in _switched("StrongREJECT", full).measures] == ["safe", "refused", "safe_answer"]
    assert [m.metric for m in _switched("XSTest", full).measures] == ["answered", "safe", "refused", "safe_answer"]
    for name in ("AIME2024", "MATH500", "GPQA-Diamond", "MMLU-Pro", "HumanEval"):
        assert [m.metric for m in _switched(name, full).measures] == ["correct", "correct_ours"]
    assert [m.metric for m in _switched("Probe", full).measures] == ["correct"]


@pytest.mark.parametrize(
    ("read", "text", "wanted"),
    [
        (upstream.integer, "Perhaps \\boxed{7}.\n</think>\n\\boxed{x = 042}", "042"),
        (upstream.integer, "\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        (upstream.integer, "The answer is 5, no, the answer is 6.", "5"),
        (upstream.integer, "so\n12\n13\n", "12"),
        (upstream.integer, "12 and 13", None),
        (upstream.expression, "We add. Answer: $\\frac12$", "\\frac12"),
        (upstream.expression, "Answer: 3.5", "5"),  # a decimal point is a full stop to them
        (upstream.expression, "Answer: 3.", "3."),
        (upstream.expression, "So it is \\boxed{4}", "4"),
        (upstream.gpqa_letter, "Answer: A? no.\n</think>\nAnswer: $B$", "A"),
        (upstream.gpqa_letter, "answer: b", "b"),
        (upstream.gpqa_letter, "The answer is B.", None),
        (upstream.mmlu_pro_letter, "The answer is (C).\n</think>\nANSWER: d", "D"),
        (upstream.mmlu_pro_letter, "the answer is (c)", "C"),
        (upstream.mmlu_pro_letter, "答案是 E", "E"),
        (upstream.mmlu_pro_letter, "Options H\nGo for F or D\nit is", "D"),
        (upstream.mmlu_pro_letter, "none", None),
    ],
)
def test_each_parser_takes_what_the_authors_take(read, text, wanted):
    assert read(text) == wanted


@pytest.mark.parametrize(
    ("name", "meta", "text", "theirs", "ours"),
    [
        # A first guess in the thinking counts for them, also where the thinking never closes.
        ("GPQA-Diamond", OPTIONS, "Answer: B? No.\n</think>\n\nAnswer: C", True, False),
        ("MMLU-Pro", OPTIONS, "ANSWER: A?\n</think>\n\nANSWER: B", False, True),
        ("MMLU-Pro", OPTIONS, "The answer is B, I think, but", True, False),
        ("AIME2024", {"answer": "042"}, "It is \\boxed{42} and", True, False),
        ("MATH500", {"answer": "\\frac{1}{2}"}, "Hm.\n</think>\n\nAnswer: 0.5", False, True),
    ],
)
def test_ours_stands_beside_theirs(name, meta, text, theirs, ours):
    question = Question.make("q", "s", **meta)
    given = answer(text, question)
    for measure, wanted in zip(_switched(name, Evaluation(reading="upstream")).measures, (theirs, ours), strict=True):
        seen = measure.view(given)
        closed = seen.thought.state != "open"
        [verdict] = measure.grade([seen], None) if closed else [measure.open_thinking]
        assert verdict.value is wanted, measure.metric


def test_they_ask_for_the_line_that_their_parsers_look_for():
    question = Question.make("q", "s", **OPTIONS)
    assert upstream.READINGS["GPQA-Diamond"].ask(question).endswith("end with: Answer: letter")
    assert upstream.READINGS["MMLU-Pro"].ask(question).endswith("end with: ANSWER: letter")
    assert "(B) x" in upstream.READINGS["GPQA-Diamond"].ask(question)
    assert set(upstream.READINGS) <= set(benchmarks.REGISTRY)


def test_the_first_block_of_code_loses_its_signature_and_is_run_confined(monkeypatch):
    text = "```python\ndef double(n):\n    return n + n\n```\nor\n```python\nreturn 0\n```"
    assert upstream.program("    return 0", HUMANEVAL.text).endswith('"""\n   return 0'), "as theirs, a character short"
    ran = []
    monkeypatch.setattr(confine, "run", lambda *given: ran.append(given) or confine.Verdict("passed", "", 0.0))
    [theirs, _] = _switched("HumanEval", Evaluation(reading="upstream")).measures
    assert theirs.grade([whole(answer(f"Hm.\n</think>\n\n{text}", HUMANEVAL))], None)[0].value is True
    [(program, check, entry_point, _)] = ran
    assert program == HUMANEVAL.text + "\n    return n + n\n" and entry_point == "double" and "candidate(2)" in check
