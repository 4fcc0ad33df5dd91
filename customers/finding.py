"""Who is meant by what somebody typed: a number, an e-mail address, words of a name."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Q

from customers.models import Customer, email_key, search_text
from lifecycle_crm.lib.numbers import row_number

MOST_WORDS = 8


def words(text: str) -> Q:
    """Every word is known of them, in any order, without accents; no words ask nothing."""
    asked = Q()
    for word in search_text(text).split()[:MOST_WORDS]:
        asked &= Q(search_text__contains=word)
    return asked


def number(text: str) -> int | None:
    """The number of a customer, as ``#812`` or ``812``."""
    return row_number(text.strip().removeprefix("#"))


def numbered(text: str) -> Customer | None:
    """The customer of a number and of nothing else: for who may not see names, whom a search would tell them."""
    pk = number(text)
    return None if pk is None else Customer.objects.filter(pk=pk).first()


def addressed(text: str) -> Customer | None:
    """Exactly one is meant: the customer of a number or of an e-mail address."""
    if number(text) is not None:
        return numbered(text)
    key = email_key(text.strip())
    return Customer.objects.filter(email_key=key).first() if key else None


def several(text: str, *, most: int) -> list[Customer]:
    """A few to choose from: exactly the one of a number or an address, or the newest whose name has the words."""
    meant = text.strip()
    if not meant:
        return []
    if number(meant) is not None or "@" in meant:
        one = addressed(meant)
        return [one] if one else []
    return list(Customer.objects.filter(words(meant)).order_by("-pk")[:most])


def person(text: str) -> Customer | None:
    """The customer of a number, an e-mail address or the words of a name; the first when there are several."""
    return people([text])[text]


def people(texts: Iterable[str]) -> dict[str, Customer | None]:
    """The same of many: numbers and addresses with one question each, only names one by one."""
    found = all_addressed(texts)
    return {text: one or (None if number(text) is not None else _named(text.strip())) for text, one in found.items()}


def all_addressed(texts: Iterable[str]) -> dict[str, Customer | None]:
    """``addressed`` of many: numbers and addresses with one question each."""
    wanted = {text: text.strip() for text in texts}
    numbers = {text: pk for text, meant in wanted.items() if (pk := number(meant)) is not None}
    keys = {text: email_key(meant) for text, meant in wanted.items() if "@" in meant and text not in numbers}
    by_number = Customer.objects.in_bulk(numbers.values()) if numbers else {}
    known = Customer.objects.filter(email_key__in=set(keys.values()) - {""}) if keys else []
    by_key = {one.email_key: one for one in known}
    return {
        text: by_number.get(numbers[text]) if text in numbers else by_key.get(keys.get(text, "")) for text in wanted
    }


def _named(text: str) -> Customer | None:
    return Customer.objects.filter(words(text)).order_by("pk").first() if text else None
