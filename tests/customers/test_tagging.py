"""Tags of many customers at once."""

from __future__ import annotations

import pytest

from customers import tagging
from customers.models import DirtyCustomer
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.errors import InvalidInput
from tests.customers.factories import CustomerFactory

pytestmark = pytest.mark.django_db


def test_it_changes_only_who_has_to_change_and_marks_them():
    ada, bo = CustomerFactory(tags=["vip"]), CustomerFactory(tags=["wine", "vip%'"])
    both = [ada.pk, bo.pk]
    assert tagging.put(customers=both, tag="  wine ", at=clock.now()) == 1
    assert tagging.put(customers=both, tag="wine", at=clock.now()) == 0
    assert tagging.take_off(customers=both, tag="vip", at=clock.now()) == 1
    assert tagging.take_off(customers=both, tag="vip%'", at=clock.now()) == 1
    assert tagging.put(customers=[], tag="wine", at=clock.now()) == 0
    ada.refresh_from_db()
    bo.refresh_from_db()
    assert (ada.tags, bo.tags) == (["wine"], ["wine"])
    assert sorted(DirtyCustomer.objects.values_list("customer_id", flat=True)) == sorted([ada.pk, ada.pk, bo.pk])


@pytest.mark.parametrize("tag", ["", "  ", "x" * 101, "a\x00b"])
def test_it_refuses_what_is_no_tag(tag):
    ada = CustomerFactory(tags=["vip"])
    with pytest.raises(InvalidInput, match="A tag has 1 to 100 letters"):
        tagging.put(customers=[ada.pk], tag=tag, at=clock.now())
    ada.refresh_from_db()
    assert (ada.tags, DirtyCustomer.objects.count()) == (["vip"], 0)
