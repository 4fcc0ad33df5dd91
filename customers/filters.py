"""The filters of the customer list: the same for the page, the export and the API; all of them live in the address."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import django_filters
from django import forms
from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.expressions import RawSQL
from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from customers import finding, membership, queries, rfm, segments, trails
from customers.models import Customer, RfmGroup, Segment
from customers.vocabulary import STAGES
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.money import to_minor
from lifecycle_crm.templatetags.crm import day, locale, num, stage_name

NPS_GROUPS = {
    "promoter": (gettext_lazy("Promoters (9–10)"), Q(facts__nps_score__gte=9)),
    "passive": (gettext_lazy("Passives (7–8)"), Q(facts__nps_score__gte=7, facts__nps_score__lte=8)),
    "detractor": (gettext_lazy("Detractors (0–6)"), Q(facts__nps_score__lte=6)),
    "none": (gettext_lazy("No answer yet"), Q(facts__nps_score=None)),
}
CONSENTS = (("yes", gettext_lazy("Agreed to e-mail")), ("no", gettext_lazy("No e-mail")))
NOT_FILTERS = ("sort", "page", "shown", "limit", "cursor")
"""Parameters of an address that choose no people."""
NEW = "new"
"""Stands for "no stage yet" in addresses."""
_SCORES = [(str(n), str(n)) for n in range(1, 6)]
_LONG_AGO = 36_500


def country_name(code: str) -> str:
    """The country in the active language: ``SE`` → "Sweden"."""
    return str(locale().territories.get(code, code))


def language_name(code: str) -> str:
    """The language in the active language: ``sv`` → "Swedish"."""
    name = str(locale().languages.get(code, code))
    return name[:1].upper() + name[1:]


def _stages() -> list[tuple[str, str]]:
    return [(stage, stage_name(stage)) for stage in STAGES]


class _WaysField(forms.Field):
    """Any number of ``customers.trails.Way``; it has no widget to see, because such addresses are made by links."""

    widget = forms.MultipleHiddenInput

    def clean(self, value: Any) -> list[trails.Way]:
        try:
            return [trails.parse(text) for text in value or []]
        except trails.BadWay as problem:
            raise forms.ValidationError(str(problem)) from None


class _WaysFilter(django_filters.Filter):
    field_class = _WaysField


class _WholeFilter(django_filters.Filter):
    field_class = forms.IntegerField


def _segments() -> list[tuple[str, str]]:
    return list(Segment.objects.filter(archived_at=None).values_list("key", "name"))


def _countries() -> list[tuple[str, str]]:
    return sorted(((code, country_name(code)) for code in queries.countries()), key=lambda pair: pair[1])


def _days(label: Any, method: str) -> _WholeFilter:
    return _WholeFilter(
        label=label,
        method=method,
        min_value=0,
        max_value=_LONG_AGO,
    )


def _whole(label: Any, field: str, lookup: str, low: int = 0) -> _WholeFilter:
    return _WholeFilter(
        label=label,
        field_name=field,
        lookup_expr=lookup,
        min_value=low,
        max_value=2**31 - 1,
    )


def _score(label: Any, field: str, lookup: str) -> django_filters.ChoiceFilter:
    return django_filters.ChoiceFilter(
        label=label, field_name=field, lookup_expr=lookup, choices=_SCORES, empty_label=gettext_lazy("Any")
    )


class CustomerFilter(django_filters.FilterSet):
    q = django_filters.CharFilter(label=gettext_lazy("Search"), method="search", max_length=200)
    stage = django_filters.MultipleChoiceFilter(
        label=gettext_lazy("Stage"),
        method="in_stage",
        choices=lambda: [*_stages(), (NEW, _("No stage yet"))],
        widget=forms.CheckboxSelectMultiple,
    )
    segment = django_filters.ChoiceFilter(
        label=gettext_lazy("Segment"), method="in_segment", choices=_segments, empty_label=gettext_lazy("Any")
    )
    segment_on = django_filters.DateFilter(label=gettext_lazy("In the segment on"), method="by_segment")
    country = django_filters.ChoiceFilter(
        label=gettext_lazy("Country"), choices=_countries, empty_label=gettext_lazy("Any")
    )
    language = django_filters.ChoiceFilter(
        label=gettext_lazy("Language"), choices=settings.LANGUAGES, empty_label=gettext_lazy("Any")
    )
    consent = django_filters.ChoiceFilter(
        label=gettext_lazy("E-mail consent"), method="agreed", choices=CONSENTS, empty_label=gettext_lazy("Any")
    )
    tag = django_filters.CharFilter(label=gettext_lazy("Tag"), method="tagged", max_length=100)
    last_min = _days(gettext_lazy("No order for at least, days"), "silent_for")
    last_max = _days(gettext_lazy("Ordered in the last, days"), "ordered_within")
    orders_min = _whole(gettext_lazy("Orders, at least"), "facts__orders", "gte")
    orders_max = _whole(gettext_lazy("Orders, at most"), "facts__orders", "lte")
    spend_min = django_filters.NumberFilter(
        label=gettext_lazy("Spend, at least"), method="spent_at_least", min_value=0, max_value=10**12
    )
    spend_max = django_filters.NumberFilter(
        label=gettext_lazy("Spend, at most"), method="spent_at_most", min_value=0, max_value=10**12
    )
    points_min = _whole(gettext_lazy("Points, at least"), "facts__points", "gte")
    nps = django_filters.ChoiceFilter(
        label=gettext_lazy("Last NPS answer"),
        method="of_nps_group",
        choices=[(key, label) for key, (label, _where) in NPS_GROUPS.items()],
        empty_label=gettext_lazy("Any"),
    )
    r_min = _score(gettext_lazy("Recency score, from"), "facts__recency", "gte")
    r_max = _score(gettext_lazy("Recency score, to"), "facts__recency", "lte")
    f_min = _score(gettext_lazy("Frequency score, from"), "facts__frequency", "gte")
    f_max = _score(gettext_lazy("Frequency score, to"), "facts__frequency", "lte")
    m_min = _score(gettext_lazy("Monetary score, from"), "facts__monetary", "gte")
    m_max = _score(gettext_lazy("Monetary score, to"), "facts__monetary", "lte")
    rfm = django_filters.ChoiceFilter(
        label=gettext_lazy("RFM group"),
        method="in_rfm_group",
        choices=[*RfmGroup.choices, (rfm.NONE, gettext_lazy("No order yet"))],
        empty_label=gettext_lazy("Any"),
    )
    moved_from = django_filters.ChoiceFilter(
        label=gettext_lazy("Moved from"),
        method="by_moves",
        choices=lambda: [*_stages(), (NEW, _("New customer"))],
        empty_label=gettext_lazy("Any stage"),
    )
    moved_to = django_filters.ChoiceFilter(
        label=gettext_lazy("Moved to"),
        method="by_moves",
        choices=_stages,
        empty_label=gettext_lazy("Any stage"),
    )
    moved_days = _days(gettext_lazy("Moved in the last, days"), "by_moves")
    moved_since = django_filters.DateFilter(label=gettext_lazy("Moved on or after"), method="by_moves")
    moved_until = django_filters.DateFilter(label=gettext_lazy("Moved on or before"), method="by_moves")
    way = _WaysFilter(label=gettext_lazy("Way"), method="by_ways")

    class Meta:
        model = Customer
        fields: list[str] = []

    @property
    def qs(self) -> QuerySet[Customer]:
        if not hasattr(self, "_found"):
            self._found = self._with_moves(super().qs)
        return self._found

    # --- How each one filters ---

    def search(self, rows: QuerySet[Customer], name: str, value: str) -> QuerySet[Customer]:
        """Every word must be there, in any order, without accents; ``#123`` and a bare number find the customer's number."""
        number = finding.number(value)
        if number is None:
            return rows.filter(finding.words(value))
        if value.strip().startswith("#"):
            return rows.filter(pk=number)
        return rows.filter(finding.words(value) | Q(pk=number))

    def in_stage(self, rows: QuerySet[Customer], name: str, value: list[str]) -> QuerySet[Customer]:
        if not value:
            return rows
        where = Q(facts__stage__in=["" if stage == NEW else stage for stage in value])
        return rows.filter(where | Q(facts=None) if NEW in value else where)

    def in_segment(self, rows: QuerySet[Customer], name: str, value: str) -> QuerySet[Customer]:
        """Who is in it now, or was at the end of a date that a night has recorded."""
        chosen, on = segments.get(value), self.form.cleaned_data.get("segment_on")
        sql, params = membership.members_on(chosen, on) if on else segments.matching(segments.condition_of(chosen))
        return rows.filter(pk__in=RawSQL(sql, params))

    def by_segment(self, rows: QuerySet[Customer], name: str, value: Any) -> QuerySet[Customer]:
        """The date means something only together with the segment, which applies it."""
        return rows

    def agreed(self, rows: QuerySet[Customer], name: str, value: str) -> QuerySet[Customer]:
        if value == "yes":
            return rows.filter(facts__may_email=True)
        return rows.filter(Q(facts__may_email=False) | Q(facts=None))

    def tagged(self, rows: QuerySet[Customer], name: str, value: str) -> QuerySet[Customer]:
        return queries.having_tag(rows, value.strip())

    def silent_for(self, rows: QuerySet[Customer], name: str, value: int) -> QuerySet[Customer]:
        return rows.filter(facts__last_order_at__lte=clock.now() - timedelta(days=int(value)))

    def ordered_within(self, rows: QuerySet[Customer], name: str, value: int) -> QuerySet[Customer]:
        return rows.filter(facts__last_order_at__gt=clock.now() - timedelta(days=int(value)))

    def spent_at_least(self, rows: QuerySet[Customer], name: str, value: Any) -> QuerySet[Customer]:
        return rows.filter(facts__spend_minor__gte=_minor(value))

    def spent_at_most(self, rows: QuerySet[Customer], name: str, value: Any) -> QuerySet[Customer]:
        return rows.filter(facts__spend_minor__lte=_minor(value))

    def of_nps_group(self, rows: QuerySet[Customer], name: str, value: str) -> QuerySet[Customer]:
        return rows.filter(NPS_GROUPS[value][1])

    def in_rfm_group(self, rows: QuerySet[Customer], name: str, value: str) -> QuerySet[Customer]:
        where = rfm.now_in(value)
        return rows.filter(where | Q(facts=None) if value == rfm.NONE else where)

    def by_ways(self, rows: QuerySet[Customer], name: str, value: list[trails.Way]) -> QuerySet[Customer]:
        """Every one of them must be true of a customer."""
        for way in value:
            rows = way.choose(rows)
        return rows

    def by_moves(self, rows: QuerySet[Customer], name: str, value: Any) -> QuerySet[Customer]:
        """One move must match all of these at once, so they are applied together, in ``_with_moves``."""
        return rows

    def _with_moves(self, rows: QuerySet[Customer]) -> QuerySet[Customer]:
        if not self.is_bound or not self.form.is_valid():
            return rows
        asked = self.form.cleaned_data
        if not any(asked[name] not in (None, "") for name in _MOVES):
            return rows
        # The moves hang on the customer by their own key; this app knows them only by that relation.
        manager: Any = Customer.transitions.rel.related_model._default_manager
        moves = manager.counted().filter(customer_id=OuterRef("pk"))
        if asked["moved_from"]:
            moves = moves.filter(from_stage="" if asked["moved_from"] == NEW else asked["moved_from"])
        if asked["moved_to"]:
            moves = moves.filter(to_stage=asked["moved_to"])
        if asked["moved_days"] is not None:
            moves = moves.filter(business_date__gt=clock.today() - timedelta(days=int(asked["moved_days"])))
        if asked["moved_since"]:
            moves = moves.filter(business_date__gte=asked["moved_since"])
        if asked["moved_until"]:
            moves = moves.filter(business_date__lte=asked["moved_until"])
        return rows.filter(Exists(moves))

    # --- What they say ---

    def chips(self, path: str, query: QueryDict) -> list[Chip]:
        """A chip per filter that is on: its words, and the address without it."""
        if not self.is_bound or not self.form.is_valid():
            return []
        chips = []
        for name, value in self.form.cleaned_data.items():
            if value in (None, "", []):
                continue
            without = query.copy()
            for gone in (name, "page", "shown"):
                without.pop(gone, None)
            rest = without.urlencode()
            chips.append(
                Chip(name, str(self.filters[name].label), _said(name, value), f"{path}?{rest}" if rest else path)
            )
        return chips


_MOVES = ("moved_from", "moved_to", "moved_days", "moved_since", "moved_until")


@dataclass(frozen=True)
class Chip:
    name: str
    label: str
    value: str
    remove_url: str


def _minor(value: Any) -> int:
    return to_minor(round(value, 2), settings.SHOP_CURRENCY)


def _said(name: str, value: Any) -> str:
    """A filter's value as a person reads it."""
    match name:
        case "segment":
            return segments.get(value).name
        case "stage":
            return ", ".join(_("No stage yet") if stage == NEW else stage_name(stage) for stage in value)
        case "country":
            return country_name(value)
        case "language":
            return language_name(value)
        case "consent":
            return str(dict(CONSENTS)[value])
        case "nps":
            return str(NPS_GROUPS[value][0])
        case "rfm":
            return _rfm_name(value)
        case "way":
            return "; ".join(_way_said(way) for way in value)
        case "moved_from":
            return _("New customer") if value == NEW else stage_name(value)
        case "moved_to":
            return stage_name(value)
        case "last_min" | "last_max" | "moved_days":
            return ngettext("%(n)s day", "%(n)s days", int(value)) % {"n": num(int(value))}
        case "moved_since" | "moved_until" | "segment_on":
            return day(value)
        case "spend_min" | "spend_max":
            return f"{num(value)} {settings.SHOP_CURRENCY}"
    return num(int(value)) if isinstance(value, int) else str(value)


def _rfm_name(group: str) -> str:
    return _("No order yet") if group == rfm.NONE else str(RfmGroup(group).label)


def _place(stage: str) -> str:
    return _("New customer") if stage == NEW else stage_name(stage)


_ORDERED = {
    "first": gettext_lazy("first order between %(since)s and %(until)s"),
    "second": gettext_lazy("second order between %(since)s and %(until)s"),
    "some": gettext_lazy("ordered between %(since)s and %(until)s"),
    "awake": gettext_lazy("not dormant between %(since)s and %(until)s"),
    "lapsed": gettext_lazy("first time dormant after the first order, between %(since)s and %(until)s"),
}


def _way_said(way: trails.Way) -> str:
    values = {"place": _place(way.places[0]), "since": day(way.since), "until": day(way.until)}
    match way.kind:
        case "rfm":
            return _("%(place)s on %(until)s") % {**values, "place": _rfm_name(way.places[0])}
        case "stood":
            return _("%(place)s on %(until)s") % values
        case "been":
            return _("in %(place)s between %(since)s and %(until)s") % values
        case "on":
            return _("came further than %(place)s between %(since)s and %(until)s") % values
        case "gone":
            return _("%(place)s → Dormant (%(rule)s) between %(since)s and %(until)s") % {
                **values,
                "rule": _("by hand") if way.places[1] == trails.BY_HAND else way.places[1],
            }
        case "first":
            return _("first time in %(place)s between %(since)s and %(until)s") % values
        case "orders":
            return _ORDERED[way.places[0]] % values
    arrows = " → ".join(_place(place) for place in way.places)
    return _("%(places)s between %(since)s and %(until)s") % {**values, "places": arrows}


def in_words(chips: list[Chip]) -> str:
    """The filters as a scope for a title: "Dormant, Sweden". Plain values stand alone, limits keep their label."""
    alone = {"q", "stage", "segment", "country", "language", "consent", "nps", "tag", "rfm", "way"}
    return ", ".join(
        f"“{chip.value}”" if chip.name == "q" else chip.value if chip.name in alone else f"{chip.label}: {chip.value}"
        for chip in chips
    )
