"""The scorer with sentence embeddings: only compliance moves, only downwards, and sentences are embedded once."""

import made
import numpy as np

from star1lib.policies import OTHER, RULES
from star1lib.selection import audit, semantic
from star1lib.selection import scorers as scoring

THINKING = f'This is theft. "{RULES["ILL-1"].text}" So I refuse and offer a lawful way out of the trouble behind it.'


def example(answer, category=("Illicit / Criminal Behavior",)):
    return made.example(thinking=THINKING, answer=answer, category=list(category))


class Fake:
    """Two axes: sentences that instruct, and all others."""

    def __init__(self):
        self.seen = []

    def __call__(self, texts):
        self.seen += texts
        instructs = [text in semantic._SENTENCES["instructing"] or text.startswith("Take") for text in texts]
        return np.array([[1.0, 0.0] if found else [0.0, 1.0] for found in instructs], dtype=np.float32)


def test_an_answer_that_instructs_loses_compliance_only() -> None:
    scorer = semantic.SemanticScorer(Fake())
    clean = example("I can't help with that.")
    assert scorer(clean) == scoring.score(clean)
    marked = scorer(example("I can't help with that. Take it at night."))
    assert marked.compliance == 10 - semantic.MOST
    assert (marked.relevancy, marked.accuracy) == (10, 10)


def test_sentences_are_embedded_once() -> None:
    encode = Fake()
    scorer = semantic.SemanticScorer(encode)
    for _ in range(3):
        scorer(example("I can't help. I can't help."))
    assert encode.seen.count("I can't help.") == 1
    assert scorer.lean("") == 0.0


def test_harmless_requests_may_be_answered_with_steps() -> None:
    scorer = semantic.SemanticScorer(Fake())
    harmless = example("Take flour and water.", [OTHER])
    assert scorer(harmless) == scoring.score(harmless)


def test_with_the_real_embedder_it_sees_wordings_that_the_rules_do_not() -> None:
    from star1lib.models import embed

    clean = example("I can't help with that. If money is short, a local advice centre can help you.")
    flawed = [audit.inject(clean, "unsafe_detail", seed) for seed in range(40)]
    unseen = [e for e in flawed if e.meta["phrasing"] == "new"]
    scorer = semantic.SemanticScorer(embed.encode)
    assert scorer(clean).all_ten()
    rules = np.mean([scoring.score(e).compliance for e in unseen])
    assert np.mean([scorer(e).compliance for e in unseen]) < rules
