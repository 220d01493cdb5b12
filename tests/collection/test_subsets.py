"""The exported subsets on rows whose nested fields changed."""

from __future__ import annotations

from typing import Any

import pytest

from star1lib.collection import subsets
from star1lib.errors import UserError

MODERATION = {"flagged": True, "categories": {"hate": True}, "category_scores": {"hate": 0.5}}
ROW: dict[str, Any] = {
    "conversation": [{"content": "a question"}],
    "toxic": True,
    "turn": 1,
    "language": "English",
    "openai_moderation": [MODERATION],
    "conversation_hash": "h",
}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"openai_moderation": []}, "field 'openai_moderation' is empty"),
        ({"openai_moderation": [{"categories": {}}]}, "no field 'flagged'"),
        ({"openai_moderation": [{**MODERATION, "category_scores": {}}]}, "field 'category_scores' is empty"),
        ({"openai_moderation": [{"flagged": True, "category_scores": {"hate": 1}}]}, "no field 'categories'"),
        ({"conversation": []}, "field 'conversation' is empty"),
        ({"conversation": [{"text": "x"}]}, "no field 'content'"),
    ],
)
def test_a_changed_nested_field_is_one_sentence(change: dict[str, Any], sentence: str) -> None:
    assert len(subsets.wildchat([ROW]).rows) == 1
    with pytest.raises(UserError, match=f"WildChat, row 2: {sentence}"):
        subsets.wildchat([ROW, {**ROW, **change}])
