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
from typing import TYPE_CHECKING, Any, Protocol

from star1lib import stats
from star1lib.deliberation import prompts
from star1lib.errors import UserError
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


class Tagger(Protocol):
    """Anything that gives category names to texts."""

    def predict(self, texts: Sequence[str]) -> list[list[str]]:
        """A non-empty list of category names per text; `["Other"]` when none fits."""
        ...


def phrases(definition: str) -> list[str]:
    """The parts of a definition between commas and conjunctions."""
    return [part.strip(" .") for part in re.split(r",| and | or ", definition) if part.strip(" .")]


def _mean_of_two_best(similarities: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.sort(similarities, axis=1)[:, -2:].mean(axis=1)


def names_of(scores: np.ndarray, margin: float, floor: float, other: np.ndarray) -> list[list[str]]:
    """Category names, best first, for scores of shape (n, 8).

    The best one, and those within `margin` of it that reach `floor`; `["Other"]` where `other` (n,) says so.
    """
    lists = []
    for row, is_other in zip(scores, other, strict=True):
        order = sorted(range(len(CATEGORIES)), key=lambda k: (-row[k], k))
        bar = max(row[order[0]] - margin, floor)
        lists.append([OTHER] if is_other else [CATEGORIES[k] for k in order if k == order[0] or row[k] >= bar])
    return lists


class ZeroShotTagger:
    """Cosine of a question with written descriptions of the categories; learns from nothing.

    `encode` gives rows of length one. `margin`, `floor` and `other_lead` are cosines; `other_lead=None`
    never says Other.
    """

    def __init__(
        self, encode: Encode, margin: float = MARGIN, floor: float = FLOOR, other_lead: float | None = OTHER_LEAD
    ) -> None:
        self.encode = encode
        self.margin = margin
        self.floor = floor
        self.other_lead = other_lead

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
        import numpy as np

        if not texts:
            return []
        scores, everyday = self.scores(self.encode(texts))
        lead = scores.max(axis=1) - everyday / 2
        other = np.zeros(len(texts), dtype=bool) if self.other_lead is None else lead < self.other_lead
        return names_of(scores, self.margin, self.floor, other)


class FittedTagger:
    """Logistic regressions on embeddings, word pairs and character pieces, one per category, Other included when seen.

    `threshold` is the probability from which a category beside the best one is named.
    """

    def __init__(self, encode: Encode, threshold: float = 0.5, strength: float = 3.0) -> None:
        self.encode = encode
        self.threshold = threshold
        self.strength = strength
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
            name: LogisticRegression(C=self.strength, class_weight="balanced", max_iter=1000).fit(
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
            named = [name for name in order if chances[name][row] >= self.threshold and name != OTHER]
            lists.append([OTHER] if order[0] == OTHER else named or [order[0]])
        return lists


def tag(questions: Sequence[Question], tagger: Tagger | None = None) -> list[Tagged]:
    """Give each question its categories; the zero-shot MiniLM tagger when none is named."""
    if tagger is None:
        from star1lib.models import embed

        tagger = ZeroShotTagger(embed.encode)
    found = tagger.predict([question.text for question in questions])
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
    """Agreement of a tagger with gold tags: precision, recall and F1 per category, then the micro and macro F1."""
    found = stats.f1(gold, guess)
    rows = []
    for name in found.per_label:
        wanted = sum(name in tags for tags in gold)
        given = sum(name in tags for tags in guess)
        right = sum(name in a and name in b for a, b in zip(gold, guess, strict=True))
        precision = right / given if given else 0.0
        rows.append(_row(name, found.per_label[name], precision, right / wanted, wanted, given))
    rows.sort(key=lambda row: -row["gold"])
    totals = sum(len(set(tags)) for tags in gold), sum(len(set(tags)) for tags in guess)
    rows.append(_row("micro", found.micro, None, None, *totals))
    rows.append(_row("macro", found.macro, None, None, *totals))
    return rows


def _row(name: str, f1: float, precision: float | None, recall: float | None, gold: int, tagged: int) -> dict[str, Any]:
    return {"category": name, "f1": f1, "precision": precision, "recall": recall, "gold": gold, "tagged": tagged}


def halves(ids: Sequence[str]) -> tuple[list[int], list[int]]:
    """The places of `ids` in two halves that depend on the ids alone: one to learn from, one to report on."""
    order = sorted(range(len(ids)), key=lambda place: ids[place][::-1])
    middle = len(order) // 2
    return sorted(order[:middle]), sorted(order[middle:])
