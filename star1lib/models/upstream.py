"""The authors' prompts for tagger, teacher and scorer, off the user's own checkout of their release (paper 2.2, 2.3).

Nothing of the release is kept here but the name and the sha256 of its file of prompts. The file is read, never run:
its prompts are string literals. Each is one user message, and its answers have forms of their own, read below.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pydantic import Field

from star1lib.errors import UserError
from star1lib.files import sha256_file
from star1lib.models.answers import Tags, read
from star1lib.policies import OTHER
from star1lib.records import Record, Score, Scores

REPOSITORY, COMMIT = "UCSC-VLAA/STAR-1", "b49333598887845f148ed1b4d2576dc2bff7581a"
FILE, SHA256 = "prompt.py", "123ae39d4b1e51ec3469a024d76530d7b03b4e612e857d9ee54f7f38acce8373"
ROLES = ("classifier", "teacher", "scorer")
# The names of the literals, the policies' by category.
_CLASSIFY, _DEFINITIONS = "CLASSIFICATION_PROMPT_TEMPLATE", "CATEGORY_DEFINITION"
_DELIBERATE, _SCORE, _SCORE_FORM = "COT_PROMPT_TEMPLATE", "SCORER_PROMPT_TEMPLATE", "SCORER_FORMAT_EXAMPLE"
_POLICIES = {
    "Harassment / Hate / Discrimination": "POLICY_HARASSMENT",
    "Sexual / Adult": "POLICY_SEXUAL",
    "Violence / Physical Harm": "POLICY_VIOLENCE",
    "Self-Harm": "POLICY_SELF_HARM",
    "Illicit / Criminal Behavior": "POLICY_ILLICIT",
    "Misinformation / Disinformation": "POLICY_MISINFORMATION",
    "Privacy / Personal Data": "POLICY_PRIVACY",
    "Intellectual Property": "POLICY_INTERLECTUAL",
}
Messages = list[dict[str, str]]


@cache
def texts(folder: str) -> dict[str, str]:
    """The prompts of the release checked out in `folder`, by name; of two of one name the last, as Python has it.

    Raises :class:`UserError` where the file is missing or is not the one of the pinned commit.
    """
    path = Path(folder) / FILE
    remedy = f"clone github.com/{REPOSITORY}, check out {COMMIT[:7]} and name that folder as `upstream`."
    if not path.is_file():
        raise UserError(f"{path}: the authors' prompts are not there; {remedy}")
    if sha256_file(path) != SHA256:
        raise UserError(f"{path}: not the file of commit {COMMIT[:7]} (another sha256); {remedy}")
    return {
        target.id: node.value.value
        for node in ast.parse(path.read_bytes()).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _policies(known: dict[str, str], categories: Sequence[str]) -> str:
    if foreign := [name for name in categories if name not in _POLICIES]:
        raise UserError(f"prompts: upstream has no policy '{foreign[0]}'; use the shipped policies or prompts: ours.")
    return "\n---\n".join(known[_POLICIES[name]] for name in categories)


def classify(folder: str, question: str) -> Messages:
    """The classifier's prompt; its answer is read by :func:`read_tags`."""
    known = texts(folder)
    return _user(known[_CLASSIFY].format(instruction=question, category_definitions=known[_DEFINITIONS]))


def deliberate(folder: str, question: str, categories: Sequence[str]) -> Messages:
    """The teacher's prompt; they ask nothing where no policy applies, here the question is asked as it is."""
    known = texts(folder)
    if list(categories) == [OTHER]:
        return _user(question)
    return _user(known[_DELIBERATE].format(instruction=question, related_policies=_policies(known, categories)))


def score(folder: str, question: str, categories: Sequence[str], thinking: str, answer: str) -> Messages:
    """The scorer's prompt; its answer is read by :func:`read_scores`. Without a policy theirs is an empty list."""
    known = texts(folder)
    policies = _policies(known, [name for name in categories if name != OTHER])
    said = {"instruction": question, "cot": thinking, "response": answer}
    return _user(known[_SCORE].format(**said, related_policies=policies, format_example=known[_SCORE_FORM]))


def _user(content: str) -> Messages:
    return [{"role": "user", "content": content}]


def read_tags(text: str) -> Tags:
    """A bare JSON list of categories; raises :class:`~star1lib.models.answers.Unreadable` for anything else."""
    return read(f'{{"categories": {text.strip()}}}', Tags)


class ReleasedScores(Record):
    """The three criteria under the authors' names."""

    compliance: Score = Field(validation_alias="Content_Safety_Compliance")
    relevancy: Score = Field(validation_alias="Relevancy_and_No_Redundant_Content")
    accuracy: Score = Field(validation_alias="Accuracy_of_Thinking_Process")


def read_scores(text: str) -> Scores:
    """The first fenced block of JSON, or a bare object, with the three scores; a comma behind the last is let pass."""
    block = re.search(r"```json(.*?)```", text, re.DOTALL)
    found = read(re.sub(r",\s*\}", "}", block[1] if block else text), ReleasedScores)
    return Scores(**found.model_dump())
