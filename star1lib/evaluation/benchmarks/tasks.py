"""The benchmarks as Inspect tasks: a dataset, a solver, and scorers that hand the judges many answers at once.

`inspect eval star1lib/evaluation/benchmarks/tasks.py@strongreject --model ...` runs one from Inspect's own command
line; where the package is installed, `inspect eval star1lib/strongreject` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import CORRECT, INCORRECT, NOANSWER, Score, Scorer, Target, accuracy, scorer, stderr
from inspect_ai.solver import Solver, TaskState, generate

from star1lib.evaluation import benchmarks
from star1lib.evaluation.benchmarks.common import Answer, Benchmark, Measure, Verdict, answer_of, choose, outcome_of
from star1lib.evaluation.judges import Judges
from star1lib.evaluation.settings import Generation
from star1lib.models.provider import Batcher
from star1lib.records import Question

_VALUES = {True: CORRECT, False: INCORRECT, None: NOANSWER}


def sample(benchmark: Benchmark, question: Question, opened: bool = False) -> Sample:
    """A question as it is asked; `opened` says that the model's chat template opens the thinking."""
    return Sample(
        id=question.id,
        input=benchmark.ask(question),
        target=str(question.meta.get("answer", "")),
        metadata={"question": question.model_dump(), "opened": opened},
    )


def build(
    benchmark: Benchmark,
    questions: Sequence[Question],
    judges: Judges,
    *,
    opened: bool = False,
    solver: Solver | None = None,
    name: str | None = None,
    config: GenerateConfig | None = None,
) -> Task:
    """The Inspect task that asks `questions` and has every measure of the benchmark scored."""
    return Task(
        name=name,
        dataset=MemoryDataset([sample(benchmark, question, opened) for question in questions], name=benchmark.name),
        solver=solver or generate(),
        scorer=[measured(measure, judges) for measure in benchmark.measures if any(map(measure.of, questions))],
        config=config or GenerateConfig(),
    )


def measured(measure: Measure, judges: Judges) -> Scorer:
    """A measure as an Inspect scorer: samples ask one by one, the judge sees them together."""

    def work(answers: Sequence[Answer], done: Callable[[int, Verdict], None]) -> None:
        for place, verdict in enumerate(measure.grade(answers, judges)):
            done(place, verdict)

    together = Batcher(work)

    @scorer(metrics=[accuracy(), stderr()], name=measure.metric)
    def made() -> Scorer:
        async def score(state: TaskState, target: Target) -> Score | None:
            question = Question.model_validate(state.metadata["question"])
            if not measure.of(question):
                return None
            answer = answer_of(state.output, question, state.metadata["opened"])
            outcome = outcome_of(answer)
            if outcome == "open_thinking":
                verdict = measure.open_thinking
            else:
                verdict = measure.empty if outcome == "empty" else await together.submit(answer)
            facts = {"judge": measure.judge(judges), "outcome": outcome if verdict.found else "no_answer"}
            return Score(value=_VALUES[verdict.value], answer=verdict.label, metadata=facts)

        return score

    return made()


@task
def benchmark(
    name: str = "StrongREJECT",
    harm: str = "offline",
    refusal: str = "offline",
    thinking: bool = False,
    seed: int = 0,
    mirror: str | None = None,
) -> Task:
    """The benchmark `name`, whole, greedily and within the paper's budget (3.2), judged offline or by models.

    `thinking`: the model's template opens the thinking. `mirror`: a folder with the public data.
    """
    known = benchmarks.benchmark(name)
    questions, _ = choose(known.prepare(known.load(Path(mirror) if mirror else None), seed), None, seed)
    budget = Generation(name="plain").budget(known.name, known.kind, thinking)
    config = GenerateConfig(temperature=0.0, max_tokens=budget)
    return build(known, questions, Judges({"harm": harm, "refusal": refusal}), opened=thinking, config=config)


def _register(name: str) -> Callable[..., Task]:
    def made(
        harm: str = "offline",
        refusal: str = "offline",
        thinking: bool = False,
        seed: int = 0,
        mirror: str | None = None,
    ) -> Task:
        return benchmark(name, harm, refusal, thinking, seed, mirror)

    return task(name=name.lower().replace("-", "_"))(made)


# Every benchmark under its own name too: strongreject, jbb_behaviors, xstest, math500, ...
TASKS = [_register(name) for name in benchmarks.REGISTRY]
