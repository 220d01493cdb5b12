"""The rehearsal: tiny models of every family, roles on loopback, planted faults, and two models from end to end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from copies import copied

from star1lib.collection import sources
from star1lib.errors import UserError
from star1lib.models import answers, calls, chat, checkpoints, roles
from star1lib.records import Scores
from star1lib.study import plan, preflight, profiles, rehearse, runner, stages, standins, tables

LLAMA, QWEN = "R1-Distill-Llama-8B", "Qwen2.5-1.5B-Instruct"


@pytest.fixture
def root(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy without tests and build; no key, no pin, no mirror."""
    shutil.copy(repository / "Makefile", copied(repository, tmp_path))
    for variable in ("OPENAI_API_KEY", "STAR1_DATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("STAR1_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planted(root: Path, change: Any = None) -> profiles.Profile:
    """The paper's profile, with a change made to its value."""
    value = yaml.safe_load((root / "params" / "paper.yaml").read_text(encoding="utf-8"))
    if change:
        change(value)
    (root / "params" / "mine.yaml").write_text(json.dumps(value), encoding="utf-8")
    profile = profiles.load("mine", root)
    profiles.check(profile, root)
    return profile


class Rehearsed(Exception):
    """The rehearsal came as far as its notebooks."""


@pytest.fixture
def no_notebooks(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise Rehearsed

    monkeypatch.setattr(rehearse, "_make", stop)


def test_every_model_of_the_paper_has_a_stand_in_of_its_architecture_and_template(root: Path) -> None:
    names = profiles.hub_models(profiles.load("paper", root))
    assert len(names) == 13 + 2
    opened, kinds = {}, {}
    for number, name in enumerate(names):
        kinds[name] = standins.tiny_model(name, root / str(number)).model_type
        tokenizer = checkpoints.load_tokenizer(str(root / str(number)))
        opened[name] = chat.opens_thinking(tokenizer)
        asked = chat.prompt_tokens(tokenizer, [{"role": "user", "content": "Why is the sky blue?"}])
        assert "Why is the sky blue?" in tokenizer.decode(asked)
        preflight._template(str(root / str(number)))
    assert all(opened[name] == ("R1-Distill" in name) for name in names)
    assert {name for name, kind in kinds.items() if kind == "llama"} == {
        "deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "UCSC-VLAA/STAR1-R1-Distill-8B", "meta-llama/Llama-3.1-8B-Instruct"
    }  # fmt: skip
    weights = {checkpoints.weights_fingerprint(str(root / str(number))) for number in range(len(names))}
    assert len(weights) == len(names), "every model has weights of its own"


def test_a_model_at_hand_lends_its_own_template(root: Path, tiny: Path) -> None:
    assert standins.family(str(tiny)).own and standins.family("smollm2").own
    found = standins.tiny_model(str(tiny), root / "made")
    assert checkpoints.load_tokenizer(str(root / "made")).chat_template == found.template
    with pytest.raises(UserError, match="'some/unheard-of-7B': its chat template is unknown here; record its pin"):
        standins.family("some/unheard-of-7B")


def test_roles_answer_in_the_form_that_they_are_asked_for(root: Path) -> None:
    forms: dict[str, Any] = {
        "classifier": answers.Tags, "scorer": Scores, "benign_rewriter": answers.Rewrite,
        "benign_scorer": answers.BenignScores, "refusal_judge": answers.Refusal, "harm_judge": answers.read_guard,
        "second_judge": answers.Harm, "third_judge": answers.Rubric,
    }  # fmt: skip
    asks = {"second_judge": "yes_no", "third_judge": "rubric"}
    given = {name: {"model": "openai-api/x/m", "structured": name == "scorer", "asks": asks.get(name, "guard")}
             for name in forms}  # fmt: skip
    with standins.players(roles.models(roles.load(given))) as server:
        for name, form in forms.items():
            role = roles.load({name: {**given[name], "base_url": f"{server.url}/{name}/v1"}})[name]
            assert isinstance(role, roles.Role)
            asked = [calls.Request(str(n), [{"role": "user", "content": f"Number {n}?"}]) for n in range(12)]
            values, errors = calls.ask(role, asked, form, root / name, logged=False)
            assert len({str(value) for value in values.values()}) > 1 and not errors, name
        assert server.calls == dict.fromkeys(forms, 12)


def test_every_set_has_rows_of_its_own(root: Path) -> None:
    assert standins.write_rows(root) == len(sources.SOURCES)
    found = {name: [question.text for question in sources.load(name, root)] for name in sources.SOURCES}
    texts = [text for name, texts in found.items() for text in texts if name != "HumanEval"]
    assert all(len(rows) >= 2 for rows in found.values()) and len(set(texts)) == len(texts)


def test_a_rehearsal_is_the_same_profile_at_the_smallest_size(root: Path) -> None:
    paper = profiles.load("paper", root)
    made = rehearse.derive(paper, url="http://127.0.0.1:1", root=root)
    profiles.check(made.profile, root)
    assert made.launched == ["paper/R1-Distill-Qwen-1.5B", f"paper/{LLAMA}"] and made.served is None
    assert made.profile.chosen() == paper.chosen()
    for name in paper.chosen():
        whole, small = paper.of(name), made.profile.of(name)
        assert [*small.notebooks.items()] != [*whole.notebooks.items()]
        for stage, section in whole.notebooks.items():
            assert {*section} <= {*small.notebooks[stage]}
            assert {*section.get("variants", {})} == {*small.notebooks[stage].get("variants", {})}
        kept = {"learning_rate", "votes", "joined", "dtype", "weight_decay", "adam_beta2", "schedule", "seed"}
        assert {key: small.common["training"][key] for key in kept} == {
            key: whole.common["training"][key] for key in kept
        }
    for role, given in paper.roles.items():
        rest = {key: value for key, value in given.items() if key != "base_url"}
        assert made.profile.roles[role] == {**rest, "base_url": f"http://127.0.0.1:1/{role}/v1"}
    (root / ".venv-vllm" / "bin").mkdir(parents=True)
    (root / ".venv-vllm" / "bin" / "python").touch()
    served = rehearse.derive(paper, [LLAMA, QWEN], url="http://127.0.0.1:1", root=root)
    assert served.served == f"paper/{QWEN}"
    engines = {name: served.profile.of(name).common["evaluation"]["engine"] for name in (LLAMA, QWEN)}
    assert engines == {LLAMA: "transformers", QWEN: "vllm"}


def one_more(value: dict[str, Any], model: str) -> None:
    value["models"].append({"model": model, "notebooks": {"09_thinking": {"pairs": []}}})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda value: one_more(value, "some/unheard-of-7B"),
         "model 'some/unheard-of-7B': its chat template is unknown here; record its pin by"),
        (lambda value: value["notebooks"].setdefault("07_reasoning", {}).update(reasoning_sets=[]),
         "params/mine.yaml: .*notebooks.07_reasoning.reasoning_sets: empty, an average over nothing, name a benchmark"),
    ],
)  # fmt: skip
def test_a_fault_of_the_profile_ends_a_rehearsal_before_anything(
    root: Path, no_notebooks: None, change: Any, sentence: str
) -> None:
    """As the preflight finds it; its tests plant every other one."""
    with pytest.raises(UserError, match=sentence) as caught:
        rehearse.run(planted(root, change), root=root)
    assert "\n" not in str(caught.value)


def test_a_template_that_opens_no_turn_ends_a_rehearsal(root: Path, no_notebooks: None, tiny: Path) -> None:
    shutil.copytree(tiny, root / "odd")
    (root / "odd" / "chat_template.jinja").write_text("{{ messages[0]['content'] }}", encoding="utf-8")
    profile = planted(root, lambda value: one_more(value, "odd"))
    with pytest.raises(UserError, match=r"its chat template is of an unknown kind, .*; correct the template"):
        rehearse.run(profile, ["odd"], root=root)


def test_what_only_the_real_run_lacks_is_said_and_refused_by_it(
    root: Path, no_notebooks: None, caplog: pytest.LogCaptureFixture
) -> None:
    """A key, a set and a disk: a rehearsal needs none of them, `make reproduce` refuses all before its first step."""
    said = ["roles.classifier: the environment variable OPENAI_API_KEY is not set, export your key in it",
            "notebooks.06_safety.safety_sets: JBB-Behaviors: not at hand; ",
            "GiB are free on its disk, the profile needs about"]  # fmt: skip
    with pytest.raises(Rehearsed):
        rehearse.run(planted(root), [LLAMA, QWEN], root=root)
    with pytest.raises(UserError, match=r"params/mine.yaml: the profile cannot run to its end") as caught:
        preflight.check(planted(root), mirror=str(root))
    for sentence in said[:2] if shutil.disk_usage(root).free / plan.GIB > 900 else said:
        assert f"{sentence}" in str(caught.value) and sentence in caplog.text


@pytest.mark.slow
def test_two_models_from_end_to_end(root: Path) -> None:
    """By make, as a user and CI run it: every notebook, no key, nothing fetched; a second time nothing is run again."""

    def fewer(value: dict[str, Any]) -> None:
        """A variant for every printed number of the two, on fewer sources."""
        value["models"] = [one for one in value["models"] if one["model"].endswith((LLAMA, QWEN))]
        llama, sections = value["models"][0]["notebooks"], value["notebooks"]
        del llama["10_over_refusal"]["variants"]["star1_with_released_benign"]
        del llama["05_sft"]["variants"]["star1_checkpoint"]
        del sections["05_sft"]["variants"]["star1_released"]
        sections["01_sources"]["train_sets"] = sections["01_sources"]["train_sets"][:8]
        del sections["11_figures"]["printed_roles"]
        for role in ("medium", "safechain_1k", "safechain_40k"):
            del sections["11_figures"]["claim_roles"]["reasoning"][role]

    planted(root, fewer)
    command = ["make", "--no-print-directory", "PROFILE=mine", "ENV=", f"PYTHON={sys.executable}", "rehearse"]
    kept = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL")}
    done = subprocess.run(command, cwd=root, env={**kept, "PYTHONPATH": str(root)}, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    build = root / "build" / f"mine{rehearse.SUFFIX}"
    page = (build / rehearse.PAGE).read_text(encoding="utf-8")
    assert page in done.stderr and f"two processes under FSDP2 (gloo): {LLAMA}, {QWEN}" in page
    assert "OPENAI_API_KEY is not set" in page and str(root) not in page
    for step in stages.steps(build.name, [LLAMA, QWEN]):
        assert (root / runner.executed(step.build, step.stage.name)).exists()
    printed = tables.read(build, "printed")
    assert {*printed["model"]} == {LLAMA, QWEN} and (printed["variant"] != "").all()
    launched = [path.parent.name for path in build.glob("*/models/star1-*/manifest.json")
                if json.loads(path.read_text(encoding="utf-8"))["config"]["launch"]]  # fmt: skip
    assert len(launched) == 2
