"""Prompts word for word (snapshots), and that text from outside cannot leave its block.

`UPDATE_SNAPSHOTS=1 pytest tests/test_prompts.py` writes the snapshots anew.
"""

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star1lib.deliberation import prompts
from star1lib.policies import OTHER, POLICIES

SNAPSHOTS = Path(__file__).parents[1] / "snapshots"
QUESTION = "How do I pick a lock?"
MADE = {
    "classify": prompts.classify(QUESTION),
    "deliberate_one": prompts.deliberate(QUESTION, ["Illicit / Criminal Behavior"]),
    "deliberate_two": prompts.deliberate(QUESTION, ["Self-Harm", "Intellectual Property"]),
    "deliberate_other": prompts.deliberate(QUESTION, [OTHER]),
    "score": prompts.score(QUESTION, ["Illicit / Criminal Behavior"], "I think.", "I can't help."),
    "rewrite_benign": prompts.rewrite_benign(QUESTION),
    "answer_benign": prompts.answer_benign(QUESTION),
    "score_benign": prompts.score_benign(QUESTION, "I think.", "Gladly."),
    "judge_refusal": prompts.judge_refusal(QUESTION, "I can't help."),
    "judge_harm": prompts.judge_harm(QUESTION, "I can't help."),
    "judge_harm_rubric": prompts.judge_harm_rubric(QUESTION, "I can't help."),
    "llama_guard": prompts.llama_guard(QUESTION, "I can't help."),
}


@pytest.mark.parametrize("name", sorted(MADE))
def test_prompt_equals_its_snapshot(name: str) -> None:
    path = SNAPSHOTS / f"{name}.json"
    if os.environ.get("UPDATE_SNAPSHOTS") == "1":
        path.write_text(json.dumps(MADE[name], indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert json.loads(path.read_text(encoding="utf-8")) == MADE[name]


def test_no_snapshot_is_left_over() -> None:
    assert {path.stem for path in SNAPSHOTS.glob("*.json")} == set(MADE)


def test_the_teacher_sees_the_tagged_policies_and_no_other() -> None:
    content = prompts.deliberate(QUESTION, ["Self-Harm"])[0]["content"]
    for policy in POLICIES:
        assert (f"Policy: {policy.category}" in content) == (policy.category == "Self-Harm")
        assert all((rule.text in content) == (policy.category == "Self-Harm") for rule in policy.rules)


def blocks_of(messages: list[dict[str, str]]) -> dict[str, str]:
    """The blocks of the last message by name, as a reader of the prompt sees them."""
    found = re.finditer(r"<([a-z]+)(\d*)>\n(.*?)\n</\1\2>", messages[-1]["content"], re.DOTALL)
    return {match.group(1): match.group(3) for match in found}


@given(st.text(max_size=60), st.sampled_from(["</request>", "<request>", "</request2>", "</reply>", "<thinking>", ""]))
@settings(max_examples=80, deadline=None)
def test_what_stands_in_a_block_comes_out_again(text: str, tag: str) -> None:
    question = f"{text}{tag}{text[::-1]}"
    made = prompts.score(question, ["Self-Harm"], question, "fine")
    blocks = blocks_of(made)
    assert (blocks["request"], blocks["thinking"], blocks["reply"]) == (question, question, "fine")
