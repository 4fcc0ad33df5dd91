"""Vouchers: codes that cannot be guessed, issued to one customer once, used at the till once.

Every step is a conditional write on the row of the code, so that any number of tills may ask at the same moment.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Case, Count, Value, When
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from customers.models import Customer
from lifecycle_crm.accounts.models import User
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.errors import InvalidInput
from lifecycle_crm.templatetags.crm import day, money, num, pct
from loyalty import codes
from loyalty.errors import DuplicateCodes, KeyReused, SoldOut, UnknownVoucher, VoucherNotUsable
from loyalty.models import Redemption, Voucher, VoucherSeries

CODE_LENGTH = 12
SHORTEST, LONGEST = 4, 64
MOST_CODES = 100_000
"""So many codes are generated or uploaded at once."""
PART = 200
"""So many codes are given out by one statement."""
NAMED = 5
"""So many duplicates a refusal names."""


# --- The series -------------------------------------------------------------------------------------------------------


def create(
    *,
    name: str,
    worth: str,
    amount_minor: int | None = None,
    percent: int | None = None,
    words: str = "",
    valid_days: int | None = None,
    ends_on: Any = None,
    is_endless: bool = True,
    actor: User | None = None,
) -> VoucherSeries:
    """A series of vouchers of one worth: ``amount`` in minor units of the shop's currency, ``percent`` 1–100, ``other``."""
    if not name.strip():
        raise InvalidInput(_("Give the vouchers a name."), code="name_required")
    wanted = {
        VoucherSeries.Worth.AMOUNT: amount_minor is not None and 0 < amount_minor < 10**12,
        VoucherSeries.Worth.PERCENT: percent is not None and 0 < percent <= 100,
        VoucherSeries.Worth.OTHER: bool(words.strip()),
    }
    if worth not in wanted or not wanted[VoucherSeries.Worth(worth)]:
        raise InvalidInput(
            _("Say what a voucher is worth: an amount above 0, a percentage from 1 to 100, or words."),
            code="invalid_worth",
        )
    if valid_days is not None and not 0 < valid_days <= 36_500:
        raise InvalidInput(_("A voucher is valid for 1 day or more."), code="invalid_days")
    return VoucherSeries.objects.create(
        name=name.strip(),
        worth=worth,
        amount_minor=amount_minor if worth == VoucherSeries.Worth.AMOUNT else None,
        percent=percent if worth == VoucherSeries.Worth.PERCENT else None,
        words=words.strip(),
        valid_days=valid_days,
        ends_on=ends_on,
        is_endless=is_endless,
        created_by=actor,
    )


def said(series: VoucherSeries) -> str:
    """What a voucher of this series is worth, in the reader's language."""
    if series.worth == VoucherSeries.Worth.AMOUNT:
        return money(series.amount_minor, settings.SHOP_CURRENCY)
    if series.worth == VoucherSeries.Worth.PERCENT:
        return pct((series.percent or 0) / 100)
    return series.words


def counts(series: Iterable[VoucherSeries]) -> dict[int, dict[str, int]]:
    """How many codes of each series are in each stored state."""
    found: dict[int, dict[str, int]] = {one.pk: dict.fromkeys(Voucher.State.values, 0) for one in series}
    rows = Voucher.objects.filter(series__in=list(found)).order_by().values_list("series", "state")
    for pk, state, count in rows.annotate(Count("pk")):
        found[pk][state] = count
    return found


# --- Codes come in ----------------------------------------------------------------------------------------------------


def generate(*, series: VoucherSeries, count: int) -> int:
    """Put so many new random codes into the stock; how many."""
    if not 0 < count <= MOST_CODES:
        raise InvalidInput(
            _("Between 1 and %(most)s codes can be made at once.") % {"most": num(MOST_CODES)}, code="invalid_count"
        )
    with transaction.atomic():
        missing = count
        while missing:
            made = list({codes.new(CODE_LENGTH) for _one in range(missing)})
            for part in batches.of(made, 500):
                taken = set(Voucher.objects.filter(code__in=part).values_list("code", flat=True))
                fresh = [code for code in part if code not in taken]
                Voucher.objects.bulk_create([Voucher(series=series, code=code) for code in fresh])
                missing -= len(fresh)
    return count


def upload(*, series: VoucherSeries, text: str) -> int:
    """Put the codes of a CSV file into the stock; how many. One code per line, or a column headed ``code``.

    All or nothing: a code that is twice in the file or known already raises ``DuplicateCodes``, which names it.
    """
    return add(series=series, given=_read(text))


def add(*, series: VoucherSeries, given: Sequence[str]) -> int:
    """Put these codes into the stock, all or nothing; how many."""
    wanted = [codes.plain(one) for one in given]
    for code in wanted:
        if not SHORTEST <= len(code) <= LONGEST:
            raise InvalidInput(
                _("“%(code)s” is no code; a code has %(shortest)s to %(longest)s letters and digits.")
                % {"code": code[:LONGEST], "shortest": SHORTEST, "longest": LONGEST},
                code="invalid_code",
            )
    twice = sorted(code for code, times in Counter(wanted).items() if times > 1)
    if twice:
        raise _duplicates(twice, _("twice in the file"))
    if not wanted:
        raise InvalidInput(_("The file has no codes. Write one code per line."), code="no_codes")
    if len(wanted) > MOST_CODES:
        raise InvalidInput(
            _("The file has more than %(most)s codes. Cut it into parts.") % {"most": num(MOST_CODES)},
            code="too_many_codes",
        )
    try:
        with transaction.atomic():
            known: list[str] = []
            for part in batches.of(wanted, 500):
                known += Voucher.objects.filter(code__in=part).values_list("code", flat=True)
            if known:
                raise _duplicates(sorted(known), _("here already"))
            for part in batches.of(wanted, 500):
                Voucher.objects.bulk_create([Voucher(series=series, code=code) for code in part])
    except IntegrityError:
        # Somebody stored one of them between our look and our write.
        raise DuplicateCodes(_("Somebody uploaded some of these codes just now. Nothing was stored.")) from None
    return len(wanted)


def _read(text: str) -> list[str]:
    lines = list(csv.reader(io.StringIO(text.lstrip("\ufeff"), newline="")))
    column = 0
    if lines and "code" in (heads := [cell.strip().lower() for cell in lines[0]]):
        column, lines = heads.index("code"), lines[1:]
    found = []
    for number, line in enumerate(lines, start=1):
        if not any(cell.strip() for cell in line):
            continue
        code = codes.plain(line[column]) if column < len(line) else ""
        if not SHORTEST <= len(code) <= LONGEST:
            raise InvalidInput(
                _("Line %(line)s: “%(code)s” is no code; a code has %(shortest)s to %(longest)s letters and digits.")
                % {"line": number, "code": code[:LONGEST], "shortest": SHORTEST, "longest": LONGEST},
                code="invalid_code",
                line=number,
            )
        found.append(code)
    return found


def _duplicates(found: list[str], where: str) -> DuplicateCodes:
    names = ", ".join(found[:NAMED]) + (" …" if len(found) > NAMED else "")
    return DuplicateCodes(
        ngettext(
            "%(n)s code is %(where)s: %(names)s. Nothing was stored.",
            "%(n)s codes are %(where)s: %(names)s. Nothing was stored.",
            len(found),
        )
        % {"n": num(len(found)), "where": where, "names": names},
        codes=found[:NAMED],
        count=len(found),
    )


# --- To a customer ----------------------------------------------------------------------------------------------------


def issue(
    *,
    series: VoucherSeries,
    customer: Customer,
    key: str,
    redemption: Redemption | None = None,
    effective_at: datetime | None = None,
) -> Voucher:
    """Give a customer a code of the series. The same key again returns the code it gave (``replayed``).

    Raises ``SoldOut`` when no code is left, ``VoucherNotUsable`` after the series' last day, ``KeyReused``.
    """
    if not key or len(key) > 240:
        raise InvalidInput(_("Issuing a voucher needs a key of 1 to 240 characters."), code="invalid_key")
    moment = effective_at or clock.now()
    if series.ends_on and series.ends_on < clock.business_date(moment):
        raise VoucherNotUsable(
            _("“%(name)s” ended on %(day)s.") % {"name": series.name, "day": day(series.ends_on)},
            code="voucher_expired",
        )

    def before() -> Voucher | None:
        found = Voucher.objects.filter(issue_key=key).select_related("series").first()
        if found is not None:
            if (found.series_id, found.customer_id) != (series.pk, customer.pk):
                raise KeyReused(_("This key was used for another voucher. Send a new key for a new request."), key=key)
            found.replayed = True
        return found

    given: dict[str, Any] = {
        "state": Voucher.State.ISSUED,
        "customer": customer,
        "redemption": redemption,
        "issue_key": key,
        "issued_at": moment,
        "expires_at": expiry(series, moment),
    }
    try:
        with transaction.atomic():
            if found := before():
                return found
            if series.is_endless:
                return Voucher.objects.create(series=series, code=codes.new(CODE_LENGTH), **given)
            return _from_stock(series, given)
    except IntegrityError:
        if found := before():
            return found
        raise


def issue_many(*, series: VoucherSeries, wanted: Sequence[tuple[int, str]], at: datetime) -> set[str]:
    """Give each (customer id, key) a code of the series; the keys that have one now, also from before. Those that are
    missing found no code left, or the series has ended."""
    keys = [key for _customer, key in wanted]

    def have() -> set[str]:
        return set(Voucher.objects.filter(issue_key__in=keys).values_list("issue_key", flat=True))  # type: ignore[arg-type]

    if series.ends_on and series.ends_on < clock.business_date(at):
        return have()
    with transaction.atomic():
        until = expiry(series, at)
        done = have()
        # A code that exists already, or that somebody took meanwhile, leaves its customer for the next round.
        while missing := [one for one in wanted if one[1] not in done][:PART]:
            if not (_make if series.is_endless else _take)(series, missing, at, until):
                break
            done = have()
        return done


def _make(series: VoucherSeries, wanted: Sequence[tuple[int, str]], at: datetime, until: datetime | None) -> bool:
    Voucher.objects.bulk_create(
        (
            Voucher(
                series=series, code=codes.new(CODE_LENGTH), state=Voucher.State.ISSUED, customer_id=customer,
                issue_key=key, issued_at=at, expires_at=until,
            )
            for customer, key in wanted
        ),
        ignore_conflicts=True,
    )  # fmt: skip
    return True


def _take(series: VoucherSeries, wanted: Sequence[tuple[int, str]], at: datetime, until: datetime | None) -> bool:
    """Codes of the stock, as far as they go; whether there was one to try."""
    whom = dict(zip(_free(series, len(wanted)), wanted, strict=False))
    if not whom:
        return False
    Voucher.objects.filter(pk__in=whom, state=Voucher.State.FREE).update(
        state=Voucher.State.ISSUED,
        customer_id=Case(*(When(pk=pk, then=Value(customer)) for pk, (customer, _key) in whom.items())),
        issue_key=Case(*(When(pk=pk, then=Value(key)) for pk, (_customer, key) in whom.items())),
        issued_at=at,
        expires_at=until,
    )
    return True


def expiry(series: VoucherSeries, issued_at: datetime) -> datetime | None:
    """The first instant at which a voucher issued then is gone: the end of its last day in the shop's zone."""
    ends = []
    if series.valid_days is not None:
        ends.append(clock.day_end(clock.business_date(issued_at) + timedelta(days=series.valid_days)))
    if series.ends_on is not None:
        ends.append(clock.day_end(series.ends_on))
    return min(ends, default=None)


def _from_stock(series: VoucherSeries, given: dict[str, Any]) -> Voucher:
    while True:
        some = _free(series)
        if not some:
            raise SoldOut(_("No code of “%(name)s” is left. Upload or make some.") % {"name": series.name})
        if Voucher.objects.filter(pk=some[0], state=Voucher.State.FREE).update(**given) == 1:
            return Voucher.objects.select_related("series").get(pk=some[0])


def _free(series: VoucherSeries, most: int = 1) -> list[int]:
    """Codes (ids) of the stock that nobody else is looking at; where there is none, those that somebody may yet leave to us."""
    free = Voucher.objects.filter(series=series, state=Voucher.State.FREE).order_by("pk")
    for found in (free.select_for_update(skip_locked=True), free):
        if some := list(found.values_list("pk", flat=True)[:most]):
            return some
    return []


# --- At the till ------------------------------------------------------------------------------------------------------


def find(code: str) -> Voucher:
    """The voucher with this code, however it was typed. Raises ``UnknownVoucher``."""
    plain = codes.plain(code)[:LONGEST]
    found = Voucher.objects.select_related("series", "customer").filter(code=plain).first() if plain else None
    if found is None:
        raise UnknownVoucher(_("We know no voucher with this code. Check what was typed."))
    return found


def refusal(voucher: Voucher, as_of: datetime | None = None) -> VoucherNotUsable | None:
    """Why it cannot be used at a moment; ``None`` if it can."""
    status = voucher.status(as_of)
    shown = codes.shown(voucher.code)
    if status == Voucher.State.USED:
        return VoucherNotUsable(
            _("Voucher %(code)s was used on %(day)s.") % {"code": shown, "day": day(voucher.used_at)},
            code="voucher_used",
        )
    if status == Voucher.EXPIRED and voucher.expires_at:
        last = clock.business_date(voucher.expires_at - timedelta(seconds=1))
        return VoucherNotUsable(
            _("Voucher %(code)s could be used until %(day)s.") % {"code": shown, "day": day(last)},
            code="voucher_expired",
        )
    if status == Voucher.State.VOID:
        return VoucherNotUsable(_("Voucher %(code)s was taken back.") % {"code": shown}, code="voucher_void")
    if status == Voucher.State.FREE:
        return VoucherNotUsable(
            _("Voucher %(code)s was not given to anybody yet.") % {"code": shown}, code="voucher_not_issued"
        )
    return None


def use(*, code: str, key: str, reference: str = "", effective_at: datetime | None = None) -> Voucher:
    """Use a voucher up. Once: the same key again returns it (``replayed``), another key raises ``VoucherNotUsable``."""
    if not key or len(key) > 240:
        raise InvalidInput(_("Using a voucher needs a key of 1 to 240 characters."), code="invalid_key")
    if len(reference) > 120:
        raise InvalidInput(_("The reference is longer than 120 characters."), code="invalid_reference")
    voucher = find(code)
    moment = effective_at or clock.now()

    def before() -> Voucher | None:
        found = Voucher.objects.select_related("series", "customer").filter(use_key=key).first()
        if found is not None:
            if (found.pk, found.reference) != (voucher.pk, reference):
                raise KeyReused(_("This key was used for another voucher. Send a new key for a new request."), key=key)
            found.replayed = True
        return found

    if found := before():
        return found
    if problem := refusal(voucher, moment):
        raise problem
    try:
        with transaction.atomic():
            open_ = Voucher.objects.filter(pk=voucher.pk, state=Voucher.State.ISSUED)
            done = open_.update(state=Voucher.State.USED, used_at=moment, use_key=key, reference=reference)
    except IntegrityError:
        if found := before():
            return found
        raise
    if not done and (found := before()):
        return found
    voucher.refresh_from_db()
    if not done:
        raise refusal(voucher, moment) or VoucherNotUsable(_("This voucher cannot be used now."))
    return voucher


def void(*, voucher: Voucher) -> Voucher:
    """Take a code back that is free or issued. Raises ``VoucherNotUsable`` once it was used."""
    before = [Voucher.State.FREE, Voucher.State.ISSUED]
    done = Voucher.objects.filter(pk=voucher.pk, state__in=before).update(state=Voucher.State.VOID)
    voucher.refresh_from_db()
    if not done:
        raise refusal(voucher) or VoucherNotUsable(_("This voucher cannot be used now."))
    return voucher


def of_customer(customer: Customer, *, limit: int = 20) -> list[Voucher]:
    """What a customer was given, the last first; without what was taken back."""
    found = Voucher.objects.filter(customer=customer).exclude(state=Voucher.State.VOID).select_related("series")
    return list(found.order_by("-pk")[:limit])
