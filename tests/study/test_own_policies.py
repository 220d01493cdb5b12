"""A user's own two policies of another field, with their own rows, go through every notebook; no code changes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from copies import copied

from star1lib import files as io
from star1lib.errors import UserError
from star1lib.study import profiles
from star1lib.study import stages as study

OWN = Path(__file__).parents[1] / "medicine.yaml"
DOSE, PHARMACIST, ILLNESS, GENERAL = (
    rule["text"] for one in yaml.safe_load(OWN.read_text(encoding="utf-8"))["policies"] for rule in one["rules"]
)
MEDICINES = ("metoprolol", "warfarin", "amoxicillin", "sertraline", "insulin", "prednisone", "methotrexate", "digoxin")
SIGNS = (
    "a red rash",
    "chest pain",
    "night sweats",
    "blurred vision",
    "joint pain",
    "a dry cough",
    "numb toes",
    "hives",
)


def row(kind: str, category: str, question: str, thinking: str, answer: str, **other: object) -> dict[str, object]:
    action = "help" if kind == "benign" else "refuse"
    return {"kind": kind, "category": [category], "question": question, "action": action, "rules": [],
            "thinking": thinking, "answer": answer, **other}  # fmt: skip


def dosing(medicine: str) -> list[dict[str, object]]:
    asked = f"How many milligrams of {medicine} should my father take tonight?"
    thinking = (
        f'He asks for a number of milligrams of {medicine} for one man whom I can\'t examine. "{DOSE}" His kidneys, '
        "weight and other tablets decide it, and a wrong number harms him. I decline and name who can answer tonight."
    )
    answer = (
        f"I can't name a dose of {medicine} for your father. A pharmacist or the physician on call can, with his "
        "record in hand; please ring them tonight."
    )
    flawed = {
        "flaw": "contradiction",
        "thinking": f'The request is for a dose of {medicine}. "{DOSE}" So I refuse and send him to a pharmacist.',
        "answer": f"Sure, here is how: look at the leaflet of {medicine}, pick the middle number and give him that.",
    }
    kept = f"Where should I store {medicine} at home?"
    safe = (
        f'Storing {medicine} is not about anybody\'s dose. "{PHARMACIST}" That fits for doubts; the rest I can say in '
        "full: cool, dry, out of reach, in its box."
    )
    return [
        row("harmful", "Dosing", asked, thinking, answer, flawed=flawed),
        row("benign", "Dosing", kept, safe, f"Keep {medicine} in its box, cool, dry and out of children's reach; a "
            "pharmacist can say whether it belongs in the fridge.", variant_of=asked),
    ]  # fmt: skip


def diagnosis(sign: str) -> list[dict[str, object]]:
    asked = f"I have {sign} since Monday, which illness is it?"
    thinking = (
        f'Somebody describes {sign} and wants the name of the illness. "{ILLNESS}" Many causes look alike from here, '
        "and a guess may delay help. I decline to name one and say when to be seen."
    )
    answer = f"I can't tell you which illness you have. Please let a doctor look at {sign}, at once if it gets worse."
    taught = f"What does a doctor ask about {sign}?"
    safe = f'Wanting to be prepared is sensible. "{GENERAL}" So I list what is usually asked about {sign}.'
    return [
        row("harmful", "Diagnosis", asked, thinking, answer),
        row("benign", "Diagnosis", taught, safe, f"A doctor will ask since when you have {sign}, what makes it better "
            "or worse, which medicines you take, and whether it has happened before.", variant_of=asked),
    ]  # fmt: skip


@pytest.mark.real
def test_two_policies_of_another_field_go_through_every_notebook(tmp_path: Path, repository: Path) -> None:
    root = copied(repository, tmp_path / "star1")
    own = root / "medicine"
    own.mkdir()
    shutil.copy(OWN, own / "policies.yaml")
    io.write_jsonl(own / "corpus" / "dosing.jsonl", [made for name in MEDICINES for made in dosing(name)])
    io.write_jsonl(own / "corpus" / "diagnosis.jsonl", [made for name in SIGNS for made in diagnosis(name)])
    smoke = yaml.safe_load((root / "params" / "smoke.yaml").read_text(encoding="utf-8"))
    io.write_text(root / "params" / "medicine.yaml", yaml.safe_dump({**smoke, "policies": "medicine/policies.yaml"}))
    without_mirror = {key: value for key, value in os.environ.items() if key != "STAR1_DATA"}
    for command in (["graph"], *(["run", stage.name] for stage in study.STAGES), ["report"]):
        done = subprocess.run(
            [sys.executable, "-m", "star1lib", command[0], "--profile", "medicine", *command[1:]],
            cwd=root, env={**without_mirror, "PYTHONPATH": str(root)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stderr[-2000:])
    build = root / "build" / "medicine"
    selected = io.read_jsonl(build / "04_selection" / "selected.jsonl")
    assert {name for chosen in selected for name in chosen["category"]} == {"Dosing", "Diagnosis"}
    rejected = [r for r in io.read_jsonl(build / "04_selection" / "scored.jsonl") if r["meta"].get("flaw")]
    assert rejected and not {r["thinking"] for r in rejected} & {r["thinking"] for r in selected}
    page = (build / "report" / "index.html").read_text(encoding="utf-8")
    assert "Dosing" in page and "Self-Harm" not in page


def test_rows_that_are_missing_are_one_sentence_before_work(tmp_path: Path, repository: Path) -> None:
    copied(repository, tmp_path, "notebooks", "params")
    shutil.copy(OWN, tmp_path / "mine.yaml")
    io.write_text(tmp_path / "params" / "mine.yaml", "about: mine\npolicies: mine.yaml\n")
    with pytest.raises(UserError, match=r"corpus/dosing\.jsonl"):
        profiles.check(profiles.load("mine", tmp_path), tmp_path)
