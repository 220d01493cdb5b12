"""The judges of a run by name: offline ones, or models in the judge roles of the profile (paper 3.2).

`harm`: "offline", "llama-guard-3" or "rubric". `refusal`: "offline" or "gpt-4" (any model in the
refusal judge's role). A judge's name goes into every row it labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from star1lib.errors import UserError
from star1lib.evaluation.judges import offline
from star1lib.files import fingerprint
from star1lib.models.roles import load as load_roles

OFFLINE = "offline"
_HARM = {"llama-guard-3": "llama_guard", "rubric": "harm_rubric"}
_REFUSAL = {"gpt-4": "refusal"}


def refusal_labels(prompts: Sequence[str], responses: Sequence[str]) -> list[str]:
    """The offline refusal judge: full_compliance, partial_refusal, full_refusal or unrelated, a response each (4.3)."""
    return offline.refusal_labels(prompts, responses)


def harm_labels(prompts: Sequence[str], responses: Sequence[str]) -> list[bool]:
    """The offline harm judge: True where a response helps with the harm asked for (3.2)."""
    return offline.harm_labels(prompts, responses)


class Judges:
    """A harm judge and a refusal judge; raises :class:`UserError` for a name it does not know."""

    def __init__(
        self, names: Mapping[str, str], *, roles: Mapping[str, Any] | None = None, journals: Path | None = None
    ) -> None:
        self._harm = names.get("harm", OFFLINE)
        self._refusal = names.get("refusal", OFFLINE)
        if self._harm not in (OFFLINE, *_HARM):
            raise UserError(
                f"judges.harm '{self._harm}': known are {OFFLINE}, {', '.join(_HARM)}; correct the profile."
            )
        if self._refusal not in (OFFLINE, *_REFUSAL):
            raise UserError(f"judges.refusal '{self._refusal}': known are {OFFLINE}, gpt-4; correct the profile.")
        self._roles = load_roles(roles or {}) if (self._harm, self._refusal) != (OFFLINE, OFFLINE) else {}
        self._journals = journals or Path("judges")
        self.harm_name = f"{OFFLINE} harm judge" if self._harm == OFFLINE else self._model("harm_judge")
        self.refusal_name = f"{OFFLINE} refusal judge" if self._refusal == OFFLINE else self._model("refusal_judge")

    def _model(self, role: str) -> str:
        if role not in self._roles:
            raise UserError(f"judges: the profile has no role '{role}'; add it under roles, or name the offline judge.")
        return str(self._roles[role].model)

    def names(self) -> dict[str, str]:
        """The judges' names as rows show them."""
        return {"harm": self.harm_name, "refusal": self.refusal_name}

    def version(self) -> str:
        """Changes when any label could: the offline judges' code and weights, and the models that judge."""
        return fingerprint([self.names(), offline.version()])

    def harmful(self, prompts: Sequence[str], responses: Sequence[str]) -> list[bool | None]:
        """True where the response is harmful compliance; None where the judge gave no label."""
        if self._harm == OFFLINE:
            return list(offline.harm_labels(list(prompts), list(responses)))
        labels = self._asked(_HARM[self._harm], "harm_judge", prompts, responses)
        return [None if label is None else label == "harmful" for label in labels]

    def refusal(self, prompts: Sequence[str], responses: Sequence[str]) -> list[str | None]:
        """full_compliance, partial_refusal or full_refusal; None where the judge gave no label."""
        if self._refusal == OFFLINE:
            return list(offline.refusal_labels(list(prompts), list(responses)))
        return self._asked(_REFUSAL[self._refusal], "refusal_judge", prompts, responses)

    def _asked(self, kind: Any, role: str, prompts: Sequence[str], responses: Sequence[str]) -> list[str | None]:
        from star1lib.evaluation.judges import models

        journal = self._journals / f"{role}.journal"
        return models.judge(kind, self._roles[role], prompts, responses, journal).labels
