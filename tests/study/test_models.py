"""A profile with a list of models: its graph, its folders, its parameters, and a row for every printed number."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import pytest
from copies import copied, pretend, would_run
from made import items

from star1lib import files as io
from star1lib.__main__ import _names
from star1lib.errors import UserError
from star1lib.evaluation import run
from star1lib.records import Example
from star1lib.study import claims, compare, profiles, runner, stages, tables
from star1lib.study.profiles import Profile
from star1lib.training.variants import BASE

TWO = """
models:
  - {model: tiny, name: first, notebooks: {05_sft: {variants: {extra: {rows: 3}}}}}
  - {model: tiny, name: second, model_class: plain, billions: 1, common: {training: {learning_rate: 1.0e-4}}}
"""
PER_MODEL = [stage.name for stage in stages.STAGES if stage.per_model]


@pytest.fixture
def root(tmp_path: Path, repository: Path) -> Path:
    copied(repository, tmp_path)
    smoke = (tmp_path / "params" / "smoke.yaml").read_text(encoding="utf-8")
    (tmp_path / "params" / "two.yaml").write_text(smoke + TWO, encoding="utf-8")
    return tmp_path


def test_shared_stages_run_once_the_others_per_model_the_last_over_all(root: Path) -> None:
    profiles.check(profiles.load("two", root), root)
    ran = would_run(root, "two")
    assert ran[:4] == [f"two {name}" for name in list(stages.BY_NAME)[:4]] and ran[-1] == "two 11_figures"
    assert sorted(ran[4:-1]) == sorted(f"two/{model} {name}" for model in ("first", "second") for name in PER_MODEL)
    assert would_run(root, "two", "second")[4:-1] == [f"two/second {name}" for name in PER_MODEL]


def test_a_profile_of_one_model_keeps_its_folders(root: Path) -> None:
    assert [step.build for step in stages.steps("smoke")] == ["smoke"] * len(stages.STAGES)
    runner.write_graph(profiles.load("smoke", root), mirror=None, root=root)
    assert {path.parent.parent.name for path in (root / "build").rglob("params/*.json")} == {"smoke"}
    given = io.read_json(root / runner.params_file("smoke", "05_sft"))
    assert given["selection"] == "build/smoke/04_selection" and given["out"] == "build/smoke"


def test_a_finished_model_stays_when_another_is_run_and_a_changed_one_reruns_alone(root: Path) -> None:
    would_run(root, "two")
    pretend(root, "two", "first", "second")
    assert would_run(root, "two") == []
    (root / "build" / "two" / "second" / "05_sft" / "manifest.json").unlink()
    ran = would_run(root, "two")
    assert ran and all(step.startswith("two/second ") for step in ran[:-1]) and ran[-1] == "two 11_figures"
    pretend(root, "two", "first", "second")
    would_run(root, "two", "first")
    assert list(io.read_json(root / runner.params_file("two", "11_figures"))["models"]) == ["first", "second"]


def test_many_jobs_of_make_run_models_beside_each_other_and_a_models_stages_in_turn(root: Path) -> None:
    would_run(root, "two")
    graph = (root / "build" / "two" / "graph.mk").read_text(encoding="utf-8")
    rules = {line.split(":")[0]: line.partition(" | ")[2] for line in graph.splitlines() if ".ipynb: " in line}
    for step, after in itertools.pairwise(stages.steps("two", ["first", "second"])):
        target, before = (str(runner.executed(one.build, one.stage.name)) for one in (after, step))
        assert rules[target] == (before if step.build == after.build else rules[target]) and before not in rules[before]
    assert rules[str(runner.executed("two/second", "05_first"))] == ""


def test_a_damaged_table_of_one_model_reruns_that_model_alone(root: Path) -> None:
    would_run(root, "two")
    pretend(root, "two", "first", "second")
    for model in ("first", "second"):
        build = root / "build" / "two" / model
        table = tables.write(build, "safety", [{"variant": model}])
        io.write_json(build / runner.MADE, {"06_safety": io.listing(build, [table])})
    assert would_run(root, "two") == []
    table.write_text("")
    ran = would_run(root, "two")
    assert ran[0] == "two/second 06_safety" and not any(step.startswith("two/first ") for step in ran)


def test_each_model_has_its_own_settings(root: Path) -> None:
    would_run(root, "two")
    first, second = (io.read_json(root / runner.params_file(f"two/{model}", "05_sft")) for model in ("first", "second"))
    assert {*first["variants"]} - {*second["variants"]} == {"extra"}
    assert (first["training"]["learning_rate"], second["training"]["learning_rate"]) == (5e-5, 1e-4)
    assert first["training"]["batch_size"] == second["training"]["batch_size"]
    assert (first["out"], first["selection"]) == ("build/two/first", "build/two/04_selection")
    facts = io.read_json(root / runner.params_file("two", "11_figures"))["models"]["second"]
    assert facts == {"out": "build/two/second", "model_class": "plain", "billions": 1.0}


@pytest.mark.parametrize(
    ("models", "sentence"),
    [
        ("[tiny, tiny]", "models: tiny: the name is taken"),
        ("[{model: tiny, name: 05_sft}]", "the name is taken"),
        ("[{model: tiny, name: a/b}]", "and no path"),
        ("[{model: tiny, modle: x}]", "modle"),
        ("[{model: tiny, notebooks: {05_sft: {variants: {a: {pool: all}}}}}]", "field 'pool'"),
        ("[{model: tiny, notebooks: {05_sft: {variants: {a: {checkpoint: x/y, rows: 3}}}}}]", "leave the other fields"),
        ("[{model: tiny, notebooks: {05_sft: {variants: {a: {marks: [1, 2]}}}}}]", "name one as pool"),
    ],
)
def test_models_that_cannot_be_meant(root: Path, models: str, sentence: str) -> None:
    (root / "params" / "mine.yaml").write_text(f"about: x\nmodels: {models}\n", encoding="utf-8")
    with pytest.raises(UserError, match=sentence):
        profiles.check(profiles.load("mine", root), root)


def test_a_misspelt_model_and_an_unknown_arm_are_one_sentence(root: Path) -> None:
    with pytest.raises(UserError, match=r"no model 'secnd'; did you mean 'second'\? known: first, second"):
        would_run(root, "two", "secnd")
    with pytest.raises(UserError, match="no model 'tiny'; its one model is"):
        runner.write_graph(profiles.load("smoke", root), mirror=None, root=root, models=["tiny"])
    path = root / "params" / "two.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("[star1_with_benign]", "[star1_with_bening]"))
    with pytest.raises(UserError, match=r"claim_roles.reasoning: no variant 'star1_with_bening'; did you mean"):
        profiles.check(profiles.load("two", root), root)


@pytest.mark.parametrize(
    ("given", "planted", "sentence"),
    [
        ("star1_with_benign: {benign: 915}", "star1: {benign: 915}",
         r"10_over_refusal.variants.star1: another notebook has a variant of that name and another recipe"),
        ("star1_with_benign: {benign: 915}", "star1_seed2: {benign: 915}", "star1_seed2: a variant of another seed"),
        ("medium: [medium_released]}", "medium: [medium_relased]}", "printed_roles: no variant 'medium_relased'; did"),
        ("high: [star1], medium", "hihg: [star1], medium", "claim_roles.reasoning: no role 'hihg'; did you"),
        ("  11_figures:", "  09_thinking: {pairs: [[star1, star1_nothink]]}\n  11_figures:",
         r"09_thinking.pairs .*: no variant 'star1_nothink'; did you mean 'star1_no_thinking'"),
    ],
)  # fmt: skip
def test_arms_that_hide_each_other_and_comparisons_of_unknown_ones(
    root: Path, given: str, planted: str, sentence: str
) -> None:
    text = (root / "params" / "paper.yaml").read_text(encoding="utf-8")
    assert given in text
    (root / "params" / "mine.yaml").write_text(text.replace(given, planted, 1), encoding="utf-8")
    with pytest.raises(UserError, match=sentence) as caught:
        profiles.check(profiles.load("mine", root), root)
    assert "\n" not in str(caught.value)


def test_a_list_of_no_models_is_not_all_of_them() -> None:
    assert _names(" a, b,") == ["a", "b"] and _names("") == []
    with pytest.raises(UserError, match="MODELS: ' , ' names no model"):
        _names(" , ")


def test_the_papers_roles_are_named_by_model_and_date(repository: Path) -> None:
    """The authors' models; what stands in for the teacher that its host no longer has is said in the profile."""
    paper = profiles.load("paper", repository)
    for role in ("classifier", "scorer", "benign_rewriter", "benign_scorer", "refusal_judge"):
        assert paper.roles[role]["model"] == "openai/gpt-4o-2024-11-20" and paper.roles[role]["temperature"] is None
    teacher = paper.roles["teacher"]
    assert teacher["model"].endswith("/deepseek-ai/DeepSeek-R1") and "127.0.0.1" in teacher["base_url"]
    assert (teacher["temperature"], teacher["top_p"], teacher["max_tokens"]) == (0.6, 0.7, 8000)
    assert paper.roles["harm_judge"]["model"].endswith("/meta-llama/Llama-Guard-3-8B")
    said = " ".join((repository / "params" / "paper.yaml").read_text(encoding="utf-8").replace("#", " ").split())
    for fact in ("DeepSeek-R1 of 2025-01-20", "deepseek-reasoner is R1 no more since 2025-08-21",
                 "vllm serve deepseek-ai/DeepSeek-R1", "`teacher: released`"):  # fmt: skip
        assert fact in said
    profiles.roles.load({**paper.roles, "teacher": "released"}, paper.prices)


def plays(paper: Profile, model: str, kind: str, role: str) -> bool:
    """True when a model of the profile has a variant that plays a role of its class."""
    own = paper.of(model)
    declared = {BASE, *(name for section in own.notebooks.values() for name in section.get("variants", {}))}
    return bool(declared & set(paper.notebooks["11_figures"]["claim_roles"][kind].get(role, [])))


def test_the_papers_profile_has_a_row_for_every_printed_number(repository: Path) -> None:
    paper = profiles.load("paper", repository)
    profiles.check(paper, repository)
    printed = {(row["model"], row["model_class"], row["role"], row["benchmark"]) for row in compare.paper_rows()}
    assert {model for model, *_ in printed} == set(paper.chosen())
    assert [row for row in printed if not plays(paper, *row[:3])] == []
    for one in paper.models:
        assert one.model_class in {kind for model, kind, *_ in printed if model == one.folder}
        own = paper.of(one.folder).notebooks
        for role_sets, names in (("safe", "safety_sets"), ("correct", "reasoning_sets")):
            asked = [section[names] for section in own.values() if names in section]
            assert len(asked) >= 3 and all(sorted(sets) == sorted(claims.load().sets[role_sets]) for sets in asked)
    assert "XSTest" in paper.notebooks["10_over_refusal"]["over_refusal_sets"]
    # Section 4.3 and every other claim: both its sides are variants of each model that it is printed for.
    for claim in claims.load().claims:
        for kind, sizes in claim.printed.items():
            named = list(sizes) or [one.folder for one in paper.models if one.model_class == kind == "reasoning"]
            for model in named if claim.rule != "counts" else []:
                both = plays(paper, model, kind, claim.first) and plays(paper, model, kind, claim.second)
                assert both or not sizes, (claim.number, model)
                assert both or claim.metric != "answered", (claim.number, model)


def test_the_committed_printed_tables_are_the_published_ones(mirror: Path) -> None:
    given = mirror.parent / "paper" / "paper_tables.csv"
    if not given.exists():
        pytest.skip("the published tables are not at hand")
    rows = list(csv.DictReader(given.read_text(encoding="utf-8").splitlines()))
    numbers = sorted(float(cell) for row in rows for name, cell in row.items()
                     if cell and name not in ("table", "base", "model"))  # fmt: skip
    assert sorted(round(100 * row["value"], 1) for row in compare.paper_rows()) == numbers


def test_parameters_of_one_model_are_json(repository: Path) -> None:
    paper = profiles.load("paper", repository)
    given = profiles.parameters(paper.of("R1-Distill-Qwen-7B"), "08_data_quality", root=repository)
    assert json.loads(json.dumps(given)) == given
    assert {"medium", "safechain_1k", "safechain_40k"} <= set(given["variants"]) and given["beside"] == ["star1"]
    assert "UCSC-VLAA/STAR1-R1-Distill-32B" in profiles.hub_models(paper)


def test_the_last_notebook_reads_every_model(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells over two models' items: names carry the model, averages stay a model's own, every table is written."""
    for name in ("first", "second"):
        for stage in compare.STAGES:
            made = [item for benchmark, metric in (("DoNotAnswer", "safe"), ("Probe", "correct"))
                    for variant, right in (("base", 2), ("star1", 5))
                    for item in items(variant, benchmark, [i < right for i in range(6)], metric)]  # fmt: skip
            run.write(tmp_path / "build" / "two" / name / stage, made if stage == "06_safety" else [])
    chosen = [Example(id="1", question="q", source="s", category=["Self-Harm"], thinking="t", answer="a", teacher="t")]
    io.write_jsonl(tmp_path / "build" / "two" / "04_selection" / "selected.jsonl", chosen)
    monkeypatch.chdir(tmp_path)
    models = {"first": {"out": "build/two/first", "model_class": "reasoning", "billions": 1.5},
              "second": {"out": "build/two/second", "model_class": "plain", "billions": 7.0}}  # fmt: skip
    roles = {"base": ["base"], "star1": ["star1"], "medium": ["medium"]}
    values = {**profiles.declared_parameters(repository / "notebooks" / "11_figures.ipynb"), "out": "build/two",
              "models": models, "claim_roles": {"reasoning": roles, "plain": roles}}  # fmt: skip
    shown: dict[str, object] = dict(values)
    for cell in json.loads((repository / "notebooks" / "11_figures.ipynb").read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", []):
            exec(compile("".join(cell["source"]), "11_figures", "exec"), shown)  # our own notebook
    rows = tables.read("build/two", "averages").to_dict("records")
    assert {row["variant"] for row in rows} == {"first base", "first star1", "second base", "second star1"}
    by_model = tables.read("build/two", "claims_by_model")
    assert set(by_model["models"]) == {"first", "second"}
    assert {"main", "summary", "shares", "claims", "printed"} <= {
        path.stem for path in tables.folder("build/two").iterdir()
    }
