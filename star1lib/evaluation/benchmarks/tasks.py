"""The benchmarks as Inspect tasks: a dataset, a solver, and scorers that hand the judges many answers at once.

`inspect eval star1lib/evaluation/benchmarks/tasks.py@strongreject --model ...` runs one from Inspect's own command
line; where the package is installed, `inspect eval star1lib/strongreject` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import CachePolicy, GenerateConfig, ModelOutput, get_model
from inspect_ai.scorer import CORRECT, INCORRECT, NOANSWER, Score, Scorer, Target, accuracy, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, generate, solver

from star1lib.evaluation import benchmarks
from star1lib.evaluation.benchmarks.common import Answer, Benchmark, Measure, Verdict, answer_of, choose, outcome_of
from star1lib.evaluation.judges import Judges
from star1lib.evaluation.settings import Generation
from star1lib.models.chat import THINK_CLOSE, THINK_OPEN, Thought, join_thinking, thought_of
from star1lib.models.provider import START, Batcher
from star1lib.records import Question

FORCED_TOKENS = 16
Player = str | dict[str, Any]
Others = Mapping[str, bool | None]
_VALUES = {True: CORRECT, False: INCORRECT, None: NOANSWER}


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
    """The Inspect task that asks `questions` and has every measure of the benchmark scored.

    `opened` says that the model's chat template opens the thinking.
    """
    samples = [
        Sample(
            id=question.id,
            input=benchmark.ask(question),
            target=str(question.meta.get("answer", "")),
            metadata={"question": question.model_dump(), "opened": opened},
        )
        for question in questions
    ]
    return Task(
        name=name,
        dataset=MemoryDataset(samples, name=benchmark.name),
        solver=solver or generate(),
        scorer=[measured(measure, judges) for measure in benchmark.measures if any(map(measure.of, questions))],
        config=config or GenerateConfig(),
    )


@solver
def answered(extra: dict[str, Any], more: bool = False, forced: str = "", close: int = 0) -> Solver:
    """Generate once; then have a closed thinking go on once (`more`), close an open one and give it `close` tokens to
    answer, and end the response with the words `forced`.

    `extra` is the `extra_body` of every call; what was forced or closed lies in the sample's metadata. For our own
    provider.
    """
    cache = CachePolicy(expiry=None)

    async def going_on(state: TaskState, start: str, **config: Any) -> ModelOutput:
        config["extra_body"] = {**extra, START: start}
        return await get_model().generate(state.input, config=GenerateConfig(**config), cache=cache)

    async def continued(state: TaskState, start: str, **config: Any) -> Thought:
        """Have the response go on after `start`; its tokens count on."""
        first, state.output = state.output, await going_on(state, start, **config)
        if first.usage and state.output.usage:
            state.output.usage.output_tokens += first.usage.output_tokens
        return thought_of(state.output)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        state = await generate(state, cache=cache)
        thought = thought_of(state.output)
        if more and thought.state == "closed":
            thought = await continued(state, f"{THINK_OPEN}{thought.thinking}\nWait,")
        if close and thought.state == "open":
            thought = await continued(state, f"{THINK_OPEN}{thought.thinking}{THINK_CLOSE}", max_tokens=close)
            state.metadata["closed"] = True
        if forced:
            start = f"{join_thinking(thought.thinking, thought.answer)}\n\n{forced}".lstrip()
            said = await going_on(state, start, max_tokens=FORCED_TOKENS)
            state.metadata["forced"] = forced + said.message.text.rpartition(forced)[2]
        return state

    return solve


def measured(measure: Measure, judges: Judges) -> Scorer:
    """A measure as an Inspect scorer: samples ask one by one, the judge sees them together."""

    def work(answers: Sequence[Answer], done: Callable[[int, tuple[Verdict, Others]], None]) -> None:
        both = zip(measure.grade(answers, judges), measure.beside(answers, judges), strict=True)
        for place, said in enumerate(both):
            done(place, said)

    together = Batcher(work)

    @scorer(metrics=[accuracy(), stderr()], name=measure.metric)
    def made() -> Scorer:
        async def score(state: TaskState, target: Target) -> Score | None:
            question = Question.model_validate(state.metadata["question"])
            if not measure.of(question):
                return None
            facts = state.metadata
            given = answer_of(state.output, question, facts["opened"], facts.get("forced"), facts.get("closed", False))
            answer = measure.view(given)
            if answer is None:
                return None
            outcome = outcome_of(answer)
            unsaid = {"filtered": Verdict(None, "filtered"), "open_thinking": measure.open_thinking,
                      "empty": measure.empty}  # fmt: skip
            verdict, others = (unsaid[outcome], {}) if outcome in unsaid else await together.submit(answer)
            said: dict[str, Any] = {
                "judge": measure.judge(judges),
                "outcome": outcome if verdict.found else "no_answer",
            }
            said |= {"others": dict(others)} if others else {}
            return Score(value=_VALUES[verdict.value], answer=verdict.label, metadata=said)

        return score

    return made()


@task
def benchmark(
    name: str = "StrongREJECT",
    harm: Player = "offline",
    refusal: Player = "offline",
    thinking: bool = False,
    seed: int = 0,
    mirror: str | None = None,
) -> Task:
    """The benchmark `name`, whole, greedily and within the paper's budget (3.2), judged offline or by a role's model.

    `thinking`: the model's template opens the thinking. `mirror`: a folder with the public data.
    """
    known = benchmarks.benchmark(name)
    questions, _ = choose(known.prepare(known.load(Path(mirror) if mirror else None), seed), None, seed)
    judges = Judges({"harm_judge": harm, "refusal_judge": refusal})
    budget = Generation(name="plain").budget(known.name, known.kind, thinking)
    config = GenerateConfig(temperature=0.0, max_tokens=budget)
    return build(known, questions, judges, opened=thinking, config=config)


def _register(name: str) -> Callable[..., Task]:
    def made(
        harm: Player = "offline",
        refusal: Player = "offline",
        thinking: bool = False,
        seed: int = 0,
        mirror: str | None = None,
    ) -> Task:
        return benchmark(name, harm, refusal, thinking, seed, mirror)

    return task(name=name.lower().replace("-", "_"))(made)


# Every benchmark under its own name too: strongreject, jbb_behaviors, xstest, math500, ...
TASKS = [_register(name) for name in benchmarks.REGISTRY]
