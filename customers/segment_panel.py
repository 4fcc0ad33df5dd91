"""What a condition describes, as a page shows it: the count, whom one could reach, the stages, a few people, one person."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from customers import counting, finding, queries, segments
from customers.conditions import Condition
from customers.vocabulary import STAGES
from lifecycle_crm.accounts.callers import sees_contacts
from lifecycle_crm.templatetags.crm import num, pct, stage_name


def count_words(count: counting.Count) -> str:
    """ "1,204 people", or an estimate that says so."""
    if count.is_exact:
        return ngettext("%(n)s person", "%(n)s people", count.value) % {"n": num(count.value)}
    return _("About %(n)s people: %(low)s to %(high)s, estimated from a sample of %(sample)s") % {
        "n": num(count.value), "low": num(count.low), "high": num(count.high), "sample": num(count.n_sampled)
    }  # fmt: skip


def panel(request: HttpRequest, condition: Condition) -> dict[str, Any]:
    """Count, reach, stages, a few people, and the verdict on one person."""
    is_patient = request.POST.get("act") == "exact" or request.GET.get("exact") == "1"
    found = counting.measure(condition, limit=counting.PATIENT_SECONDS if is_patient else counting.EXACT_SECONDS)
    after = request.POST.get("after", "") if request.POST.get("act") == "other" else ""
    people = segments.sample(condition, after=int(after) if after.isdecimal() and len(after) < 19 else 0)
    asked = (request.POST.get("person") or request.GET.get("person") or "").strip()[:100]
    total = found.count.value
    most = max(found.stages.values(), default=0)
    order = [*STAGES, ""]
    return {
        "measure": found,
        "count_words": count_words(found.count),
        "reachable": found.reachable,
        "reachable_share": pct(found.reachable / total) if total else "",
        "stage_rows": [
            {
                "label": stage_name(stage) if stage else _("No stage yet"),
                "value": num(found.stages[stage]),
                "percent": 100 * found.stages[stage] / most,
                "stage": stage,
            }
            for stage in sorted(found.stages, key=lambda s: order.index(s) if s in order else 99)
        ],
        "people": [{"pk": one.pk, "name": queries.shown_name(one, request.user)} for one in people],
        "after": people[-1].pk if len(people) == 10 and total > 10 else 0,
        "person": asked,
        **_verdict(request, condition, asked),
    }


def _verdict(request: HttpRequest, condition: Condition, asked: str) -> dict[str, Any]:
    if not asked:
        return {}
    # Who may not see names finds people by their number only, or searching would tell the names.
    if not sees_contacts(request) and finding.number(asked) is None:
        return {"person_problem": _("Enter a customer's number: names are hidden for your role.")}
    someone = finding.person(asked)
    if someone is None:
        return {"person_problem": _("Nobody has this name, e-mail address or number.")}
    return {"verdict": segments.explain(condition, someone), "verdict_name": queries.shown_name(someone, request.user)}
