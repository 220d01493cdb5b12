"""Every prompt of the method, one pure function per role (paper 2.2, 2.3, 4.3 and appendix E).

The texts are `assets/prompts.yaml`. Each function returns a list of chat messages. Text that comes from outside stands
between markers that do not occur in it, so a question cannot close its own block and speak with our voice. With a
`release` (:attr:`star1lib.models.roles.Role.release`) classifier, teacher and scorer are asked with the authors' own
prompts (:mod:`star1lib.models.upstream`).
"""

from __future__ import annotations

from collections.abc import Sequence
from string import Template

from star1lib.files import asset
from star1lib.models import upstream
from star1lib.policies import OTHER, POLICIES, render

Messages = list[dict[str, str]]
_TEXTS = asset("prompts.yaml")


def _asked(name: str, *, topics: str = "", **blocks: str) -> Messages:
    """The messages of prompt `name` with its blocks filled in."""
    given = {"topics": topics, "other": OTHER, "only": _TEXTS["only"]}
    given |= {tag: _block(tag, text) for tag, text in blocks.items()}
    return [{"role": role, "content": Template(text).substitute(given)} for role, text in _TEXTS[name].items()]


def _block(name: str, text: str) -> str:
    """`text` between tags; the tag gets a number when the text itself contains it."""
    tag, number = name, 1
    while f"<{tag}>" in text or f"</{tag}>" in text:
        number += 1
        tag = f"{name}{number}"
    return f"<{tag}>\n{text}\n</{tag}>"


def classify(question: str, release: str | None = None) -> Messages:
    """Classifier (2.2): which of the eight categories does the question touch? Answer: `{"categories": [...]}`."""
    if release is not None:
        return upstream.classify(release, question)
    topics = "\n".join(f"- {policy.category}: {policy.definition}" for policy in POLICIES)
    return _asked("classify", topics=topics, instruction=question)


def deliberate(question: str, categories: Sequence[str], release: str | None = None) -> Messages:
    """Teacher (2.2): think over the policies of `categories` only, then answer the question.

    One user message, since reasoning teachers are used without a system prompt. `Other` has no policy.
    """
    if release is not None:
        return upstream.deliberate(release, question, categories)
    rules = render(list(categories))
    return _asked("deliberate", policies=rules, request=question) if rules else _bare(question)


def _bare(question: str) -> Messages:
    return [{"role": "user", "content": question}]


def score(question: str, category: Sequence[str], thinking: str, answer: str, release: str | None = None) -> Messages:
    """Scorer (2.3): three criteria from 0 to 10 with anchors. Answer: the keys of `Scores`."""
    if release is not None:
        return upstream.score(release, question, category, thinking, answer)
    rules = render(list(category)) or "No policy applies: the request is harmless and should be answered well."
    return _asked("score", policies=rules, request=question, thinking=thinking, reply=answer)


def rewrite_benign(question: str) -> Messages:
    """Benign rewriter (4.3): the same surface with a harmless purpose. Answer: `{"question": "..."}`."""
    return _asked("rewrite_benign", request=question)


def answer_benign(question: str, release: str | None = None) -> Messages:
    """Teacher for a benign variant (4.3): think about what is meant, then help in full; the authors ask it as it is."""
    return _asked("answer_benign", request=question) if release is None else _bare(question)


def score_benign(question: str, thinking: str, answer: str) -> Messages:
    """Benign scorer (4.3): safety, quality and compliance from 1 to 5. Answer: those three keys."""
    return _asked("score_benign", request=question, thinking=thinking, reply=answer)


def judge_refusal(prompt: str, response: str) -> Messages:
    """Refusal judge (3.2, 4.3): full compliance, partial refusal or full refusal. Answer: `{"label": "..."}`."""
    return _asked("judge_refusal", request=prompt, reply=response)


def judge_harm(prompt: str, response: str) -> Messages:
    """Harm judge for a general model (3.2): would the reply help to do harm? Answer: `{"harmful": true|false}`."""
    topics = ", ".join(policy.category for policy in POLICIES)
    return _asked("judge_harm", topics=topics, request=prompt, reply=response)


def judge_harm_rubric(prompt: str, response: str) -> Messages:
    """Harm judge with grades: 1 nothing harmful to 5 full, specific harm. Answer: `{"score": n}`."""
    return _asked("judge_harm_rubric", request=prompt, reply=response)


def llama_guard(prompt: str, response: str) -> Messages:
    """Llama-Guard (3.2): the exchange as it is, since the guard's chat template adds its own instructions."""
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
