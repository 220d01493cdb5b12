"""Taggers: on a tiny fake encoder, on the real embedder, on the published tags, and as a role."""

import json
import zlib

import numpy as np
import pytest
from faultserver import FaultServer, completion

from star1lib.deliberation import prompts
from star1lib.deliberation import taggers as tagging
from star1lib.errors import UserError
from star1lib.models import embed
from star1lib.models.roles import Role
from star1lib.policies import CATEGORIES, OTHER
from star1lib.records import Question


def encode(texts):
    """Words hashed into 4,096 places: alike when words are shared."""
    rows = np.zeros((len(texts), 4096), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        for word in text.lower().split():
            row[zlib.crc32(word.strip(".,?").encode()) % 4096] += 1
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def test_phrases_are_the_parts_of_a_definition() -> None:
    assert tagging.phrases("Theft, fraud and scams, or forgery.") == ["Theft", "fraud", "scams", "forgery"]


def test_the_best_category_and_those_close_to_it_above_the_floor() -> None:
    scores = np.full((4, 8), 0.1)
    scores[:3, 2] = 0.5
    scores[1, 4] = 0.47
    scores[2, 4] = 0.52
    lists = tagging.names_of(scores, np.array([False, False, True, False]))
    assert lists == [[CATEGORIES[2]], [CATEGORIES[2], CATEGORIES[4]], [OTHER], [CATEGORIES[0]]]


def test_tag_keeps_ids_sources_and_order(monkeypatch) -> None:
    monkeypatch.setattr(embed, "encode", encode)
    questions = [Question.make("how to kill or hurt someone", "A"), Question.make("selling counterfeit goods", "B")]
    tagged = tagging.tag(questions)
    assert [(row.id, row.question, row.source) for row in tagged] == [(q.id, q.text, q.source) for q in questions]
    assert tagged[0].category[0] == "Violence / Physical Harm" and tagging.tag([]) == []


def test_fitted_learns_and_names_other_alone() -> None:
    texts = ["steal a car", "rob a bank", "steal money", "hide a crime"] * 3 + ["bake a cake", "cook rice"] * 3
    tags = [["Illicit / Criminal Behavior"]] * 12 + [[OTHER]] * 6
    predict = tagging.fitted(texts, tags, encode)
    assert predict(["steal a bank", "bake rice"]) == [["Illicit / Criminal Behavior"], [OTHER]]
    assert predict([]) == []
    with pytest.raises(UserError, match="two categories"):
        tagging.fitted(["a"], [["Self-Harm"]], encode)


def test_real_embedder_on_plain_questions() -> None:
    questions = [
        "How can I end my own life?",
        "Where can I download the film for free without paying the studio?",
        "Write an insulting post about immigrants.",
        "What is a good recipe for lentil soup?",
    ]
    found = tagging.zero_shot(questions, embed.encode)
    assert "Self-Harm" in found[0] and "Intellectual Property" in found[1]
    assert "Harassment / Hate / Discrimination" in found[2] and found[3] == [OTHER]


def test_published_tags_on_a_held_out_half(mirror) -> None:
    """Zero-shot and fitted agreement with GPT-4o's tags; the bar is 0.70 on rows not learnt from."""
    rows = json.loads((mirror / "star1" / "STAR-1.json").read_text(encoding="utf-8"))[::2]
    learn, report = tagging.halves([row["id"] for row in rows])
    (known, tags), (held_out, gold) = (
        ([rows[i]["question"] for i in half], [rows[i]["category"] for i in half]) for half in (learn, report)
    )
    for guess, bar in (
        (tagging.zero_shot(held_out, embed.encode), 0.65),
        (tagging.fitted(known, tags, embed.encode)(held_out), 0.72),
    ):
        assert tagging.tagger_table(gold, guess)[-2]["f1"] >= bar


def test_a_model_tags(tmp_path) -> None:
    questions = [Question.make(text, "A") for text in ("How can I end my own life?", "How do I bake bread?", "Hm?")]
    asked = [prompts.classify(question.text)[-1]["content"] for question in questions]
    replies = {
        asked[0]: completion({"content": '{"categories": ["self-harm"]}'}),
        asked[1]: completion({"content": '```json\n{"categories": ["Other"]}\n```'}),
    }
    with FaultServer(replies=replies) as server:
        role = Role(name="classifier", model="openai-api/test/m", base_url=server.url)
        tagged, errors = tagging.tag_with_model(questions, role, tmp_path)
        assert len(server.calls) == 4  # the unreadable one twice
    assert [(row.id, row.category) for row in tagged] == [
        (questions[0].id, ["Self-Harm"]),
        (questions[1].id, [OTHER]),
    ]
    assert [row.id for row in errors] == [questions[2].id]
