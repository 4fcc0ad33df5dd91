"""Earning rules: add, change, stop. A change is a new version from now on; nothing that was earned is computed again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.text import slugify
from django.utils.translation import gettext as _

from customers.models import Segment
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import clock, keys
from lifecycle_crm.lib.errors import Conflict, InvalidInput, NotFound
from loyalty.models import EarningRule, Programme
from stages.models import StageKey

Kind = EarningRule.Kind
MOST = 10**6
MOST_PER = 10**9
MOST_PERCENT = 10_000
MOST_RULES = 60

FIELDS = (
    "name", "subject", "property", "points", "per", "percent", "weekdays", "dates", "segment", "tiers", "stages",
    "channels",
    "limit_points", "limit_times", "limit_per", "starts_at", "ends_at", "position",
)  # fmt: skip
NEEDS_SUBJECT = frozenset({Kind.PRODUCT, Kind.CATEGORY, Kind.EVENT, Kind.STAGE})
MAY_HAVE_SUBJECT = NEEDS_SUBJECT | {Kind.REFERRAL, Kind.REVIEW, Kind.SURVEY, Kind.MULTIPLIER}
OF_ORDERS = frozenset({Kind.AMOUNT, Kind.ORDER, Kind.PRODUCT, Kind.CATEGORY, Kind.FIRST_ORDER})
MOST_CHANNELS = 20
MAY_HAVE_PER = frozenset({Kind.AMOUNT, Kind.PRODUCT, Kind.CATEGORY, Kind.EVENT})


class BadRule(InvalidInput):
    """A rule that makes no sense; the sentence says which part and what to write instead."""

    code = "bad_rule"


class UnknownRule(NotFound):
    code = "unknown_rule"


class RuleChanged(Conflict):
    code = "rule_changed"


def get(pk: int) -> EarningRule:
    """The version of this id. Raises ``UnknownRule``."""
    found = EarningRule.objects.select_related("programme", "segment").filter(pk=pk).first() if pk < 2**63 else None
    if found is None:
        raise UnknownRule(_("There is no such rule. Choose one of the list of rules."))
    return found


def in_force(programme: Programme, moment: datetime | None = None) -> QuerySet[EarningRule]:
    """The versions that hold at a moment (now), or will from a later one on."""
    at = moment or clock.now()
    return programme.rules.select_related("segment").filter(is_current=True).exclude(ends_at__lte=at)


def overlapping(rule: EarningRule, others: Iterable[EarningRule] | None = None) -> list[EarningRule]:
    """The rules of the programme that give points for the very same thing to people whom this rule reaches, too: both pay.

    Of multipliers the larger one counts, so they never pay twice. Two segments may share people, so they count as meeting.
    """
    if rule.kind == Kind.MULTIPLIER:
        return []
    same = [
        one
        for one in (in_force(rule.programme) if others is None else others)
        if one.key != rule.key and one.kind == rule.kind and one.property == rule.property
    ]
    return [
        one
        for one in same
        if (one.subject == rule.subject or not one.subject or not rule.subject)
        and _meet(one.tiers, rule.tiers)
        and _meet(one.stages, rule.stages)
        and _meet(one.channels, rule.channels)
        and _meet(one.weekdays, rule.weekdays)
        and _meet([text[-5:] for text in one.dates], [text[-5:] for text in rule.dates])
        and not (one.ends_at is not None and rule.starts_at is not None and one.ends_at <= rule.starts_at)
        and not (rule.ends_at is not None and one.starts_at is not None and rule.ends_at <= one.starts_at)
    ]


def _meet(one: Iterable[str], other: Iterable[str]) -> bool:
    """Whether two conditions can hold at once; an empty one always does."""
    return not set(one) or not set(other) or bool(set(one) & set(other))


# --- Verbs ------------------------------------------------------------------------------------------------------------


def create(
    *, programme: Programme, kind: str, name: str, key: str = "", actor: User | None = None, **values: Any
) -> EarningRule:
    """A new rule, holding from ``starts_at`` (default: now; give ``None`` for "since ever", which history earns by).

    ``values`` are fields of ``EarningRule``. Raises ``BadRule`` with the field it is about, and ``Conflict`` for a key
    that is taken.
    """
    values.setdefault("starts_at", clock.now())
    rule = EarningRule(programme=programme, kind=kind, created_by=actor, **_known(values, name=name))
    check(rule)
    if in_force(programme).count() >= MOST_RULES:
        raise BadRule(_("A programme has at most %(most)s rules. Stop one first.") % {"most": MOST_RULES})
    rule.key = _key(programme, key, rule.name)
    try:
        with transaction.atomic():
            rule.save(force_insert=True)
    except IntegrityError:
        raise Conflict(_("There is a rule with the key “%(key)s”. Choose another.") % {"key": rule.key}) from None
    return rule


def edit(*, rule: EarningRule, actor: User | None = None, **values: Any) -> EarningRule:
    """The rule as a new version that holds from now on (or from a later ``starts_at``); the old one ends there.

    Returns the same row if nothing differs. Raises ``BadRule``, and ``RuleChanged`` if this is not the current version.
    """
    if not rule.is_current:
        raise RuleChanged(_("Somebody changed or stopped this rule meanwhile. Open it again, then make your change."))
    now = clock.now()
    merged = {name: getattr(rule, name) for name in FIELDS} | _known(values, name=values.get("name", rule.name))
    if all(getattr(rule, name) == value for name, value in merged.items()):
        return rule
    starts = merged["starts_at"]
    merged["starts_at"] = starts if starts is not None and starts > now else now
    made = EarningRule(
        programme=rule.programme, key=rule.key, kind=rule.kind, version=rule.version + 1, created_by=actor, **merged
    )
    check(made)
    with transaction.atomic():
        if not _end(rule, made.starts_at or now, is_current=False):
            raise RuleChanged(
                _("Somebody changed or stopped this rule meanwhile. Open it again, then make your change.")
            )
        made.save(force_insert=True)
    return made


def drafted(programme: Programme, kind: str, values: dict[str, Any], rule: EarningRule | None = None) -> EarningRule:
    """The rule as it would be, new or a change of ``rule``: checked like one that is saved, and not saved."""
    known = {name: getattr(rule, name) for name in FIELDS} if rule else {}
    given = _known(values, name=values.get("name") or (rule.name if rule else ""))
    draft = EarningRule(
        programme=programme, kind=rule.kind if rule else kind, key=rule.key if rule else "", **{**known, **given}
    )
    check(draft)
    return draft


def stop(*, rule: EarningRule) -> EarningRule:
    """Nothing is earned by it from now on. What was earned stays. A rule that was replaced raises ``RuleChanged``."""
    if not rule.is_current:
        raise RuleChanged(_("This version was replaced. Stop the current one."))
    _end(rule, clock.now(), is_current=True)
    rule.refresh_from_db()
    return rule


def _end(rule: EarningRule, moment: datetime, *, is_current: bool) -> bool:
    """End a version at a moment, or earlier where it has ended or never began; false if it was replaced meanwhile."""
    end = moment if rule.ends_at is None else min(moment, rule.ends_at)
    if rule.starts_at is not None:
        end = max(end, rule.starts_at)
    found = EarningRule.objects.filter(pk=rule.pk, is_current=True)
    return found.update(ends_at=end, is_current=is_current) == 1


# --- What makes sense ---------------------------------------------------------------------------------------------------


def check(rule: EarningRule) -> None:
    """Raises ``BadRule`` for the first thing that makes no sense."""
    kind = rule.kind
    if kind not in Kind.values:
        raise BadRule(_("Unknown kind “%(kind)s”. Use one of: %(kinds)s.") % {"kind": kind, "kinds": ", ".join(Kind)})
    if rule.programme.kind != Programme.Kind.POINTS:
        raise BadRule(_("%(name)s has no points. Add the rule to a points programme.") % {"name": rule.programme.name})
    rule.name = " ".join((rule.name or "").split())
    if not 0 < len(rule.name) <= 80:
        raise BadRule(_("A rule needs a name of 1 to 80 characters."), field="name")
    if kind == Kind.MULTIPLIER:
        _whole(rule.percent, "percent", 101, MOST_PERCENT, _("A multiplier gives more: from 101 to 10000 percent."))
        rule.points, rule.per = 0, None
    else:
        _whole(rule.points, "points", 1, MOST, _("Points must be a whole number from 1 to 1000000."))
        rule.percent = 100
    if rule.per is not None:
        if kind not in MAY_HAVE_PER or (kind == Kind.EVENT and not rule.property):
            raise BadRule(
                _("“For each” belongs to amounts and to a property of an event. Leave it empty."), field="per"
            )
        _whole(rule.per, "per", 1, MOST_PER, _("“For each” must be a whole number from 1 to 1000000000."))
    if kind == Kind.AMOUNT and rule.per is None:
        raise BadRule(_("Say for which amount the points are given, such as 10.00."), field="per")
    _subject(rule)
    _time(rule)
    _people(rule)
    _channels(rule)
    _limits(rule)
    _whole(rule.position, "position", 0, 10_000, _("The order must be a whole number from 0 to 10000."))


def _whole(value: Any, field: str, low: int, high: int, sentence: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadRule(sentence, field=field)


def _subject(rule: EarningRule) -> None:
    rule.subject, rule.property = (rule.subject or "").strip(), (rule.property or "").strip()
    if rule.kind in NEEDS_SUBJECT and not rule.subject:
        raise BadRule(_("Say what it is about: a SKU, a category, the name of an event, or a stage."), field="subject")
    if rule.subject and rule.kind not in MAY_HAVE_SUBJECT:
        raise BadRule(_("This kind of rule is about all of them. Leave “of what” empty."), field="subject")
    if len(rule.subject) > 120:
        raise BadRule(_("“Of what” has at most 120 characters."), field="subject")
    if rule.kind == Kind.STAGE and rule.subject not in StageKey.values:
        raise BadRule(
            _("“%(stage)s” is no stage. Use one of: %(stages)s.")
            % {"stage": rule.subject, "stages": ", ".join(StageKey.values)},
            field="subject",
        )
    if rule.property and rule.kind != Kind.EVENT:
        raise BadRule(_("Only an event has a property to count by. Leave it empty."), field="property")
    if len(rule.property) > 80:
        raise BadRule(_("A property has at most 80 characters."), field="property")


def _time(rule: EarningRule) -> None:
    days = "".join(sorted(set(rule.weekdays or "")))
    if set(days) - set("1234567"):
        raise BadRule(_("Weekdays are digits from 1 (Monday) to 7 (Sunday), such as 67."), field="weekdays")
    rule.weekdays = days
    if not isinstance(rule.dates, list) or len(rule.dates) > 60:
        raise BadRule(_("Dates are a list of at most 60."), field="dates")
    for text in rule.dates:
        try:
            if not isinstance(text, str) or len(text) not in (5, 10):
                raise ValueError
            date.fromisoformat(text if len(text) == 10 else f"2024-{text}")
        except ValueError:
            raise BadRule(
                _("“%(text)s” is no date. Write 2026-12-24, or 12-24 for every year.") % {"text": text}, field="dates"
            ) from None
    if rule.weekdays and rule.dates:
        raise BadRule(_("Choose weekdays or dates, not both. Make two rules for both."), field="dates")
    if rule.starts_at is not None and rule.ends_at is not None and rule.ends_at <= rule.starts_at:
        raise BadRule(_("The rule would end before it begins."), field="ends_at")


def _people(rule: EarningRule) -> None:
    for field, known, what in (
        ("tiers", set(rule.programme.tiers.values_list("key", flat=True)) if rule.tiers else set(), _("tier")),
        ("stages", set(StageKey.values), _("stage")),
    ):
        values: Sequence[Any] = getattr(rule, field)
        if not isinstance(values, list):
            raise BadRule(_("Give a list."), field=field)
        if unknown := [value for value in values if value not in known]:
            raise BadRule(
                _("%(name)s has no %(what)s “%(value)s”.")
                % {"name": rule.programme.name, "what": what, "value": unknown[0]},
                field=field,
            )
    if rule.segment is not None and rule.segment.archived_at is not None:
        raise BadRule(
            _("The segment “%(name)s” is archived. Choose another.") % {"name": rule.segment.name}, field="segment"
        )


def is_about_orders(rule: EarningRule) -> bool:
    """Whether what earns by it is an order, which has come through a channel."""
    return rule.kind in OF_ORDERS or (rule.kind == Kind.MULTIPLIER and not rule.subject)


def _channels(rule: EarningRule) -> None:
    values = rule.channels
    if not isinstance(values, list) or len(values) > MOST_CHANNELS:
        raise BadRule(_("Channels are a list of at most %(most)s.") % {"most": MOST_CHANNELS}, field="channels")
    if any(not isinstance(one, str) or not 0 < len(one) <= 40 for one in values):
        raise BadRule(_("A channel is the source of orders, of 1 to 40 characters."), field="channels")
    rule.channels = list(dict.fromkeys(values))
    if rule.channels and not is_about_orders(rule):
        raise BadRule(_("Only orders come through a channel. Leave the channels empty."), field="channels")


def _limits(rule: EarningRule) -> None:
    if rule.limit_per and rule.limit_per not in EarningRule.Per.values:
        raise BadRule(
            _("A limit is per %(periods)s.") % {"periods": ", ".join(EarningRule.Per.values)}, field="limit_per"
        )
    if rule.limit_per and rule.limit_points is None and rule.limit_times is None:
        raise BadRule(_("Say the most points or the most times of the limit."), field="limit_points")
    if not rule.limit_per and (rule.limit_points is not None or rule.limit_times is not None):
        raise BadRule(
            _("Say in which time the limit counts: a day, a week, a month, a year or in all."), field="limit_per"
        )
    if rule.limit_points is not None:
        _whole(rule.limit_points, "limit_points", 1, MOST, _("The most points must be from 1 to 1000000."))
    if rule.limit_times is not None:
        _whole(rule.limit_times, "limit_times", 1, MOST, _("The most times must be from 1 to 1000000."))
    if rule.kind in (Kind.FIRST_ORDER, Kind.BIRTHDAY) and rule.limit_per:
        raise BadRule(_("There is one first order and one birthday a year. Leave the limit empty."), field="limit_per")


def _known(values: dict[str, Any], *, name: str) -> dict[str, Any]:
    if unknown := values.keys() - set(FIELDS):
        raise BadRule(_("A rule has no field “%(field)s”.") % {"field": min(unknown)}, field=min(unknown))
    known = {**values, "name": name}
    if isinstance(known.get("segment"), str):
        segment = Segment.objects.filter(key=known["segment"]).first() if known["segment"] else None
        if known["segment"] and segment is None:
            raise BadRule(_("There is no segment “%(key)s”.") % {"key": known["segment"]}, field="segment")
        known["segment"] = segment
    return known


def _key(programme: Programme, key: str, name: str) -> str:
    if key:
        if key != slugify(key) or len(key) > 60:
            raise BadRule(_("A key has small letters, digits and hyphens only, at most 60."), field="key")
        return key
    return keys.free(programme.rules.all(), name, "rule")
