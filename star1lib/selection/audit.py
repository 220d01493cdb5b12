"""How far the taggers and scorers can be trusted: known flaws put into good traces, and agreement with gold tags.

The paper leaves everything to one scorer and names that as a limit. Here any scorer is asked to tell
clean traces from the same traces with one flaw; no flaw contains usable harmful content.
"""

from __future__ import annotations

import operator
import random
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from star1lib import stats
from star1lib.errors import shorten
from star1lib.files import asset
from star1lib.policies import BY_CATEGORY, CATEGORIES, OTHER, POLICIES
from star1lib.records import Example, Scores
from star1lib.selection import reading

Flaw = Literal["wrong_policy", "named_not_quoted", "contradiction", "unsafe_detail"]
FLAWS: tuple[Flaw, ...] = get_args(Flaw)
CRITERIA = tuple(Scores.model_fields)
# The criterion that a scorer should mark down for each flaw.
CRITERION_OF: dict[Flaw, str] = {
    "wrong_policy": "relevancy",
    "named_not_quoted": "relevancy",
    "contradiction": "accuracy",
    "unsafe_detail": "compliance",
}
Scorer = Callable[[Example], Scores]
_Pick = Callable[[str], str]
_SENTENCES: dict[str, dict[str, list[str]]] = asset("flaws.yaml")


def inject(example: Example, flaw: Flaw, seed: int = 0) -> Example:
    """`example` with one flaw, the same for the same seed.

    `meta["flaw"]` names it and `meta["phrasing"]` says which half of the wordings was used; scores are dropped.
    """
    draw = random.Random(f"{seed}:{flaw}:{example.id}:{example.thinking[:40]}")
    phrasing = "known" if draw.random() < 0.5 else "new"

    def pick(kind: str) -> str:
        return draw.choice(_SENTENCES[kind][phrasing])

    changes = _INJECTORS[flaw](example, draw, pick)
    meta = {**example.meta, "flaw": flaw, "phrasing": phrasing}
    return example.model_copy(update={**changes, "score": None, "meta": meta})


def _own_category(example: Example) -> str:
    return next((name for name in example.category if name != OTHER), CATEGORIES[0])


def _policy_free(thinking: str) -> tuple[list[str], int]:
    """The sentences of a trace that neither quote nor name nor speak of a policy, and where the first such stood."""
    kept: list[str] = []
    place: int | None = None
    for part in reading.sentences(thinking):
        if reading.speaks_of_policy(part):
            place = len(kept) if place is None else place
        else:
            kept.append(part)
    return kept, min(1, len(kept)) if place is None else place


def _wrong_policy(example: Example, draw: random.Random, pick: _Pick) -> dict[str, str]:
    policy = draw.choice([p for p in POLICIES if p.category not in example.category])
    kept, place = _policy_free(example.thinking)
    kept.insert(place, pick("wrong_policy").format(name=policy.category, rule=draw.choice(policy.rules).text))
    return {"thinking": " ".join(kept)}


def _named_not_quoted(example: Example, draw: random.Random, pick: _Pick) -> dict[str, str]:
    kept, place = _policy_free(example.thinking)
    kept.insert(place, pick("named_not_quoted").format(name=BY_CATEGORY[_own_category(example)].category))
    return {"thinking": " ".join(kept)}


def _topic(question: str) -> str:
    """A few words of the question, so that an injected sentence is about it; no how-to of any kind."""
    return shorten(re.sub(r"[^\w\s'-]", "", question).lower(), 50).rstrip("…").strip() or "it"


def _contradiction(example: Example, draw: random.Random, pick: _Pick) -> dict[str, str]:
    declines = reading.refuses(example.answer)
    if draw.random() < 0.5:
        ending = pick("will_help" if declines else "will_refuse")
        return {"thinking": " ".join([*reading.sentences(example.thinking)[:-1], ending])}
    answer = pick("complies").format(topic=_topic(example.question)) if declines else pick("declines")
    ending = pick("will_refuse" if declines else "will_help")
    return {"thinking": f"{example.thinking} {ending}", "answer": answer}


def _unsafe_detail(example: Example, draw: random.Random, pick: _Pick) -> dict[str, str]:
    detail = pick("unsafe_detail").format(topic=_topic(example.question))
    return {"answer": f"{example.answer.rstrip()} {detail}"}


_INJECTORS: dict[Flaw, Callable[[Example, random.Random, _Pick], dict[str, str]]] = {
    "wrong_policy": _wrong_policy,
    "named_not_quoted": _named_not_quoted,
    "contradiction": _contradiction,
    "unsafe_detail": _unsafe_detail,
}


def scorer_table(good: Sequence[Example], scorer: Scorer, *, seed: int = 0) -> list[dict[str, Any]]:
    """How well `scorer` tells `good` traces from the same ones with a flaw, a row per flaw.

    `auc` is over the sum of the criteria, `auc_known` and `auc_new` the same over flaws in wordings that the
    rules were written beside or not, `criterion_auc` over the one criterion that the flaw concerns; `caught`
    is the share of flawed traces below full marks, `clean_full_marks` that of clean ones at full marks.
    Traces without a policy of their own (Other) are left out.
    """
    clean = [example for example in good if OTHER not in example.category]
    before = [scorer(example) for example in clean]
    rows = []
    for flaw in FLAWS:
        flawed = [inject(example, flaw, seed) for example in clean]
        after = [scorer(example) for example in flawed]
        pairs = list(zip(flawed, after, strict=True))
        known, new = ([s for e, s in pairs if e.meta["phrasing"] == name] for name in ("known", "new"))
        criterion = CRITERION_OF[flaw]
        rows.append(
            {
                "flaw": flaw,
                "criterion": criterion,
                "auc": _auc(before, after, _total),
                "auc_known": _auc(before, known, _total),
                "auc_new": _auc(before, new, _total),
                "criterion_auc": _auc(before, after, operator.attrgetter(criterion)),
                "caught": _share([not scores.all_ten() for scores in after]),
                "clean_full_marks": _share([scores.all_ten() for scores in before]),
                "traces": len(clean),
            }
        )
    return rows


def _total(scores: Scores) -> int:
    return scores.compliance + scores.relevancy + scores.accuracy


def _auc(before: Sequence[Scores], after: Sequence[Scores], value: Callable[[Scores], float]) -> float:
    """How well `value` puts the clean scores above the flawed ones."""
    gold = [True] * len(before) + [False] * len(after)
    return stats.auc(gold, [value(scores) for scores in (*before, *after)])


def _share(marks: Sequence[bool]) -> float:
    return sum(marks) / len(marks) if marks else 0.0


def scorer_agreement(first: Sequence[Scores], second: Sequence[Scores]) -> list[dict[str, Any]]:
    """Agreement of two scorers on the same traces: quadratic weighted kappa and equal scores, a row per criterion."""
    rows = []
    for name in CRITERIA:
        a, b = [getattr(scores, name) for scores in first], [getattr(scores, name) for scores in second]
        kappa = stats.weighted_kappa(a, b, range(11), "quadratic")
        equal = _share([x == y for x, y in zip(a, b, strict=True)])
        rows.append({"criterion": name, "weighted_kappa": kappa, "equal": equal, "traces": len(a)})
    return rows
