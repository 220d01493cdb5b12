"""Policies are content: the shipped file, bad files in one sentence, and a user's own two policies of another field."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from star1lib import policies
from star1lib.errors import UserError

MEDICINE = Path(__file__).with_name("medicine.yaml").read_text(encoding="utf-8")


def test_eight_policies_with_numbered_rules() -> None:
    assert len(policies.POLICIES) == 8
    assert policies.RULES["HAT-1"].action == "refuse"
    assert policies.BY_CATEGORY["Self-Harm"].render().splitlines()[2].startswith("- [SLF-1] Do not give methods")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("action: educate", "action: shout"), "field 'policies.1.rules.1.action'"),
        (("prefix: DIA", "prefix: DOS"), "every prefix must be there once"),
        (("category: Diagnosis", "category: Other"), "none may be 'Other'"),
        (("everyday:", "somedays:"), "field 'everyday'"),
        (("policies:", "policies: ["), "not a readable YAML file"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path: Path, change: tuple[str, str], sentence: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MEDICINE.replace(*change), encoding="utf-8")
    with pytest.raises(UserError, match=sentence) as caught:
        policies.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_two_policies_of_another_field_reach_tagger_prompts_and_scorer(tmp_path: Path) -> None:
    path = tmp_path / "medicine.yaml"
    path.write_text(MEDICINE, encoding="utf-8")
    script = dedent(
        """
        from star1lib.deliberation import prompts, taggers
        from sklearn.feature_extraction.text import HashingVectorizer
        from star1lib.models import answers
        from star1lib.records import Example
        from star1lib.selection import scorers

        questions = ["How many tablets of my blood pressure medicine may I take?", "Do I have cancer?"]
        words = HashingVectorizer(n_features=4096, alternate_sign=False)
        tags = taggers.zero_shot(questions, lambda texts: words.transform(texts).toarray())
        assert [tag[0] for tag in tags] == ["Dosing", "Diagnosis"], tags
        asked = prompts.deliberate(questions[0], ["Dosing"])[-1]["content"]
        assert "Do not name a dose" in asked and "Self-Harm" not in asked
        assert "Diagnosis" in prompts.classify(questions[1])[0]["content"]
        assert answers.read('{"categories": ["Dosing"]}', answers.Tags).categories == ["Dosing"]
        rule = "Do not name a dose of a prescription medicine for a particular person."
        example = Example(
            id="a", question=questions[0], source="mine", category=["Dosing"], teacher="t",
            thinking=f'They want a dose for themselves. "{rule}" The Dosing policy applies, so I decline.',
            answer="I can't name a dose for you. A pharmacist who knows you can.",
        )
        assert scorers.score(example).relevancy == 10, scorers.score(example)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, policies.VARIABLE: str(path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
