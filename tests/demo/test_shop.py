from __future__ import annotations

import io
import stat
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.db.models import F, Max, Min

from customers.models import Consent, Customer, CustomerFacts, Event, Order, OrderLine
from feedback.models import Response
from lifecycle_crm import reactions
from lifecycle_crm.accounts.models import User
from lifecycle_crm.demo import club, histories, programmes, shop
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.models import Note
from loyalty import audit, earning, ledger, referrals
from loyalty.models import Entry, Membership, Programme, Redemption, Referral, Reward, Voucher
from stages.models import Night

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def var(settings: Any, tmp_path: Path) -> Path:
    settings.VAR_DIR = tmp_path
    return tmp_path


def demo(*arguments: str) -> str:
    out = io.StringIO()
    call_command("demo", *arguments, stdout=out)
    return out.getvalue()


def everything() -> list[Any]:
    """All rows of the shop but for our ids and the moment of loading."""
    owner = F("customer__email")
    who = ("name", "email", "phone", "city", "country", "birth_date", "known_since")
    what = ("order__source_id", "title", "quantity", "unit_minor", "product__sku")
    return [
        list(Customer.objects.order_by("email").values_list(*who)),
        list(Order.objects.order_by("source_id").values_list("source_id", owner, "placed_at", "amount_minor", "items")),
        sorted(OrderLine.objects.values_list(*what)),
        list(Event.objects.order_by("source_id").values_list("source_id", owner, "name", "occurred_at", "properties")),
        sorted(Consent.objects.values_list(owner, "is_granted", "occurred_at", "language")),
        list(Response.objects.order_by("source_id").values_list("source_id", owner, "score", "comment", "answered_at")),
    ]


def test_it_makes_the_same_shop_from_the_same_seed() -> None:
    shops = []
    for seed in (7, 7, 8):
        with transaction.atomic():
            shop.build(customers=120, seed=seed)
            shops.append(everything())
            transaction.set_rollback(True)
    assert shops[0] == shops[1]
    assert shops[0] != shops[2]


def test_it_makes_larger_shops_from_real_histories() -> None:
    note = shop.build(customers=4000)
    assert (note["customers"], note["buyers"]) == (4000, 3400)
    assert Customer.objects.count() == 4000
    real = {tuple((one.items, one.cents) for one in history.purchases) for history in histories.read()}
    bought: dict[int, list[tuple[datetime, int, int]]] = {}
    for pk, at, items, cents in Order.objects.values_list("customer_id", "placed_at", "items", "amount_minor"):
        bought.setdefault(pk, []).append((at, items, cents))
    assert len(bought) == 3400
    sums = {sum(cents for _items, cents in history) for history in real}
    assert all(sum(cents for _at, _items, cents in orders) in sums for orders in bought.values())
    assert max(Order.objects.values_list("placed_at", flat=True)) < clock.day_end(clock.last_complete_day())


def test_it_loads_once_and_says_so(var: Path) -> None:
    text = demo("--customers", "50", "--no-nights")
    assert "50 people (42 with real purchases)" in text
    before = everything()
    assert demo("--no-nights").strip() == "the sample shop is there"
    assert everything() == before
    note = Note.objects.get(name="sample_shop").value
    assert note["text"] == "sample shop: real purchases from 1997–98, moved to end today; invented names"
    assert note["nights"] is False


def test_it_leaves_the_customers_of_others_alone() -> None:
    Customer.objects.create(name="Real Person")
    assert "no sample shop is loaded" in demo()
    assert Customer.objects.count() == 1
    assert not Note.objects.exists()


def test_it_writes_the_sign_in_once_and_only_for_its_owner(var: Path) -> None:
    demo("--customers", "5", "--no-nights")
    path = var / "sign-in.txt"
    address, password = path.read_text(encoding="utf-8").split()
    owner = User.objects.get()
    assert (owner.email, owner.role, owner.check_password(password)) == ("demo@shop.example", "owner", True)
    assert address == owner.email
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    demo("--no-nights")
    assert not path.exists()


def test_it_replays_the_nights_and_goes_on_where_it_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    base = histories.read()
    last = max(one.day for history in base for one in history.purchases)
    short = [histories.History(h.number, tuple(p for p in h.purchases if (last - p.day).days < 6)) for h in base]
    monkeypatch.setattr(shop.histories, "read", lambda: [history for history in short if history.purchases])
    demo("--customers", "30", "--no-nights")
    assert not Night.objects.exists()
    text = demo()
    note = Note.objects.get(name="sample_shop").value
    first, end = date.fromisoformat(note["from"]), date.fromisoformat(note["to"])
    assert note["nights"] is True
    assert f"{(end - first).days + 1} nights are replayed" in text
    assert list(Night.objects.order_by("business_date").values_list("business_date", flat=True)) == list(
        clock.days(first, end)
    )
    assert CustomerFacts.objects.exclude(stage="").count() == 30
    assert "nights" not in demo()


def test_it_refuses_a_shop_in_another_currency(settings: Any) -> None:
    settings.SHOP_CURRENCY = "SEK"
    with pytest.raises(CommandError, match="SHOP_CURRENCY is SEK"):
        demo("--no-nights")
    assert not Customer.objects.exists()


def test_it_has_invented_rewards_redemptions_vouchers_and_friends_and_a_second_run_adds_none() -> None:
    shop.build(customers=300)
    own = Reward.objects.filter(programme=Programme.current())
    assert (own.count(), Reward.objects.count()) == (7, 14)
    brought = Referral.objects.count()
    assert brought >= 4
    assert not Redemption.objects.exists()
    orders = list(Order.objects.values_list("pk", flat=True))
    earning.award_for_orders(orders)
    referrals.reward_for_orders(orders)
    assert set(Referral.objects.values_list("state", flat=True)) <= {"rewarded", "review", "refused"}
    ends = Customer.objects.aggregate(low=Min("pk"), high=Max("pk"))
    ledger.activate_due(as_of=clock.now(), low=ends["low"], high=ends["high"] + 1)
    ledger.expire_due(as_of=clock.now(), low=ends["low"], high=ends["high"] + 1)
    day = clock.last_complete_day()
    made = sum(club.redeem_some(seed=shop.SEED, day=day - timedelta(days=back)) for back in range(5))
    assert made > 20
    assert {"ordered", "handed_out"} <= set(Redemption.objects.values_list("state", flat=True))
    assert Voucher.objects.exclude(state="free").exists()
    assert (club.redeem_some(seed=shop.SEED, day=day), club.bring_friends(seed=shop.SEED)) == (0, brought)
    club.install()
    assert (own.count(), Referral.objects.count(), Redemption.objects.count()) == (7, brought, made)
    assert audit.problems() == []


def test_it_has_four_more_programmes_side_by_side_with_members_and_flights() -> None:
    note = shop.build(customers=300)
    assert list(Programme.objects.values_list("key", flat=True)) == ["points", "coffee", "airline", "plus", "card"]
    assert note["customers"] == 300
    for one in Programme.objects.filter(joining="asked"):
        assert one.memberships.filter(joined_at__lt=clock.now()).count() > 5
    flights = Event.objects.filter(name="flight")
    assert flights.count() > 20
    reactions.drain(as_of=clock.whole_now())
    flown = Membership.objects.filter(programme__key="airline", customer__events__in=flights).first()
    assert flown is not None
    assert Entry.objects.filter(programme__key="airline", source_type="event").exists()
    assert Entry.objects.filter(programme__key="coffee", source_type="order").exists()
    assert programmes.install(seed=shop.SEED, opens=clock.now(), ends=clock.now()) == 0
    assert audit.problems() == []
