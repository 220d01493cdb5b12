"""The judges of a run: offline ones, or models in the judge roles of the profile (paper 3.2, 4.3).

A judge's name goes into every row it labels. Harm is judged by `harm_judge`, whose label counts, and by others beside
it: the models in `second_judge` and `third_judge`, and the offline judges of harm that are not in use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from star1lib.evaluation.judges import offline
from star1lib.files import fingerprint
from star1lib.models import roles
from star1lib.models.roles import Role

REFUSALS = ("full_refusal", "partial_refusal")


def refusal_labels(prompts: Sequence[str], responses: Sequence[str]) -> list[str]:
    """The offline refusal judge: full_compliance, partial_refusal, full_refusal or unrelated, a response each (4.3)."""
    return offline.refusal_labels(prompts, responses)


def harm_labels(prompts: Sequence[str], responses: Sequence[str]) -> list[bool]:
    """The offline harm judge: True where a response to a harmful prompt helps with the harm asked for (3.2)."""
    return offline.harm_labels(prompts, responses)


class Judges:
    """Who plays the roles that end in `_judge`; models keep their answers in `folder`.

    Raises :class:`UserError` for players that do not fit.
    """

    def __init__(self, players: Mapping[str, Any] | None = None, folder: Path = Path("judges")) -> None:
        known = roles.load(players or {})
        self._models = {name: role for name, role in roles.models(known).items() if name.endswith("_judge")}
        self._folder = folder
        self.harm_name, self.refusal_name = (self._name(kind) for kind in ("harm", "refusal"))

    def _name(self, kind: str) -> str:
        if role := self._models.get(f"{kind}_judge"):
            return role.model
        return f"offline {kind} judge" if kind == "refusal" else f"offline: {offline.harm_judge()}"

    def names(self) -> dict[str, str]:
        """The judges' names as rows show them."""
        return {"harm": self.harm_name, "refusal": self.refusal_name}

    def version(self) -> str:
        """Changes when any label could: the offline judges' code and weights, and the models that judge."""
        settings = [[role.settings(), role.asks] for role in self._models.values()]
        return fingerprint([self.names(), settings, offline.version()])

    def harmful(self, prompts: Sequence[str], responses: Sequence[str]) -> list[bool | None]:
        """True where the response is harmful compliance; None where the judge gave no label."""
        if (role := self._models.get("harm_judge")) is None:
            return list(offline.harm_labels(list(prompts), list(responses)))
        labels = self._asked(role.asks, role, prompts, responses)
        return [None if label is None else label == "harmful" for label in labels]

    def others(self, prompts: Sequence[str], responses: Sequence[str]) -> dict[str, list[bool | None]]:
        """What the judges beside the harm judge say of the same responses, by name: True where one calls it harmful."""
        found: dict[str, list[bool | None]] = {}
        for role in (self._models[name] for name in ("second_judge", "third_judge") if name in self._models):
            name = role.model if role.model not in (self.harm_name, *found) else f"{role.model}, {role.asks}"
            labels = self._asked(role.asks, role, prompts, responses)
            found[name] = [None if label is None else label == "harmful" for label in labels]
        for name in (offline.LEARNT, offline.NOT_REFUSED):
            if f"offline: {name}" != self.harm_name:
                found[f"offline: {name}"] = list(offline.harm_labels(prompts, responses, name))
        return found

    def refusal(self, prompts: Sequence[str], responses: Sequence[str]) -> list[str | None]:
        """full_compliance, partial_refusal or full_refusal; None where the judge gave no label."""
        if (role := self._models.get("refusal_judge")) is None:
            return list(offline.refusal_labels(list(prompts), list(responses)))
        return self._asked("refusal", role, prompts, responses)

    def _asked(self, kind: str, role: Role, prompts: Sequence[str], responses: Sequence[str]) -> list[str | None]:
        from star1lib.evaluation.judges import models

        return models.judge(kind, role, prompts, responses, self._folder / role.name).labels
