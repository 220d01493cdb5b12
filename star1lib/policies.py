"""The safety policies (paper 2.2): eight of them in this project's own words, or those of a user's own file.

The text is content and lies in `assets/policies.yaml`. Each policy has an objective, a one-sentence definition
(what the zero-shot tagger compares questions with), numbered rules, and sentences that such requests typically ask
for. A rule says what to do: refuse, safe-complete, redirect to help, or educate. Thinking traces quote a rule word
for word, so the scorer can check them.

A profile's `policies: FILE` puts another file of the same form in its place (the run exports its path as
`STAR1_POLICIES`): tagger, prompts, scorer and audit then speak of those policies and of no others, and hand-written
rows are read from the folder `corpus` beside that file, one `<slug>.jsonl` a policy.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError

from star1lib.errors import UserError
from star1lib.records import NonEmpty, Record, first_error

Action = Literal["refuse", "safe_complete", "redirect", "educate"]
OTHER = "Other"
VARIABLE = "STAR1_POLICIES"
DEFAULT = Path(__file__).parent / "assets" / "policies.yaml"


class Rule(Record):
    """One rule of a policy: its sentence, the action it asks for, and its id (`HAT-1`: prefix and place)."""

    text: NonEmpty
    action: Action
    id: str = ""


class Policy(Record):
    """One safety category: what a teacher reads (objective, rules) and what a tagger compares with."""

    category: NonEmpty
    prefix: str = Field(pattern=r"^[A-Z]{2,5}$")
    objective: NonEmpty
    definition: NonEmpty
    rules: tuple[Rule, ...] = Field(min_length=1)
    asks: tuple[NonEmpty, ...] = Field(min_length=1)
    slug: str | None = None

    def render(self) -> str:
        """The policy as the text that a teacher sees in its prompt."""
        lines = [f"Policy: {self.category}", f"Objective: {self.objective}"]
        lines += [f"- [{rule.id}] {rule.text}" for rule in self.rules]
        return "\n".join(lines)


class Policies(Record):
    """A whole file: the policies, and everyday topics that have nothing to do with any of them."""

    policies: tuple[Policy, ...] = Field(min_length=1)
    everyday: tuple[NonEmpty, ...] = Field(min_length=1)


def load(path: Path = DEFAULT) -> Policies:
    """Read a policy file and number its rules; raises :class:`UserError` naming file, field and remedy."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        reason = " ".join(str(err).split())[:160]
        raise UserError(f"{path}: not a readable YAML file ({reason}); name a policy file that is there.") from err
    try:
        found = Policies.model_validate(content)
    except ValidationError as err:
        raise UserError(f"{path}: {first_error(err)}; see star1lib/assets/policies.yaml for the form.") from err
    for kind in ("category", "prefix"):
        names = [getattr(policy, kind) for policy in found.policies]
        if len(set(names)) < len(names) or OTHER in names:
            raise UserError(f"{path}: every {kind} must be there once, and none may be '{OTHER}'; rename one.")
    return found.model_copy(update={"policies": tuple(_numbered(policy) for policy in found.policies)})


def _numbered(policy: Policy) -> Policy:
    rules = [rule.model_copy(update={"id": f"{policy.prefix}-{n}"}) for n, rule in enumerate(policy.rules, start=1)]
    return policy.model_copy(update={"rules": tuple(rules)})


SOURCE = Path(os.environ.get(VARIABLE) or DEFAULT)
_ACTIVE = load(SOURCE)
POLICIES: tuple[Policy, ...] = _ACTIVE.policies
EVERYDAY: tuple[str, ...] = _ACTIVE.everyday
BY_CATEGORY: dict[str, Policy] = {policy.category: policy for policy in POLICIES}
CATEGORIES: tuple[str, ...] = tuple(BY_CATEGORY)
RULES: dict[str, Rule] = {rule.id: rule for policy in POLICIES for rule in policy.rules}


def render(categories: list[str]) -> str:
    """The policies of `categories` as one prompt section; Other has no policy and adds nothing."""
    return "\n\n".join(BY_CATEGORY[name].render() for name in categories if name != OTHER)
