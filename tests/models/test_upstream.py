"""The authors' prompts come off the user's own checkout, whole and unchanged, or not at all."""

from __future__ import annotations

import hashlib
import os

import made
import pytest
from faultserver import FaultServer, completion

from star1lib.deliberation import prompts, taggers, teachers
from star1lib.errors import UserError
from star1lib.models import roles, upstream
from star1lib.models.answers import Unreadable
from star1lib.policies import CATEGORIES, OTHER
from star1lib.records import Question, Scores
from star1lib.selection import scorers

SCORED = ('Here:\n```json\n{"Content_Safety_Compliance": 10, "Relevancy_and_No_Redundant_Content": 9, '
          '"Accuracy_of_Thinking_Process": 8,\n}\n```')  # fmt: skip


@pytest.fixture
def release(tmp_path, monkeypatch):
    """A file of prompts of our own in the release's form, and its hash for the pinned one."""
    names = "\n".join(f'{name} = """rules of {name}"""' for name in upstream._POLICIES.values())
    text = f'''raise SystemExit("never run")
{names}
CATEGORY_DEFINITION = "the categories"
COT_PROMPT_TEMPLATE = "an older one: {{prompt}}"
CLASSIFICATION_PROMPT_TEMPLATE = "Sort {{instruction}} by {{category_definitions}}"
COT_PROMPT_TEMPLATE = """Answer {{instruction}} by {{related_policies}}"""
SCORER_PROMPT_TEMPLATE = "Rate {{instruction}}|{{cot}}|{{response}}|{{related_policies}}|{{format_example}}"
SCORER_FORMAT_EXAMPLE = '{{"a": X}}'
'''
    (tmp_path / "prompt.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(upstream, "SHA256", hashlib.sha256(text.encode()).hexdigest())
    upstream.texts.cache_clear()
    yield str(tmp_path)
    upstream.texts.cache_clear()


def role(name, release, **more):
    return {name: {"model": "openai-api/test/m", "prompts": "upstream", "upstream": release, **more}}


def test_prompts_are_filled_in_and_braces_of_a_question_stay(release):
    asked = "Why {instruction}?"
    said = [
        prompts.classify(asked, release),
        prompts.deliberate(asked, ["Self-Harm", "Sexual / Adult"], release),
        prompts.score(asked, ["Self-Harm"], "{cot}", "No.", release),
    ]
    assert [messages[0]["content"] for messages in said] == [
        "Sort Why {instruction}? by the categories",
        "Answer Why {instruction}? by rules of POLICY_SELF_HARM\n---\nrules of POLICY_SEXUAL",
        'Rate Why {instruction}?|{cot}|No.|rules of POLICY_SELF_HARM|{"a": X}',
    ]
    assert all([message["role"] for message in messages] == ["user"] for messages in said)
    bare = [{"role": "user", "content": asked}]
    assert prompts.deliberate(asked, [OTHER], release) == prompts.answer_benign(asked, release) == bare
    assert set(upstream._POLICIES) == set(CATEGORIES)
    with pytest.raises(UserError, match="no policy 'Cookery'"):
        prompts.deliberate(asked, ["Cookery"], release)


def test_a_missing_or_changed_file_is_one_sentence_before_any_work(release, tmp_path):
    roles.load(role("teacher", release))
    with pytest.raises(UserError, match=r"are not there; clone .*UCSC-VLAA/STAR-1, check out b493335"):
        roles.load(role("teacher", str(tmp_path / "elsewhere")))
    (tmp_path / "prompt.py").write_text("COT_PROMPT_TEMPLATE = 'mine'", encoding="utf-8")
    upstream.texts.cache_clear()
    with pytest.raises(UserError, match="not the file of commit b493335"):
        roles.load(role("scorer", release))
    with pytest.raises(UserError, match="'prompts: upstream' is for classifier, teacher, scorer"):
        roles.load(role("refusal_judge", release))


def test_a_model_is_asked_in_their_words_and_read_in_their_forms(release, tmp_path):
    question = Question.make("How can I end my own life?", "A")
    example = made.example(question.text, thinking="Hm.", answer="No.")
    replies = {
        prompts.classify(question.text, release)[0]["content"]: completion({"content": '["self-harm"]'}),
        prompts.deliberate(question.text, ["Self-Harm"], release)[0]["content"]: completion(
            {"content": "<think>\nhm\n</think>\n\nNo."}
        ),
        prompts.score(question.text, ["Self-Harm"], "Hm.", "No.", release)[0]["content"]: completion(
            {"content": SCORED}
        ),
    }
    with FaultServer(replies=replies) as server:
        played = {name: roles.load(role(name, release, base_url=server.url))[name] for name in upstream.ROLES}
        tagged, _ = taggers.tag_with_model([question], played["classifier"], tmp_path / "c")
        taught, _ = teachers.deliberate_with_model(tagged, played["teacher"], tmp_path / "t")
        scores, _ = scorers.score_with_model([example], played["scorer"], tmp_path / "s")
        assert len(server.calls) == 3
    assert tagged[0].category == ["Self-Harm"] and taught[0].thinking == "hm"
    assert scores == [Scores(compliance=10, relevancy=9, accuracy=8)]


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (upstream.read_tags, "__import__('os')"),
        (upstream.read_tags, '["Cookery"]'),
        (upstream.read_tags, '["Self-Harm"], "category": ["Other"]'),
        (upstream.read_scores, SCORED.replace("10", "11")),
        (upstream.read_scores, SCORED.replace("10", "X")),
        (upstream.read_scores, "fine"),
    ],
)
def test_what_is_not_an_answer_is_unreadable(read, text):
    with pytest.raises(Unreadable):
        read(text)


def test_the_release_itself():
    """With `STAR1_UPSTREAM` naming a checkout of it: every literal that is asked for is there and takes its fields."""
    folder = os.environ.get("STAR1_UPSTREAM")
    if not folder:
        pytest.skip("no checkout of the authors' release: set STAR1_UPSTREAM")
    for messages in (
        prompts.classify("Q1", folder),
        prompts.deliberate("Q1", list(CATEGORIES), folder),
        prompts.score("Q1", list(CATEGORIES), "T1", "A1", folder),
    ):
        assert "Q1" in messages[0]["content"] and "{instruction}" not in messages[0]["content"]
