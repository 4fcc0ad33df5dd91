"""Loyalty programmes: their terms, tiers and earning rules. Who is in them and what they earned is no code."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import DomainError
from lifecycle_crm.lifecycle_code.text import Document, Path, entries, keys, needs, once
from loyalty import programme as programmes
from loyalty import rules, tiers
from loyalty.models import EarningRule, Ladder, Programme

_TERMS = (
    "name", "joining", "fee_minor", "term_months", "about", "position", "pending_days", "expiry_months",
    "value_minor_per_100",
)  # fmt: skip
_PROGRAMME = ("key", "kind", "is_active", *_TERMS, "tiers", "rules")
_LADDER = ("measure", "window", "window_months", "grace_days", "step_down")
_STEP = ("key", "name", "threshold", "benefits", "perks")
_RULE = ("key", "kind", *rules.FIELDS)


def exported() -> list[dict[str, Any]]:
    """Every programme, the main one first; of each what differs from a new one."""
    rows = Programme.objects.order_by("position", "key").prefetch_related("tiers").select_related("ladder")
    return [_said(row) for row in rows]


def _said(row: Programme) -> dict[str, Any]:
    told = {name: str(value) if isinstance(value := getattr(row, name), str) else value for name in _PROGRAMME[:-2]}
    ladder: Ladder | None = getattr(row, "ladder", None)
    steps = sorted(row.tiers.all(), key=lambda tier: tier.threshold)
    if ladder is not None and steps:
        told["tiers"] = {name: getattr(ladder, name) for name in _LADDER} | {
            "steps": [{name: getattr(tier, name) for name in _STEP} for tier in steps]
        }
    told["rules"] = [_rule(one) for one in rules.in_force(row).order_by("position", "key")]
    return told


def _rule(row: EarningRule) -> dict[str, Any]:
    """A rule by what it says; empty parts are left out, and so is the moment from which it has held here."""
    told: dict[str, Any] = {"key": row.key, "kind": row.kind}
    for name in rules.FIELDS:
        value = getattr(row, name)
        if name == "segment":
            value = row.segment.key if row.segment else None
        elif name in ("starts_at", "ends_at"):
            is_ahead = value is not None and value > clock.now()
            value = value.isoformat() if is_ahead else None
        if name in ("name", "position") or value not in _EMPTY[name]:
            told[name] = value
    return told


_EMPTY: dict[str, tuple[Any, ...]] = {name: (None, "", []) for name in rules.FIELDS} | {
    "points": (0,),
    "percent": (100,),
}


def canonical(document: Document) -> list[dict[str, Any]]:
    """The section as an export would write it."""
    found = []
    for one in document.data["programmes"]:
        fresh = Programme(kind=one.get("kind", Programme.Kind.POINTS))
        told = {name: one.get(name, _default(fresh, name)) for name in _PROGRAMME[:-2]}
        if ladder := one.get("tiers"):
            told["tiers"] = {name: ladder.get(name, getattr(Ladder(), name)) for name in _LADDER} | {
                "steps": [
                    {name: step.get(name) for name in _STEP[:-2]} | {name: step.get(name) or [] for name in _STEP[-2:]}
                    for step in sorted(ladder.get("steps") or [], key=lambda step: step["threshold"])
                ]
            }
        told["rules"] = sorted(map(_canonical_rule, one.get("rules") or []), key=lambda r: (r["position"], r["key"]))
        found.append(told)
    return sorted(found, key=lambda one: (one["position"], one["key"]))


def _default(fresh: Programme, name: str) -> Any:
    if name == "joining" and fresh.kind != Programme.Kind.POINTS:
        return Programme.Joining.ASKED.value
    value = getattr(fresh, name)
    return str(value) if isinstance(value, str) else value


def _canonical_rule(one: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"key": one["key"], "kind": one["kind"]}
    for name in rules.FIELDS:
        value = one.get(name, 100 if name == "position" else None)
        if name in ("name", "position") or (value is not None and value not in _EMPTY[name]):
            told[name] = value
    return told


def check(document: Document) -> None:
    """Raises ``BadFile`` for what the file alone can tell; the verbs know the rest."""
    for index, one in enumerate(entries(document, "programmes")):
        path: Path = ("programmes", index)
        keys(document, path, one, _PROGRAMME)
        needs(document, path, one, "a programme", {"key": str, "name": str})
        if one.get("kind", "points") not in Programme.Kind.values:
            raise document.wrong(
                (*path, "kind"), f"no kind {one['kind']!r}. Use one of: {', '.join(Programme.Kind.values)}."
            )
        for name, wanted in (("position", int), ("is_active", bool), ("about", str), ("joining", str)):
            if name in one and type(one[name]) is not wanted:
                what = {int: "a whole number", bool: "true or false", str: "a text"}[wanted]
                raise document.wrong((*path, name), f"{name} is {what}, found {one[name]!r}.")
        if (ladder := one.get("tiers")) is not None:
            keys(document, (*path, "tiers"), ladder, (*_LADDER, "steps"))
            for place, step in enumerate(_list(document, (*path, "tiers", "steps"), ladder.get("steps"))):
                keys(document, (*path, "tiers", "steps", place), step, _STEP)
                needs(document, (*path, "tiers", "steps", place), step, "a tier", {"name": str, "threshold": int})
        seen: set[str] = set()
        for place, rule in enumerate(_list(document, (*path, "rules"), one.get("rules"))):
            keys(document, (*path, "rules", place), rule, _RULE)
            needs(document, (*path, "rules", place), rule, "an earning rule", {"key": str, "kind": str, "name": str})
            if type(rule.get("position", 0)) is not int:
                raise document.wrong((*path, "rules", place, "position"), "position is a whole number.")
            if rule["key"] in seen:
                raise document.wrong((*path, "rules", place), f"{rule['key']!r} is there twice. Keep one of the two.")
            seen.add(rule["key"])
    once(document, "programmes")


def _list(document: Document, path: Path, found: Any) -> list[Any]:
    if found is None:
        return []
    if not isinstance(found, list):
        raise document.wrong(path, f"{path[-1]} is a list: start each entry with a dash.")
    return found


def load(document: Document, actor: User | None, told: list[str]) -> None:
    """Make and change programmes; rules that the file leaves out of a programme it names are stopped.

    Programmes that the file does not name stay.
    """
    known = {one["key"]: one for one in exported()}
    place = {one["key"]: index for index, one in enumerate(entries(document, "programmes"))}
    for one in canonical(document):
        key = one["key"]
        if one == known.get(key):
            continue
        try:
            _load(one, known.get(key), actor)
        except DomainError as problem:
            raise document.wrong(("programmes", place[key]), problem.message) from None
        told.append(f"Programme {key}: {'changed' if key in known else 'new'}.")


def _load(one: dict[str, Any], before: dict[str, Any] | None, actor: User | None) -> None:
    terms = {name: one[name] for name in _TERMS}
    if before is None:
        row = programmes.create(key=one["key"], kind=one["kind"], **terms)
    else:
        row = programmes.get(one["key"])
        changed = {name: value for name, value in terms.items() if value != before[name]}
        if one["kind"] != row.kind:
            changed["kind"] = one["kind"]  # refused, in the verb's words
        row = programmes.edit(programme=row, **changed)
    if one["is_active"] != row.is_active:
        row = (programmes.start if one["is_active"] else programmes.stop)(programme=row)
    wanted = {rule["key"]: rule for rule in one["rules"]}
    current = {rule.key: rule for rule in rules.in_force(row)}
    for key in current.keys() - wanted.keys():
        rules.stop(rule=current[key])
    if one.get("tiers") != (before or {}).get("tiers"):
        ladder = dict(one.get("tiers") or {"steps": []})
        steps = [
            tiers.Step(s["name"], s["threshold"], s["benefits"], s["key"] or "", s["perks"])
            for s in ladder.pop("steps")
        ]
        tiers.set_ladder(programme=row, steps=steps, **ladder)
    for key, rule in wanted.items():
        if key not in current:
            _revive(row, rule, actor)
        elif _rule(current[key]) != rule:
            rules.edit(rule=current[key], actor=actor, **_values(rule, is_new=False))


def _values(rule: dict[str, Any], *, is_new: bool) -> dict[str, Any]:
    """All fields as the verbs take them: what the file leaves out is empty."""
    empty: dict[str, Any] = {name: options[0] for name, options in _EMPTY.items()}
    empty |= dict.fromkeys(("subject", "property", "weekdays", "limit_per"), "")
    empty |= {name: [] for name in ("dates", "tiers", "stages", "channels")}
    values = {**empty, **{name: value for name, value in rule.items() if name not in ("key", "kind")}}
    for name in ("starts_at", "ends_at"):
        if isinstance(values[name], str):
            values[name] = datetime.fromisoformat(values[name])
    if is_new and values["starts_at"] is None:
        del values["starts_at"]  # from now on
    return values


def _revive(row: Programme, rule: dict[str, Any], actor: User | None) -> None:
    """A new rule; or one that was stopped before, as its next version."""
    stopped = row.rules.filter(key=rule["key"], is_current=True).first()
    if stopped is not None and stopped.kind == rule["kind"]:
        rules.edit(rule=stopped, actor=actor, **_values(rule, is_new=False))
        return
    rules.create(programme=row, key=rule["key"], kind=rule["kind"], actor=actor, **_values(rule, is_new=True))
