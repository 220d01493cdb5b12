"""Safety categories of questions (paper 2.2): zero-shot or fitted offline taggers, or a model in the classifier role.

The zero-shot tagger compares the embedding of a question with the definition of each category, whole
and phrase by phrase, with short descriptions of what such requests ask for, and with everyday topics that
have nothing to do with safety. The fitted tagger learns from rows that somebody has tagged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from star1lib.deliberation import prompts
from star1lib.errors import UserError
from star1lib.models import embed
from star1lib.policies import CATEGORIES, EVERYDAY, OTHER, POLICIES
from star1lib.records import Question, Tagged

if TYPE_CHECKING:
    import numpy as np

    from star1lib.models.answers import ErrorRow
    from star1lib.models.roles import Role

Encode = Callable[[Sequence[str]], "np.ndarray"]
# A second category is named when it is within MARGIN of the best one and at least FLOOR; a question whose
# best category does not lead the everyday topics by OTHER_LEAD is Other. MARGIN and FLOOR were set on one
# half of the published rows; the audit reports the other half.
MARGIN = 0.04
FLOOR = 0.2
OTHER_LEAD = 0.03


def phrases(definition: str) -> list[str]:
    """The parts of a definition between commas and conjunctions."""
    return [part.strip(" .") for part in re.split(r",| and | or ", definition) if part.strip(" .")]


def names_of(scores: np.ndarray, other: np.ndarray) -> list[list[str]]:
    """Category names, best first, for scores of shape (n, 8); `["Other"]` where `other` (n,) says so."""
    lists = []
    for row, is_other in zip(scores, other, strict=True):
        order = sorted(range(len(CATEGORIES)), key=lambda k: (-row[k], k))
        bar = max(row[order[0]] - MARGIN, FLOOR)
        lists.append([OTHER] if is_other else [CATEGORIES[k] for k in order if k == order[0] or row[k] >= bar])
    return lists


def mean_of_two_best(vectors: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """How close each of `vectors` (n, d) is to the two nearest of `anchors` (m, d), all of length one: shape (n,)."""
    import numpy as np

    return np.sort(vectors @ anchors.T, axis=1)[:, -2:].mean(axis=1)


def zero_shot(texts: Sequence[str], encode: Encode) -> list[list[str]]:
    """Categories per text by cosine with written descriptions of the categories; learns from nothing.

    `encode` gives rows of length one.
    """
    import numpy as np

    if not texts:
        return []
    vectors = encode(texts)
    whole = vectors @ encode([f"{policy.category}: {policy.definition}" for policy in POLICIES]).T
    parts, asks = (
        np.stack([mean_of_two_best(vectors, encode(lines(policy))) for policy in POLICIES], axis=1)
        for lines in (lambda policy: phrases(policy.definition), lambda policy: policy.asks)
    )
    scores = (whole + parts + asks) / 3
    everyday = mean_of_two_best(vectors, encode(EVERYDAY))
    return names_of(scores, scores.max(axis=1) - everyday / 2 < OTHER_LEAD)


def fitted(
    tagged: Sequence[str], categories: Sequence[Sequence[str]], encode: Encode
) -> Callable[[Sequence[str]], list[list[str]]]:
    """A function from texts to categories, most probable first, learnt from the `tagged` texts.

    Logistic regressions on embeddings, word pairs and character pieces, one per category, Other included when seen. A
    category beside the best one is named from even odds on. Raises :class:`UserError` with fewer than two categories.
    """
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.preprocessing import FunctionTransformer

    names = [name for name in (*CATEGORIES, OTHER) if any(name in tags for tags in categories)]
    if len(names) < 2:
        raise UserError("tagger: it needs tagged questions of at least two categories; give it more rows.")
    model = make_pipeline(
        make_union(
            # Embeddings have length one like the other two blocks, but far fewer large entries: weigh them up.
            FunctionTransformer(lambda texts: csr_matrix(encode(texts) * 3.0)),
            TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)),
            TfidfVectorizer(analyzer="char_wb", sublinear_tf=True, ngram_range=(3, 5), min_df=2),
        ),
        OneVsRestClassifier(LogisticRegression(C=3.0, class_weight="balanced", max_iter=1000)),
    )
    model.fit(tagged, [[int(name in tags) for name in names] for tags in categories])

    def named(chances: Sequence[float]) -> list[str]:
        order = sorted(zip(names, chances, strict=True), key=lambda pair: -pair[1])
        likely = [name for name, chance in order if chance >= 0.5 and name != OTHER]
        return [OTHER] if order[0][0] == OTHER else likely or [order[0][0]]

    return lambda texts: list(map(named, model.predict_proba(texts))) if texts else []


def tag(questions: Sequence[Question]) -> list[Tagged]:
    """Give each question its categories by the zero-shot MiniLM tagger."""
    found = zero_shot([question.text for question in questions], embed.encode)
    return [_tagged(question, names) for question, names in zip(questions, found, strict=True)]


def _tagged(question: Question, names: Sequence[str]) -> Tagged:
    return Tagged(id=question.id, question=question.text, source=question.source, category=list(names))


def tag_with_model(questions: Sequence[Question], role: Role, folder: Path) -> tuple[list[Tagged], list[ErrorRow]]:
    """Ask the classifier role (2.2), its answers kept in `folder`; unusable ones come back as error rows."""
    from star1lib.models import answers, calls, upstream

    asked = [(question, prompts.classify(question.text, role.release)) for question in questions]
    requests = [calls.Request(question.id, messages, question.text) for question, messages in asked]
    found, errors = calls.ask(role, requests, answers.Tags if role.release is None else upstream.read_tags, folder)
    return [_tagged(question, found[question.id].categories) for question in questions if question.id in found], errors


def tagger_table(gold: Sequence[Sequence[str]], guess: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Agreement of a tagger with gold tags: precision, recall and F1 per category, then the micro and macro F1.

    The categories, and those of the macro F1, are those that occur in `gold`.
    """
    from sklearn.metrics import f1_score, precision_recall_fscore_support
    from sklearn.preprocessing import MultiLabelBinarizer

    names = MultiLabelBinarizer().fit([*gold, *guess])
    truth, found = names.transform(gold), names.transform(guess)
    precision, recall, f1, wanted = precision_recall_fscore_support(truth, found, zero_division=0)
    given = found.sum(axis=0)
    rows: list[dict[str, Any]] = [
        {"category": str(name), "f1": float(f1[k]), "precision": float(precision[k]), "recall": float(recall[k]),
         "gold": int(wanted[k]), "tagged": int(given[k])}
        for k, name in enumerate(names.classes_)
        if wanted[k]
    ]  # fmt: skip
    rows.sort(key=lambda row: -row["gold"])
    micro = float(f1_score(truth, found, average="micro", zero_division=0))
    totals = {"precision": None, "recall": None, "gold": int(truth.sum()), "tagged": int(found.sum())}
    macro = fmean(row["f1"] for row in rows)
    return [*rows, {"category": "micro", "f1": micro, **totals}, {"category": "macro", "f1": macro, **totals}]


def halves(ids: Sequence[str]) -> tuple[list[int], list[int]]:
    """The places of `ids` in two halves that depend on the ids alone: one to learn from, one to report on."""
    order = sorted(range(len(ids)), key=lambda place: ids[place][::-1])
    middle = len(order) // 2
    return sorted(order[:middle]), sorted(order[middle:])
