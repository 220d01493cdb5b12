"""Safety categories of questions (paper 2.2): zero-shot or fitted offline taggers, or a model in the classifier role.

The zero-shot tagger compares the embedding of a question with the definition of each category, whole
and phrase by phrase, with short descriptions of what such requests ask for, and with everyday topics that
have nothing to do with safety. The fitted tagger
is a logistic regression per category on embeddings, words and character pieces; it learns from rows
that somebody has tagged.
"""

from __future__ import annotations

import functools
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


def _mean_of_two_best(similarities: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.sort(similarities, axis=1)[:, -2:].mean(axis=1)


def names_of(scores: np.ndarray, other: np.ndarray) -> list[list[str]]:
    """Category names, best first, for scores of shape (n, 8); `["Other"]` where `other` (n,) says so."""
    lists = []
    for row, is_other in zip(scores, other, strict=True):
        order = sorted(range(len(CATEGORIES)), key=lambda k: (-row[k], k))
        bar = max(row[order[0]] - MARGIN, FLOOR)
        lists.append([OTHER] if is_other else [CATEGORIES[k] for k in order if k == order[0] or row[k] >= bar])
    return lists


class ZeroShotTagger:
    """Cosine of a question with written descriptions of the categories; learns from nothing.

    `encode` gives rows of length one.
    """

    def __init__(self, encode: Encode) -> None:
        self.encode = encode

    @functools.cached_property
    def _anchors(self) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray], np.ndarray]:
        whole = self.encode([f"{policy.category}: {policy.definition}" for policy in POLICIES])
        parts = [self.encode(phrases(policy.definition)) for policy in POLICIES]
        return whole, parts, [self.encode(policy.asks) for policy in POLICIES], self.encode(EVERYDAY)

    def scores(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores of shape (n, 8), and of the everyday topics of shape (n,), for embeddings of shape (n, d)."""
        import numpy as np

        whole, parts, asks, everyday = self._anchors
        by_part = np.stack([_mean_of_two_best(vectors @ part.T) for part in parts], axis=1)
        by_ask = np.stack([_mean_of_two_best(vectors @ ask.T) for ask in asks], axis=1)
        return (vectors @ whole.T + by_part + by_ask) / 3, _mean_of_two_best(vectors @ everyday.T)

    def predict(self, texts: Sequence[str]) -> list[list[str]]:
        """Categories per text."""
        if not texts:
            return []
        scores, everyday = self.scores(self.encode(texts))
        return names_of(scores, scores.max(axis=1) - everyday / 2 < OTHER_LEAD)


class FittedTagger:
    """Logistic regressions on embeddings, word pairs and character pieces, one per category, Other included when seen.

    A category beside the best one is named from even odds on.
    """

    def __init__(self, encode: Encode) -> None:
        self.encode = encode
        self._features: list[Any] = []
        self._models: dict[str, Any] = {}

    def fit(self, texts: Sequence[str], categories: Sequence[Sequence[str]]) -> FittedTagger:
        """Learn from tagged texts; raises :class:`UserError` with fewer than two categories among them."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        names = [name for name in (*CATEGORIES, OTHER) if any(name in tags for tags in categories)]
        if len(texts) != len(categories) or len(names) < 2:
            raise UserError("tagger: it needs tagged questions of at least two categories; give it more rows.")
        self._features = [
            TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)).fit(texts),
            TfidfVectorizer(analyzer="char_wb", sublinear_tf=True, ngram_range=(3, 5), min_df=2).fit(texts),
        ]
        matrix = self._matrix(texts)
        self._models = {
            name: LogisticRegression(C=3.0, class_weight="balanced", max_iter=1000).fit(
                matrix, [name in tags for tags in categories]
            )
            for name in names
        }
        return self

    def _matrix(self, texts: Sequence[str]) -> Any:
        import scipy.sparse as sparse

        # Embeddings have length one like the other two blocks, but far fewer large entries: weigh them up.
        dense = sparse.csr_matrix(self.encode(texts) * 3.0)
        return sparse.hstack([dense, *(feature.transform(texts) for feature in self._features)]).tocsr()

    def predict(self, texts: Sequence[str]) -> list[list[str]]:
        """Categories per text, most probable first."""
        if not self._models:
            raise UserError("tagger: it has not learnt anything yet; call fit() with tagged questions first.")
        if not texts:
            return []
        matrix = self._matrix(texts)
        chances = {name: model.predict_proba(matrix)[:, 1] for name, model in self._models.items()}
        lists = []
        for row in range(len(texts)):
            order = sorted(chances, key=lambda name: -chances[name][row])
            named = [name for name in order if chances[name][row] >= 0.5 and name != OTHER]
            lists.append([OTHER] if order[0] == OTHER else named or [order[0]])
        return lists


def tag(questions: Sequence[Question]) -> list[Tagged]:
    """Give each question its categories by the zero-shot MiniLM tagger."""
    found = ZeroShotTagger(embed.encode).predict([question.text for question in questions])
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
