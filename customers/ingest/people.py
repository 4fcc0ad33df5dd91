"""Customers come in: matched by external id, then by e-mail address; made or brought up to date."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from django.utils.translation import gettext as _

from customers import consent, facts, identity
from customers.identity import text
from customers.ingest.items import REACT, Result, Status, each, in_order, not_in_future, only, settled, unknown_customer
from customers.models import Consent, Customer, ExternalId, email_key
from lifecycle_crm.lib import batches, bell, clock
from lifecycle_crm.lib.errors import Conflict, DomainError, InvalidInput

JSON_LIMIT = 65_536
"""Characters of tags, attributes or properties of one row."""


@dataclass(slots=True)
class CustomerIn:
    """A customer as a shop describes them. ``None`` leaves a field as it is; an empty string empties it.

    One of ``customer_id`` (ours), ``external_id`` (the source's) and ``email`` must name them. ``may_email`` is a
    statement of consent to offers by e-mail; it is recorded when it differs from the one in force. ``attributes`` are
    laid over the ones there; a value of ``None`` removes one.
    """

    customer_id: int | None = None
    external_id: str = ""
    email: str | None = None
    name: str | None = None
    given_name: str | None = None
    kind: str | None = None
    phone: str | None = None
    language: str | None = None
    time_zone: str | None = None
    country: str | None = None
    city: str | None = None
    birth_date: date | None = None
    tags: list[str] | None = None
    attributes: dict[str, Any] | None = None
    acquisition_source: str | None = None
    acquisition_medium: str | None = None
    acquisition_campaign: str | None = None
    acquisition_cost_minor: int | None = None
    known_since: datetime | None = None
    may_email: bool | None = None
    consent_wording: str = ""
    consent_at: datetime | None = None

    def ref(self) -> str:
        """How the answer names this row."""
        return self.external_id or self.email or (str(self.customer_id) if self.customer_id else "")


_TEXTS = {
    "name": 200,
    "given_name": 100,
    "city": 100,
    "acquisition_source": 80,
    "acquisition_medium": 80,
    "acquisition_campaign": 80,
}
_CHECKED = {
    "email": identity.email,
    "phone": identity.phone,
    "language": identity.language,
    "time_zone": identity.time_zone,
    "country": identity.country,
}
_DERIVED = ("email_key", "search_text", "given_name")


def json_value(value: Any, name: str) -> Any:
    """A JSON value both databases can hold. Raises ``InvalidInput`` for NaN, NUL, and what is too deep or too long."""
    try:
        written = json.dumps(value, allow_nan=False, ensure_ascii=False)
        written.encode()
    except (TypeError, ValueError, RecursionError):
        raise InvalidInput(
            _("The %(field)s cannot be stored as JSON. Use text, finite numbers, lists and objects.") % {"field": name},
            code="invalid_json",
            field=name,
        ) from None
    if len(written) > JSON_LIMIT or "\\u0000" in written:
        raise InvalidInput(
            _("The %(field)s must be shorter than %(limit)d characters and hold no NUL.")
            % {"field": name, "limit": JSON_LIMIT},
            code="invalid_json",
            field=name,
        )
    return value


@dataclass(slots=True)
class _Read:
    """A row after its check."""

    index: int
    row: CustomerIn
    external_id: str
    values: dict[str, Any]


@dataclass(slots=True)
class _Plan:
    """What a batch will do to one customer."""

    customer: Customer
    is_new: bool
    changed: set[str] = field(default_factory=set)
    external_ids: list[str] = field(default_factory=list)
    said: list[CustomerIn] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)


def save_customers(rows: Sequence[CustomerIn], *, source: str, is_history: bool = False) -> list[Result]:
    """Make or update customers; one ``Result`` per row, in order.

    An external id decides over an address; an address that belongs to somebody else is refused, not merged. Rows of
    one batch that mean the same person are applied in order. With ``is_history`` the first stage of a customer made
    here starts no message.
    """
    now = clock.now()
    source = text(source, "source", 40)
    good: list[_Read] = []
    results = each(rows, CustomerIn.ref, lambda index, row: good.append(_read(index, row, now)))
    if good:
        results |= settled(lambda: _write(good, source, is_history, now))
    return in_order(results)


def save_customer(row: CustomerIn, *, source: str, is_history: bool = False) -> Customer:
    """``save_customers`` for one. Raises ``InvalidInput`` or ``NotFound`` where the batch would answer with an error."""
    result = only(save_customers([row], source=source, is_history=is_history))
    return Customer.objects.get(pk=result.id or 0)


def _read(index: int, row: CustomerIn, now: datetime) -> _Read:
    values: dict[str, Any] = {}
    for name, limit in _TEXTS.items():
        if (value := getattr(row, name)) is not None:
            values[name] = text(value, name, limit)
    for name, check in _CHECKED.items():
        if (value := getattr(row, name)) is not None:
            values[name] = check(value) if value.strip() else ""
    if row.kind is not None:
        if row.kind not in Customer.Kind.values:
            raise InvalidInput(
                _("Unknown kind %(value)s. Use person or company.") % {"value": repr(row.kind)}, code="invalid_kind"
            )
        values["kind"] = row.kind
    if row.birth_date is not None:
        if not row.birth_date.year >= 1850 or row.birth_date > now.date():
            raise InvalidInput(
                _("The birth date %(value)s cannot be. Check the year.") % {"value": row.birth_date},
                code="invalid_date",
            )
        values["birth_date"] = row.birth_date
    for name in ("tags", "attributes"):
        if (value := getattr(row, name)) is not None:
            values[name] = json_value(value, name)
    if row.acquisition_cost_minor is not None:
        if not 0 <= row.acquisition_cost_minor < 10**15:
            raise InvalidInput(_("The acquisition cost must be zero or more."), code="negative_amount")
        values["acquisition_cost_minor"] = row.acquisition_cost_minor
    if row.known_since is not None:
        values["known_since"] = not_in_future(row.known_since, "known_since", now)
    if row.consent_at is not None and not_in_future(row.consent_at, "consent_at", now) > now:
        raise InvalidInput(_("consent_at lies in the future. Check the date and its time zone."), code="future_date")
    external_id = text(row.external_id, "external_id", 200)
    if row.customer_id is None and not external_id and not values.get("email"):
        raise InvalidInput(_("Nobody is named. Send external_id or email."), code="missing_identity")
    return _Read(index, row, external_id, values)


def _write(good: list[_Read], source: str, is_history: bool, now: datetime) -> dict[int, Result]:
    batch = _Batch(good, source, now)
    results: dict[int, Result] = {}
    for read in good:
        try:
            results[read.index] = batch.take(read)
        except DomainError as problem:
            results[read.index] = Result.refused(read.index, read.row.ref(), problem)
    batch.store(is_history)
    return results


class _Batch:
    """The customers some rows mean, as they stand and as they will be."""

    def __init__(self, good: list[_Read], source: str, now: datetime) -> None:
        self.source = source
        self.now = now
        book = identity.look_up(
            source=source,
            ids=[read.row.customer_id for read in good if read.row.customer_id is not None],
            external_ids=[read.external_id for read in good],
            emails=[read.values.get("email", "") for read in good],
        )
        ids = {known.id for shelf in (book.by_id, book.by_external_id, book.by_email) for known in shelf.values()}
        self.by_id: dict[int, _Plan] = {}
        for some in batches.of(sorted(ids), 2000):
            # Locked in key order (PostgreSQL), so that two batches cannot wait for each other in a circle.
            for customer in Customer.objects.select_for_update().filter(pk__in=some).order_by("pk"):
                self.by_id[customer.pk] = _Plan(customer, is_new=False)
        self.by_external_id = {
            value: self.by_id[known.id] for value, known in book.by_external_id.items() if known.id in self.by_id
        }
        self.by_email = {key: self.by_id[known.id] for key, known in book.by_email.items() if known.id in self.by_id}
        self.made: list[_Plan] = []

    def take(self, read: _Read) -> Result:
        """Apply one row to its customer. Raises before anything of the row is applied."""
        plan = self._find(read)
        is_new = plan is None
        if plan is None:
            plan = _Plan(Customer(known_since=self.now, loaded_at=self.now), is_new=True)
            self.made.append(plan)
        is_changed = _apply(plan, read.values)
        if read.external_id and read.external_id not in self.by_external_id:
            self.by_external_id[read.external_id] = plan
            plan.external_ids.append(read.external_id)
            is_changed = True
        if key := email_key(read.values.get("email", "")):
            self.by_email[key] = plan
        if read.row.may_email is not None:
            plan.said.append(read.row)
        status = Status.CREATED if is_new else Status.UPDATED if is_changed else Status.DUPLICATE
        result = Result(read.index, read.row.ref()[:200], status, id=plan.customer.pk)
        plan.results.append(result)
        return result

    def _find(self, read: _Read) -> _Plan | None:
        key = email_key(read.values.get("email", ""))
        mailed = self.by_email.get(key) if key else None
        named = self.by_external_id.get(read.external_id) if read.external_id else None
        if read.row.customer_id is not None:
            plan = self.by_id.get(read.row.customer_id)
            if plan is None:
                raise unknown_customer(read.row.customer_id, "", "", self.source)
            if named is not None and named is not plan:
                raise Conflict(
                    _("The external id %(value)s of %(source)s belongs to another customer. Correct it, or merge them.")
                    % {"value": repr(read.external_id), "source": self.source},
                    code="external_id_taken",
                )
        else:
            plan = named or mailed
        if plan is not None and mailed is not None and mailed is not plan:
            raise Conflict(
                _("The address %(email)s belongs to another customer. Correct it, or merge them.")
                % {"email": read.values["email"]},
                code="email_taken",
            )
        return plan

    def store(self, is_history: bool) -> None:
        """Write what was taken: updates by id, then new customers by address, then external ids, then what was said."""
        old = sorted((plan for plan in self.by_id.values() if plan.changed), key=lambda plan: plan.customer.pk)
        if old:
            columns = set().union(*(plan.changed for plan in old)) | set(_DERIVED)
            for plan in old:
                plan.customer.prepare()
            # An upsert by primary key: the rows exist and are locked, so it is an UPDATE of many rows in one statement.
            Customer.objects.bulk_create(
                [plan.customer for plan in old],
                update_conflicts=True,
                unique_fields=["id"],
                update_fields=sorted(columns),
            )
        self.made.sort(key=lambda plan: (email_key(plan.customer.email), plan.external_ids))
        for plan in self.made:
            plan.customer.prepare()
        Customer.objects.bulk_create([plan.customer for plan in self.made])
        named = [plan for plan in (*self.by_id.values(), *self.made) if plan.external_ids]
        links = [
            ExternalId(customer=plan.customer, source=self.source, value=value)
            for plan in named
            for value in plan.external_ids
        ]
        ExternalId.objects.bulk_create(sorted(links, key=lambda link: link.value))
        facts.mark_each(
            [
                *((plan.customer.pk, self.now, is_history) for plan in old),
                *(
                    (p.customer.pk, p.customer.known_since, is_history or p.customer.known_since < self.now)
                    for p in self.made
                ),
            ]
        )
        for plan in self.made:
            for result in plan.results:
                result.id = plan.customer.pk
        self._record_consents()
        if old or self.made:
            bell.ring(REACT)

    def _record_consents(self) -> None:
        said = {plan.customer.pk: plan for plan in (*self.by_id.values(), *self.made) if plan.said}
        if not said:
            return
        purpose, channel = Consent.Purpose.MARKETING, Consent.Channel.EMAIL
        in_force = {
            pk: row.is_granted for pk, row in consent.current(list(said), purpose=purpose, channel=channel).items()
        }
        for pk, plan in said.items():
            for row in plan.said:
                if in_force.get(pk) is row.may_email:
                    continue
                in_force[pk] = bool(row.may_email)
                consent.record(
                    customer=plan.customer,
                    purpose=purpose,
                    channel=channel,
                    is_granted=bool(row.may_email),
                    source=self.source,
                    wording=row.consent_wording,
                    language=plan.customer.language,
                    occurred_at=row.consent_at,
                )


def _apply(plan: _Plan, values: dict[str, Any]) -> bool:
    """Set what differs; whether anything did."""
    customer = plan.customer
    before = len(plan.changed)
    is_changed = False
    # A first name that was only taken from the name follows the name.
    follows = bool(customer.name) and customer.given_name == customer.name.split()[0][:100]
    for name, value in values.items():
        if name == "attributes":
            merged = {**customer.attributes, **value}
            value = {key: one for key, one in merged.items() if one is not None}
        if getattr(customer, name) != value:
            setattr(customer, name, value)
            plan.changed.add(name)
            is_changed = True
    if "name" in values and "given_name" not in values and follows and len(plan.changed) > before:
        customer.given_name = ""
    return is_changed
