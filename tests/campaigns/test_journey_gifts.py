"""Steps that give a voucher or change a tag: once, and through the verbs of who owns them."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from campaigns import audit
from campaigns.journeys import engine, entering, reading
from campaigns.models import Journey, JourneyRun, JourneyStep
from customers.models import DirtyCustomer
from lifecycle_crm.lib.errors import InvalidInput
from loyalty import vouchers
from loyalty.models import Voucher
from tests.campaigns.factories import NOON, happens, live_journey, person, trail

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]


def test_it_gives_a_voucher_once_and_says_when_none_was_left(noon):
    three = [person(), person(), person()]
    endless = vouchers.create(name="Spring", worth="percent", percent=10, valid_days=30)
    stock = vouchers.create(name="Few", worth="amount", amount_minor=500, is_endless=False)
    vouchers.generate(series=stock, count=2)
    made = live_journey([
        {"id": "s1", "do": "voucher", "series": endless.pk}, {"id": "s2", "do": "voucher", "series": stock.pk},
    ])  # fmt: skip
    entering.for_events([happens(one).pk for one in three])
    assert engine.advance_due() == {"vouchers": 5, "done": 3}
    outcomes = Counter(JourneyStep.objects.values_list("step", "outcome"))
    assert outcomes == {("s1", "voucher"): 3, ("s2", "voucher"): 2, ("s2", "sold_out"): 1, ("", "left"): 3}
    given = Voucher.objects.filter(series=endless)
    assert sorted(given.values_list("customer_id", "state")) == [(one.pk, "issued") for one in three]
    assert {one.expires_at for one in given} == {vouchers.expiry(endless, NOON)}
    run = JourneyRun.objects.filter(journey=made).first()
    wanted = [(run.customer_id, f"journey:{run.pk}:s1")]
    assert vouchers.issue_many(series=endless, wanted=wanted, at=NOON) == {wanted[0][1]}
    assert Voucher.objects.filter(series=endless).count() == 3
    assert audit.problems() == []


def test_it_gives_no_voucher_of_a_series_that_ended_meanwhile(noon):
    series = vouchers.create(name="Spring", worth="percent", percent=10, ends_on=NOON.date())
    live_journey([{"id": "s1", "do": "wait", "days": 2}, {"id": "s2", "do": "voucher", "series": series.pk}])
    anna = person()
    entering.for_events([happens(anna).pk])
    engine.advance_due()
    noon.shift(timedelta(days=2))
    with pytest.raises(InvalidInput, match="Choose vouchers that have not ended"):
        reading.plan_of(Journey.objects.get().draft)
    assert engine.advance_due() == {}
    made = Journey.objects.get()
    assert (made.state, made.guard) == ("paused", {"problem": "Choose vouchers that have not ended."})
    assert not Voucher.objects.exists()


def test_it_puts_tags_on_and_takes_them_off_and_the_last_word_holds():
    anna, bo = person(tags=["old", "kept"]), person(tags=["new"])
    live_journey([
        {"id": "s1", "do": "tag", "tag": "new"}, {"id": "s2", "do": "tag", "tag": "old", "remove": True},
        {"id": "s3", "do": "tag", "tag": "brief"}, {"id": "s4", "do": "tag", "tag": "brief", "remove": True},
    ])  # fmt: skip
    entering.for_events([happens(anna).pk, happens(bo).pk])
    assert engine.advance_due() == {"done": 2}
    anna.refresh_from_db()
    bo.refresh_from_db()
    assert (anna.tags, bo.tags) == (["kept", "new"], ["new"])
    assert set(DirtyCustomer.objects.values_list("customer_id", flat=True)) == {anna.pk}
    assert trail(anna) == ["s1:tagged", "s2:tagged", "s3:tagged", "s4:tagged", ":left"]
