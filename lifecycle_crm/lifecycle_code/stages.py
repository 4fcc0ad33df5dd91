"""The shop's own words for its stages."""

from __future__ import annotations

from typing import Any

from lifecycle_crm.lifecycle_code.text import Document, Path, entries, keys, once
from stages.models import Stage, StageKey


def exported() -> list[dict[str, Any]]:
    own = {stage.key: stage for stage in Stage.objects.all()}
    return [
        {"key": key, "goal": own[key].goal, "playbook": list(own[key].playbook)}
        for key in StageKey.values
        if key in own
    ]


def canonical(document: Document) -> list[dict[str, Any]]:
    """The section as an export would write it."""
    place = {key: at for at, key in enumerate(StageKey.values)}
    ordered = sorted(document.data["stages"], key=lambda stage: place[stage["key"]])
    return [{"key": s["key"], "goal": s.get("goal") or "", "playbook": s.get("playbook") or []} for s in ordered]


def check(document: Document) -> None:
    """Raises ``BadFile``."""
    for index, stage in enumerate(entries(document, "stages")):
        path: Path = ("stages", index)
        keys(document, path, stage, ("key", "goal", "playbook"))
        if stage.get("key") not in StageKey.values:
            raise document.wrong(path, f"no stage {stage.get('key')!r}. Use one of: {', '.join(StageKey.values)}.")
        if not isinstance(stage.get("goal") or "", str) or len(stage.get("goal") or "") > 200:
            raise document.wrong((*path, "goal"), "the goal is a text of at most 200 characters.")
        playbook = stage.get("playbook") or []
        if not isinstance(playbook, list) or not all(isinstance(line, str) for line in playbook):
            raise document.wrong((*path, "playbook"), "the playbook is a list of texts.")
    once(document, "stages")


def load(document: Document, told: list[str]) -> None:
    known = {stage["key"]: stage for stage in exported()}
    for stage in canonical(document):
        if stage != known.get(stage["key"]):
            Stage.objects.filter(pk=stage["key"]).update(goal=stage["goal"], playbook=stage["playbook"])
            told.append(f"Stage {stage['key']}: goal and playbook are changed.")
