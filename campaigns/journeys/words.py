"""A journey in words: its trigger, its steps, what became of them. Made from data, in the language of who reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from babel.dates import get_day_names
from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _

from campaigns import hooks
from campaigns.models import Journey, JourneyRun, StaffTask, Template, WebhookTarget
from customers import conditions, segments
from customers.models import Segment
from customers.sentences import say
from lifecycle_crm.accounts.models import Role, User
from lifecycle_crm.lib.errors import DomainError
from lifecycle_crm.templatetags.crm import num, stage_name
from loyalty.models import Tier, VoucherSeries


def trigger(tree: Any) -> str:
    """What lets people in."""
    on = tree.get("on") if isinstance(tree, dict) else ""
    match on:
        case "stage_entered" if tree.get("stage"):
            return _("Enters the stage %(stage)s") % {"stage": stage_name(tree["stage"])}
        case "stage_left" if tree.get("stage"):
            return _("Leaves the stage %(stage)s") % {"stage": stage_name(tree["stage"])}
        case "segment_entered" if tree.get("segment"):
            return _("Enters the segment “%(name)s”") % {"name": _segment(tree["segment"])}
        case "segment_left" if tree.get("segment"):
            return _("Leaves the segment “%(name)s”") % {"name": _segment(tree["segment"])}
        case "event" if tree.get("event"):
            return _("Does “%(name)s”") % {"name": tree["event"]}
        case "order":
            return _("Places an order")
        case "first_order":
            return _("Places the first order")
        case "answer":
            low, high = tree.get("at_least"), tree.get("at_most")
            if low is None and high is None:
                return _("Answers a survey")
            return _("Answers a survey with %(low)d to %(high)d") % {
                "low": low or 0,
                "high": 10 if high is None else high,
            }
        case "tier" if tree.get("tier"):
            return _("Reaches the tier “%(name)s”") % {"name": _tier(tree["tier"])}
        case "points_expiring" if tree.get("days"):
            days = _n(tree["days"])
            return ngettext("Has points that expire in %(n)s day", "Has points that expire in %(n)s days", days) % {
                "n": num(days)
            }
        case "birthday" if isinstance(tree.get("days"), int):
            days = tree["days"]
            if days == 0:
                return _("Has their birthday")
            return ngettext("Has their birthday in %(n)s day", "Has their birthday in %(n)s days", days) % {
                "n": num(days)
            }
        case "cart_abandoned" if tree.get("hours"):
            hours = _n(tree["hours"])
            return ngettext(
                "Left a cart behind for %(n)s hour", "Left a cart behind for %(n)s hours", hours
            ) % {"n": num(hours)}  # fmt: skip
        case "delivery_delayed":
            return _("Waits for a delivery that is late")
    return _("Nothing lets people in yet")


def _segment(key: str) -> str:
    return Segment.objects.filter(key=key).values_list("name", flat=True).first() or key


def _tier(key: str) -> str:
    return Tier.objects.filter(key=key).values_list("name", flat=True).first() or key


def _series(pk: Any) -> str:
    known = isinstance(pk, int) and 0 < pk < 2**53
    return (VoucherSeries.objects.filter(pk=pk).values_list("name", flat=True).first() if known else None) or "…"


def length(days: int, hours: int) -> str:
    parts = []
    if days or not hours:
        parts.append(ngettext("%(n)s day", "%(n)s days", days) % {"n": num(days)})
    if hours:
        parts.append(ngettext("%(n)s hour", "%(n)s hours", hours) % {"n": num(hours)})
    return " ".join(parts)


def condition(tree: Any) -> str:
    """A condition of a branch in words; what is wrong with it when it cannot be read."""
    try:
        return say(conditions.parse(tree, resolve=segments.resolver()))
    except DomainError as problem:
        return problem.message


def step(tree: Mapping[str, Any], texts: Mapping[str, str] | None = None) -> str:
    """What a step does. ``texts`` are names of templates by key."""
    match tree.get("do"):
        case "message":
            names = texts if texts is not None else dict(Template.objects.values_list("key", "name"))
            return _("Sends “%(text)s”") % {"text": names.get(tree.get("template", ""), "…")}
        case "wait":
            return _wait(tree)
        case "until":
            most = tree.get("at_most") or {}
            named = {"what": _awaited(tree), "length": length(_n(most.get("days")), _n(most.get("hours")))}
            return _("Waits until: %(what)s; at most %(length)s") % named
        case "split":
            return _("Splits by condition")
        case "share":
            return _("Splits by chance")
        case "points":
            points = _n(tree.get("points"))
            given = ngettext("Gives %(n)s point", "Gives %(n)s points", points) % {"n": num(points)}
            return f"{given}: {tree.get('reason', '')}"
        case "voucher":
            return _("Gives a voucher: “%(name)s”") % {"name": _series(tree.get("series"))}
        case "tag":
            named = {"tag": tree.get("tag") or "…"}
            return (_("Takes off the tag “%(tag)s”") if tree.get("remove") else _("Puts on the tag “%(tag)s”")) % named
        case "task":
            return _task(tree)
        case "webhook":
            return _webhook(tree)
        case "task_done":
            most = tree.get("at_most") or {}
            return _("Waits until the task is done; at most %(length)s") % {
                "length": length(_n(most.get("days")), _n(most.get("hours")))
            }
        case "exit":
            return _("Ends here")
    return str(tree.get("do", ""))


def _webhook(tree: Mapping[str, Any]) -> str:
    name = WebhookTarget.objects.filter(key=str(tree.get("target"))).values_list("name", flat=True).first() or "…"
    fields = [str(hooks.FIELDS[one]) for one in tree.get("fields", []) if isinstance(one, str) and one in hooks.FIELDS]
    if not fields:
        return _("Tells “%(name)s” about them, by their number only") % {"name": name}
    return _("Tells “%(name)s” about them, with: %(fields)s") % {"name": name, "fields": ", ".join(fields)}


def _task(tree: Mapping[str, Any]) -> str:
    days = _n(tree.get("days"))
    named = {
        "kind": dict(StaffTask.Kind.choices).get(str(tree.get("kind")), "…"),
        "what": tree.get("what") or "…",
        "who": task_for(str(tree.get("role") or ""), str(tree.get("person") or "")),
        "n": num(days),
    }
    if not days:
        return _("Gives a task for the same day to %(who)s: %(kind)s – %(what)s") % named
    return ngettext(
        "Gives a task for %(n)s day to %(who)s: %(kind)s – %(what)s",
        "Gives a task for %(n)s days to %(who)s: %(kind)s – %(what)s",
        days,
    ) % named  # fmt: skip


def task_for(role: str, person: str = "") -> str:
    """Whom a task is for: a person by the address they sign in with, a role, or the whole team."""
    if person:
        user = User.objects.filter(email=person).first()
        return str(user) if user else person
    return str(dict(Role.choices).get(role, "")) or _("the team")


def _n(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _awaited(tree: Mapping[str, Any]) -> str:
    if "event" in tree:
        return _("does “%(name)s”") % {"name": tree["event"]}
    if "when" in tree:
        return condition(tree["when"])
    return _("places an order")


def _wait(tree: Mapping[str, Any]) -> str:
    days, hours, window = _n(tree.get("days")), _n(tree.get("hours")), tree.get("window")
    if not isinstance(window, dict):
        return _("Waits %(length)s") % {"length": length(days, hours)}
    named = {
        "length": length(days, hours),
        "from": f"{_n(window.get('from')):02}:00",
        "until": f"{window.get('until', 24):02}:00",
        "days": weekdays(window.get("weekdays", range(7))),
    }
    if not days and not hours:
        return _("Waits for %(from)s–%(until)s, %(days)s, where they live") % named
    return _("Waits %(length)s, then for %(from)s–%(until)s, %(days)s, where they live") % named


def weekdays(days: Any) -> str:
    chosen = sorted(set(days))
    if chosen == [0, 1, 2, 3, 4]:
        return _("on weekdays")
    if len(chosen) == 7:
        return _("every day")
    names = get_day_names("abbreviated", locale=get_language() or "en")
    return ", ".join(names[day] for day in chosen)


def again(journey: Journey) -> str:
    """The rule for entering a second time, as a sentence."""
    match journey.again:
        case Journey.Again.AFTER:
            days = journey.again_days
            return ngettext(
                "A person may enter again after %(n)s day.", "A person may enter again after %(n)s days.", days
            ) % {"n": num(days)}
        case Journey.Again.ALWAYS:
            return _("A person may enter every time, but is inside only once.")
    return _("A person enters once and never again.")


def exits(journey: Journey) -> list[str]:
    """When somebody leaves early, a sentence each."""
    return [condition(tree) for tree in journey.exits]


def goal(journey: Journey) -> str:
    """What counts as the goal, as a sentence; empty when there is none."""
    if not journey.goal:
        return ""
    days = ngettext("within %(n)s day", "within %(n)s days", journey.goal_days) % {"n": num(journey.goal_days)}
    what = _("places an order") if "order" in journey.goal else _("does “%(name)s”") % {"name": journey.goal["event"]}
    return f"{what} {days}"


def branch(tree: Mapping[str, Any], number: int) -> str:
    """What a step's branch is called; ``-1`` is the way of everybody else."""
    branches = tree.get("branches") or []
    if tree.get("do") == "task_done":
        return _("The task was done") if number == 0 else _("Not done, or not in time")
    if not 0 <= number < len(branches):
        return _("Everybody else")
    one = branches[number]
    if one.get("name"):
        return str(one["name"])
    if tree.get("do") == "share":
        return _("%(n)s per cent") % {"n": num(_n(one.get("percent")))}
    return condition(one.get("when"))


def left(journey: Journey, data: Mapping[str, Any]) -> str:
    """How somebody left, and by which rule when one of the journey's rules held."""
    state = str(dict(JourneyRun.State.choices).get(data.get("state", ""), ""))
    rule = data.get("rule")
    if isinstance(rule, int) and rule < len(journey.exits):
        return f"{state}: {condition(journey.exits[rule])}"
    return state


def effect(found: Any) -> str:
    """What publishing does to those who stand in one step."""
    named = {"was": step(found.was), "becomes": step(found.becomes), "n": num(found.at_once), "all": num(found.inside)}
    if found.kind == "removed":
        return ngettext(
            "“%(was)s” is removed: %(all)s person inside goes on at the next step at once.",
            "“%(was)s” is removed: %(all)s people inside go on at the next step at once.",
            found.inside,
        ) % named  # fmt: skip
    return ngettext(
        "“%(was)s” becomes “%(becomes)s”: %(n)s of %(all)s person inside has waited long enough and goes on at once.",
        "“%(was)s” becomes “%(becomes)s”: %(n)s of %(all)s people inside have waited long enough and go on at once.",
        found.inside,
    ) % named  # fmt: skip
