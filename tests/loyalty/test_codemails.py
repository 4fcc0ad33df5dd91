"""The code of a redemption by e-mail: one message for a press, only to the address on file, a few times and no more."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.test import Client

from campaigns import checks, letters, outbox, texts
from campaigns.models import Campaign, Message, Rendering, Template
from customers.models import Customer
from lifecycle_crm import reactions
from lifecycle_crm.accounts.models import ApiKey
from lifecycle_crm.lib import clock
from loyalty import codemails, codes, rewards, vouchers
from loyalty.errors import CannotMail, KeyReused
from loyalty.models import CodeMail, Programme, Redemption
from tests.loyalty.factories import CustomerFactory, give
from tests.loyalty.test_api import post
from tests.loyalty.test_pages import text
from tests.loyalty.test_wallet import address

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> Customer:
    customer = CustomerFactory(name="Ada Example", email="ada@shop.example", language="sv")
    give(customer, 1000)
    return customer


@pytest.fixture
def got(ada: Customer) -> Redemption:
    """A voucher that ends in 30 days."""
    programme = Programme.current()
    assert programme is not None
    series = vouchers.create(name="Ten off", worth="percent", percent=10, valid_days=30)
    reward = rewards.create(programme=programme, name="Ten off", kind="voucher", series=series, points=100)
    return rewards.redeem(reward=reward, customer=ada, key="r")


def drain() -> None:
    reactions.drain(as_of=clock.now() + timedelta(seconds=1))


def test_a_press_becomes_one_message_to_the_address_on_file(got: Redemption) -> None:
    made = codemails.ask(redemption=got, key="one")
    assert codemails.ask(redemption=got, key="one").replayed
    drain()
    drain()
    message = Message.objects.get()
    code = codes.shown(got.voucher.code)
    assert (message.address, message.state, message.language) == ("ada@shop.example", "queued", "sv")
    assert (message.context["reward"]["code"], message.context["reward"]["name"]) == (code, "Ten off")
    made.refresh_from_db()
    assert made.reacted_at is not None
    campaign = Campaign.objects.get(key="reward-code")
    assert (campaign.purpose, campaign.state, campaign.holdout_percent) == ("service", "active", 0)
    assert set(texts.written_in(campaign.template)) == {"en", "sv", "nb", "pl", "cs"}


def test_the_message_says_the_code_and_its_last_day(got: Redemption, mailoutbox: list) -> None:
    codemails.ask(redemption=got, key="one")
    drain()
    outbox.send_due()
    made = Rendering.objects.get()
    assert made.subject == "Din kod för Ten off"
    assert codes.shown(got.voucher.code) in made.text
    assert "Du kan använda den till" in made.text
    assert Message.objects.get().state == "sent"


def test_the_words_are_the_shop_s_once_they_are_made(got: Redemption) -> None:
    codemails.ask(redemption=got, key="one")
    drain()
    template = Template.objects.get(key="reward-code")
    newest = texts.newest(template, "sv")
    assert newest is not None
    found = checks.find(template=template, subject=newest.subject, blocks=newest.blocks, language="sv")
    assert [one.code for one in found if one.level == checks.BAD] == []
    texts.write(template=template, language="sv", subject="Hej", blocks=[{"type": "text", "text": "{{ reward.code }}"}])
    codemails.ask(redemption=got, key="two")
    drain()
    assert texts.newest(template, "sv").subject == "Hej"
    # A preview knows no code and says nothing instead of failing.
    assert letters.preview(campaign=Campaign.objects.get(key="reward-code"), customer=got.customer).subject == "Hej"
    assert (Message.objects.count(), Campaign.objects.filter(key="reward-code").count()) == (2, 1)


def test_a_few_times_and_no_more(got: Redemption) -> None:
    for key in ("one", "two", "three"):
        codemails.ask(redemption=got, key=key)
    with pytest.raises(CannotMail, match="several times"):
        codemails.ask(redemption=got, key="four")
    values = {"redemption": got, "customer": got.customer, "key": "raw"}
    for number in (3, 4):
        with pytest.raises(IntegrityError), transaction.atomic():
            CodeMail.objects.create(**values, number=number)
    assert CodeMail.objects.count() == 3


def test_it_refuses_without_an_address_and_what_cannot_be_used(got: Redemption, ada: Customer) -> None:
    other = rewards.redeem(reward=got.reward, customer=ada, key="r2")
    codemails.ask(redemption=other, key="other")
    with pytest.raises(KeyReused):
        codemails.ask(redemption=got, key="other")
    ada.email = ""
    ada.save()
    with pytest.raises(CannotMail, match="no e-mail address"):
        codemails.ask(redemption=Redemption.objects.get(pk=got.pk), key="k")
    ada.email = "ada@shop.example"
    ada.save()
    rewards.cancel(redemption=other, actor=None, reason="Changed their mind")
    with pytest.raises(CannotMail, match="cannot be used any more"):
        codemails.ask(redemption=Redemption.objects.get(pk=other.pk), key="k")
    # What was asked before it was cancelled is not written either.
    drain()
    assert Message.objects.count() == 0


def test_the_wallet_has_a_button(got: Redemption, ada: Customer) -> None:
    page = Client().get(address(ada)).content.decode()
    key = re.search(r'name="key" value="([^"]+)"', page)
    assert key
    assert "Mejla mig koden" in page
    url = address(ada, "mail", got.pk)
    for _press in range(2):
        answer = Client().post(url, {"key": key.group(1)})
        assert "mailed=yes" in answer.url
    assert CodeMail.objects.count() == 1
    assert "Koden är på väg" in text(Client().get(answer.url))
    assert "mailed=no" in Client().post(url, {}).url
    assert Client().get(url).status_code == 405
    other = CustomerFactory()
    assert Client().post(address(other, "mail", got.pk), {"key": "k" * 20}).status_code == 404
    assert [Client().post(url, {"key": f"{'k' * 20}{n}"}).status_code for n in range(6)][-1] == 429
    assert CodeMail.objects.count() == 3


def test_the_same_over_rest(got: Redemption, ada: Customer) -> None:
    _key, secret = ApiKey.issue(name="till", scopes=["wallets:read", "wallets:write"])
    path = f"wallets/{ada.pk}/mail-code/"
    made = post(secret, path, {"redemption": got.pk}, "a")
    assert (made.status_code, made.json()["number"]) == (202, 1)
    assert post(secret, path, {"redemption": got.pk}, "a")["Idempotency-Replayed"] == "true"
    assert post(secret, path, {"redemption": 10**9}, "b").status_code == 404
    assert post(secret, path, {"redemption": got.pk}).status_code == 400
    assert CodeMail.objects.count() == 1
