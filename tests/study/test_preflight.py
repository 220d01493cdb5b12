"""Planted faults are found before the first paid step, and a profile that can run is let through."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from copies import copied

from star1lib.errors import UserError
from star1lib.study import preflight, profiles


@pytest.fixture
def root(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return copied(repository, tmp_path, "notebooks", "params")


def planted(root: Path, **changes: Any) -> profiles.Profile:
    """The smoke profile of two models with settings changed by their dotted path (`a__b`)."""
    value = yaml.safe_load((root / "params" / "smoke.yaml").read_text(encoding="utf-8"))
    value["models"] = [{"model": "tiny", "name": "first"}, {"model": "tiny", "name": "second"}]
    for path, change in changes.items():
        *way, last = path.split("__")
        place = value
        for part in way:
            place = place.setdefault(part, {})
        place[last] = change
    (root / "params" / "mine.yaml").write_text(yaml.safe_dump(value), encoding="utf-8")
    profile = profiles.load("mine", root)
    profiles.check(profile, root)
    return profile


def test_a_profile_that_can_run_is_let_through(root: Path) -> None:
    preflight.check(planted(root))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"notebooks__06_safety__safety_sets": ["JBB-Behaviors"]}, "JBB-Behaviors: not at hand"),
        ({"notebooks__05_sft__variants": {"star1": {"pool": "SafeChain"}, "star1_no_thinking": {}, "plain_star1": {}}},
         "SafeChain: not at hand"),
        ({"notebooks__10_over_refusal__variants": {"star1_with_benign": {"benign": 9}}},
         "star1_with_benign: 9 benign variants asked for, at most 8 can come"),
        ({"notebooks__07_reasoning__reasoning_sets": []}, "reasoning_sets: empty, an average over nothing"),
        ({"roles": {"scorer": {"model": "openai/gpt-4o-2024-11-20"}}}, "OPENAI_API_KEY is not set"),
        ({"roles": {"teacher": {"model": "openai-api/deepseek/r1", "base_url": "https://x.example/v1"}}},
         "DEEPSEEK_API_KEY is not set"),
        ({"common__training__launch": "params/accelerate/none.yaml"}, "training.launch: .*none.yaml does not exist"),
        ({"common__training__launch": "params/accelerate/fsdp2.yaml"}, "training.launch: there is no GPU here"),
        ({"notebooks__01_sources__train_sets": ["GPTFuz"]}, "01_sources.train_sets: .* did you mean 'GPTFuzz'"),
        ({"common__evaluation__engine": "vllm"}, "run `make serve` once"),
        ({"notebooks__05_sft__variants__theirs": {"checkpoint": "owner/model"}}, "no pin of a hub model recorded"),
    ],
)  # fmt: skip
def test_planted_faults(root: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], sentence: str) -> None:
    for variable in ("OPENAI_API_KEY", "DEEPSEEK_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(preflight.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=rf"^params/mine.yaml: .*{sentence}") as caught:
        preflight.check(planted(root, **changes))
    assert "\n" not in str(caught.value)


def test_an_unknown_template_is_found(root: Path, tiny: Path) -> None:
    for name, template in (("none", None), ("odd", "{{ messages[0]['content'] }}")):
        folder = root / name
        shutil.copytree(tiny, folder)
        (folder / "chat_template.jinja").unlink(missing_ok=True)
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        settings = {key: value for key, value in settings.items() if key != "chat_template"}
        if template:
            settings["chat_template"] = template
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
        profile = planted(root, models=[{"model": str(folder), "name": "mine"}])
        with pytest.raises(UserError, match=r"no chat template|of an unknown kind"):
            preflight.check(profile)


def test_an_architecture_that_writes_no_text_is_found(root: Path, tiny: Path) -> None:
    shutil.copytree(tiny, root / "other")
    (root / "other" / "config.json").write_text('{"model_type": "t5"}', encoding="utf-8")
    (root / "other" / "model.safetensors").touch()
    with pytest.raises(UserError, match="model 'other': its architecture, t5, is no causal language model"):
        preflight.check(planted(root, models=[{"model": "other", "name": "mine", "billions": 1}]))


def test_everything_is_said_at_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    changes = {"roles": {"scorer": {"model": "openai/m"}}, "notebooks__07_reasoning__reasoning_sets": []}
    with pytest.raises(UserError, match=r"an average over nothing, .*; roles.scorer: .*OPENAI_API_KEY is not set"):
        preflight.check(planted(root, **changes))
