"""The teacher: the hand-written corpus that names itself a stand-in, and a model."""

import pytest
from faultserver import FaultServer, completion

from star1lib.collection import corpus
from star1lib.deliberation import prompts
from star1lib.deliberation import teachers as standins
from star1lib.models.roles import Role
from star1lib.records import Tagged
from star1lib.selection import benign


@pytest.fixture(scope="module")
def written():
    return corpus.load()


def tagged(row):
    return Tagged(id=row.id, question=row.question, source="A", category=row.category)


def test_deliberate_looks_up_traces_and_lists_what_is_missing(written) -> None:
    rows = [next(row for row in written.harmful if row.flawed), next(row for row in written.harmful if not row.flawed)]
    unknown = Tagged(id="0" * 16, question="Who?", source="A", category=["Other"])
    examples, missing = standins.deliberate([tagged(rows[0]), unknown, tagged(rows[1])], written)
    assert missing == [unknown.id]
    assert [e.id for e in examples] == [rows[0].id, rows[0].id, rows[1].id]
    assert [e.meta.get("flaw") for e in examples] == [None, rows[0].flawed.flaw, None]
    assert examples[0].thinking == rows[0].thinking and examples[1].thinking == rows[0].flawed.thinking
    assert examples[0].meta["rules"] == rows[0].rules and examples[0].meta["action"] == rows[0].action
    assert {e.teacher for e in examples} == {"hand-written corpus (stands in for DeepSeek-R1)"}
    other = tagged(rows[0]).model_copy(update={"category": ["Other"]})
    assert standins.deliberate([other], written)[0][0].category == ["Other"]


def test_hand_written_variants_are_scored_and_only_the_best_kept(written) -> None:
    twins = benign.hand_written(written)
    assert len(twins) >= 0.9 * len(written.benign) and len(twins) >= 64
    harmful = {row.id for row in written.harmful}
    assert all(twin.meta["variant_of"] in harmful for twin in twins if twin.meta["variant_of"])
    assert not harmful & {twin.id for twin in twins}


def test_a_model_teaches(written, tmp_path) -> None:
    rows = [tagged(row) for row in written.harmful[:3]]
    asked = [prompts.deliberate(row.question, row.category)[-1]["content"] for row in rows]
    replies = {
        asked[0]: completion({"content": "I decline.", "reasoning_content": "The policy says no."}),
        asked[1]: completion({"content": "<think>\nhm\n</think>\n\nNo."}),
    }
    with FaultServer(replies=replies, plan={asked[2]: ["length"]}) as server:
        examples, errors = standins.deliberate_with_model(
            rows, Role(name="teacher", model="openai-api/test/m", base_url=server.url), tmp_path
        )
    assert [(e.thinking, e.answer) for e in examples] == [("The policy says no.", "I decline."), ("hm", "No.")]
    assert {e.teacher for e in examples} == {"openai-api/test/m"}
    assert [(row.id, row.reason) for row in errors] == [(rows[2].id, "cut_off: cut off (max_tokens)")]
