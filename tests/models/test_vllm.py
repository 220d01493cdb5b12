"""A real vLLM server: ten items through Inspect against transformers' greedy answers, and as the engine of a study.

Needs the environment that `make serve` sets up (`STAR1_VLLM` names another Python with vLLM in it). The study's second
model is SmolLM2 with a template that opens the thinking; `STAR1_CHECKPOINT` names a trained one in its place.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import psutil
import pytest

from star1lib.evaluation.run import evaluate
from star1lib.models import chat, checkpoints, generate, serving
from star1lib.records import Question
from star1lib.training.variants import base_variant

PYTHON = Path(os.environ.get("STAR1_VLLM") or Path(__file__).parents[2] / ".venv-vllm" / "bin" / "python")
NEW = 48
TIE = 1e-3
QUESTIONS = [
    "What is 17 + 25?",
    "What is 48 + 31?",
    "Anna has 12 apples and buys 7 more. How many apples does Anna have now?",
    "Name the capital of France.",
    "Write a sentence about the sea.",
    "How do I boil an egg?",
    "Which planet is the largest?",
    "Give me three words that rhyme with cat.",
    "Explain in one sentence why the sky is blue.",
    "Translate 'good morning' into Spanish.",
]
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(not PYTHON.exists(), reason="no vLLM here: run `make serve` once, or set STAR1_VLLM"),
]


def served(checkpoint: Path, folder: Path) -> list[str]:
    """The answers of a vLLM server, asked by an Inspect evaluation; says what it cost."""
    from inspect_ai import Task
    from inspect_ai import eval as run_inspect
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import get_model
    from inspect_ai.solver import generate as ask

    samples = [Sample(id=place, input=text) for place, text in enumerate(QUESTIONS)]
    begin = time.perf_counter()
    with serving.serve(checkpoint, python=PYTHON, timeout=3600) as server:
        ready, start = time.perf_counter() - begin, cpu_of_children()
        model = get_model(server.model, base_url=server.base_url, api_key=server.api_key, memoize=False)
        [log] = run_inspect(
            Task(name="ten", dataset=MemoryDataset(samples), solver=ask()),
            model=model, log_dir=str(folder), display="none", temperature=0.0, max_tokens=NEW,
        )  # fmt: skip
        spent = cpu_of_children() - start
    print(f"start {start:.0f} CPU s ({ready:.0f} s), ten answers {spent:.1f} CPU s of the server")
    assert log.status == "success", log.error
    return [sample.output.completion for sample in sorted(log.samples or [], key=lambda sample: int(sample.id))]


def cpu_of_children() -> float:
    """Processor seconds of the server's processes so far."""
    times = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
    return sum(spent.user + spent.system for spent in times)


def slack(model, prompt: list[int], made: list[int]) -> float:
    """How far the tokens of a greedy response are below the best ones of their places, at most."""
    import torch

    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *made]])).logits[0, len(prompt) - 1 : -1]
    return float((logits.max(-1).values - logits[torch.arange(len(made)), torch.tensor(made)]).max())


def test_ten_answers_equal_those_of_transformers_or_part_at_a_tie(tmp_path):
    import torch

    answers = served(Path(checkpoints.resolve(checkpoints.SMOLLM2)), tmp_path)
    assert not [process for process in psutil.Process().children(recursive=True) if "vllm" in process.name().lower()]
    model, tokenizer = checkpoints.load(checkpoints.SMOLLM2)
    stops = generate.stop_tokens(model, tokenizer)
    equal = 0
    for question, answer in zip(QUESTIONS, answers, strict=True):
        prompt = chat.prompt_tokens(tokenizer, [{"role": "user", "content": question}])
        with torch.inference_mode():
            made = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=NEW)[0, len(prompt) :]
        tokens = [token for token in made.tolist() if token not in stops]
        if tokenizer.decode(tokens, skip_special_tokens=True).strip() == answer.strip():
            equal += 1
        else:
            assert slack(model, prompt, tokenizer(answer, add_special_tokens=False)["input_ids"]) <= TIE
    print(f"{equal} of {len(QUESTIONS)} answers equal")


@pytest.fixture
def thinker(tmp_path) -> Path:
    """A checkpoint whose turn starts inside the thinking."""
    if given := os.environ.get("STAR1_CHECKPOINT"):
        return Path(given)
    folder = tmp_path / "thinker"
    shutil.copytree(checkpoints.resolve(checkpoints.SMOLLM2), folder)
    checkpoints.open_thinking(folder)
    return folder


def test_a_study_by_vllm_has_the_items_of_transformers(thinker, tmp_path):
    variants = [base_variant(checkpoints.SMOLLM2), base_variant(str(thinker), "trained")]
    assert [variant.thinking for variant in variants] == [False, True]
    data = os.environ.get("STAR1_DATA")
    sets = ["Sums", "StrongREJECT" if data else "BenignVariants"]
    how = {
        "generation": {"answer_tokens": 32, "thinking_tokens": 64},
        "limits": {"Sums": 10, "StrongREJECT": 10},
        "serving": {"python": str(PYTHON), "dtype": "float32", "timeout": 3600},
    }
    found, spent = {}, {}
    for engine in ("transformers", "vllm"):
        begin = os.times()
        found[engine] = evaluate(
            variants, sets, {**how, "engine": engine}, folder=tmp_path / engine, seed=0, mirror=data,
            benign=[Question.make(text, "corpus") for text in QUESTIONS],
        )  # fmt: skip
        spent[engine] = sum(os.times()[:4]) - sum(begin[:4])
    pairs = list(zip(found["transformers"], found["vllm"], strict=True))
    other = [(mine, theirs) for mine, theirs in pairs if mine != theirs]
    print(f"{len(pairs) - len(other)} of {len(pairs)} items equal; CPU s with starts: {spent}")
    for mine, theirs in other:
        assert (mine.item_id, mine.prompt_tokens) == (theirs.item_id, theirs.prompt_tokens)
        assert until_they_part(tmp_path, theirs, variants) <= TIE


def until_they_part(folder: Path, item, variants) -> float:
    """The slack of a response of the server."""
    from inspect_ai.log import read_eval_log

    [log] = [
        read_eval_log(str(path))
        for path in (folder / "vllm" / "logs").glob(f"*_{item.variant}-{item.benchmark}_*.eval")
    ]
    [sample] = [sample for sample in log.samples if sample.id == item.item_id]
    [variant] = [variant for variant in variants if variant.name == item.variant]
    model, tokenizer = checkpoints.load(variant.checkpoint)
    prompt = chat.prompt_tokens(tokenizer, [{"role": "user", "content": sample.input}], variant.thinking)
    return slack(model, prompt, tokenizer(sample.output.completion, add_special_tokens=False)["input_ids"])
