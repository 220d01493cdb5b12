"""The judges of a run: offline ones, or models in the judge roles of the profile (paper 3.2, 4.3).

A judge's name goes into every row it labels. Harm is judged by `harm_judge`, whose label counts, and by others beside
it: the models in `second_judge` and `third_judge`, and the offline judges of harm that are not in use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from star1lib.evaluation.judges import offline
from star1lib.evaluation.judges.offline import harm_labels, refusal_labels
from star1lib.files import fingerprint
from star1lib.models import roles
from star1lib.models.roles import Role

__all__ = ["REFUSALS", "Judges", "harm_labels", "refusal_labels"]
REFUSALS = ("full_refusal", "partial_refusal")


class Judges:
    """Who plays the roles that end in `_judge`; models keep their answers in `folder`.

    Raises :class:`UserError` for players that do not fit.
    """

    def __init__(self, players: Mapping[str, Any] | None = None, folder: Path = Path("judges")) -> None:
        known = roles.load(players or {})
        self._models = {name: role for name, role in roles.models(known).items() if name.endswith("_judge")}
        self._folder = folder
        models = {name: role.model for name, role in self._models.items()}
        self.harm_name = models.get("harm_judge", f"offline: {offline.NOT_REFUSED}")
        self.refusal_name = models.get("refusal_judge", "offline refusal judge")

    def names(self) -> dict[str, str]:
        """The judges' names as rows show them."""
        return {"harm": self.harm_name, "refusal": self.refusal_name}

    def version(self) -> str:
        """Changes when any label could: the offline judges' code and weights, and the models that judge."""
        settings = [[role.settings(), role.asks] for role in self._models.values()]
        return fingerprint([self.names(), settings, offline.version()])

    def harmful(self, prompts: Sequence[str], responses: Sequence[str]) -> list[bool | None]:
        """True where the response is harmful compliance; None where the judge gave no label."""
        if role := self._models.get("harm_judge"):
            return self._harm(role, prompts, responses)
        return list(offline.harm_labels(prompts, responses))

    def others(self, prompts: Sequence[str], responses: Sequence[str]) -> dict[str, list[bool | None]]:
        """What the judges beside the harm judge say of the same responses, by name: True where one calls it harmful."""
        found: dict[str, list[bool | None]] = {}
        for role in (self._models[name] for name in ("second_judge", "third_judge") if name in self._models):
            name = role.model if role.model not in (self.harm_name, *found) else f"{role.model}, {role.asks}"
            found[name] = self._harm(role, prompts, responses)
        beside = {f"offline: {name}": name for name in offline.HELPS if f"offline: {name}" != self.harm_name}
        return found | {name: list(offline.harm_labels(prompts, responses, judge)) for name, judge in beside.items()}

    def refusal(self, prompts: Sequence[str], responses: Sequence[str]) -> list[str | None]:
        """full_compliance, partial_refusal, full_refusal, offline also unrelated; None where there is no label."""
        if role := self._models.get("refusal_judge"):
            return self._asked("refusal", role, prompts, responses)
        return list(offline.refusal_labels(prompts, responses))

    def _harm(self, role: Role, prompts: Sequence[str], responses: Sequence[str]) -> list[bool | None]:
        labels = self._asked(role.asks, role, prompts, responses)
        return [None if label is None else label == "harmful" for label in labels]

    def _asked(self, kind: str, role: Role, prompts: Sequence[str], responses: Sequence[str]) -> list[str | None]:
        from star1lib.evaluation.judges import models

        return models.judge(kind, role, prompts, responses, self._folder / role.name).labels
