"""What a role may do is one answer, whichever door is asked."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from campaigns.models import Campaign, Message, Run
from lifecycle_crm.accounts.models import ApiKey, Role, User
from stages.models import RuleSet
from tests.campaigns.factories import CampaignFactory, VariantFactory, person, planned
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("role", "powers"),
    [
        (Role.OWNER, "sees_contacts may_serve may_steer may_govern"),
        (Role.ADMIN, "sees_contacts may_serve may_steer may_govern"),
        (Role.MARKETER, "sees_contacts may_serve may_steer"),
        (Role.SUPPORT, "sees_contacts may_serve"),
        (Role.ANALYST, ""),
        (Role.VIEWER, ""),
    ],
)
def test_it_gives_each_role_its_powers(role, powers):
    named = ("sees_contacts", "may_serve", "may_steer", "may_govern")
    user = User(role=role)
    assert [name for name in named if getattr(user, name)()] == powers.split()
    user.is_superuser = True
    assert all(getattr(user, name)() for name in named)


@pytest.fixture
def support(client):
    client.force_login(UserFactory(role=Role.SUPPORT))
    return client


def test_support_sends_no_campaign_through_the_api_either(support):
    person()
    draft = CampaignFactory(state="draft", quiet_from=0, quiet_until=0)
    template = VariantFactory().template
    before = list(Campaign.objects.order_by("pk").values_list("pk", "state"))
    condition = {"fact": "stage", "op": "eq", "value": "retain"}
    asked = {"name": "Sale", "template": template.key, "audience": condition}
    assert support.post("/api/v1/campaigns/", asked, content_type="application/json").status_code == 403
    assert support.post(f"/api/v1/campaigns/{draft.pk}/send/").status_code == 403
    assert support.post(reverse("campaigns:send", args=[draft.pk])).status_code == 403
    assert list(Campaign.objects.order_by("pk").values_list("pk", "state")) == before
    assert not Run.objects.exists()


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
def test_support_stops_no_run_through_the_api_either(support, verb):
    run = planned([person()])
    before = (run.state, list(Message.objects.values_list("state", flat=True)))
    assert support.post(f"/api/v1/runs/{run.pk}/{verb}/").status_code == 403
    assert support.post(reverse("campaigns:run-act", args=[run.pk, verb])).status_code == 403
    run.refresh_from_db()
    assert (run.state, list(Message.objects.values_list("state", flat=True))) == before


def test_support_drafts_no_rules_through_the_api_either(support):
    before = RuleSet.objects.count()
    asked = {"name": "Mine", "rules": [{"key": "all", "to": "reach", "when": {"all": []}}]}
    assert support.post("/api/v1/rule-sets/", asked, content_type="application/json").status_code == 403
    assert support.post(reverse("stages:rules-draft")).status_code == 403
    assert RuleSet.objects.count() == before


def test_a_key_has_no_role_and_needs_its_scope():
    run = planned([person()])
    _key, reader = ApiKey.issue(name="reader", scopes=["campaigns:read"])
    _key, writer = ApiKey.issue(name="writer", scopes=["campaigns:write"])
    pause = f"/api/v1/runs/{run.pk}/pause/"
    assert Client().post(pause).status_code == 401
    assert Client().post(pause, headers={"Authorization": f"Bearer {reader}"}).status_code == 403
    assert Client().post(pause, headers={"Authorization": f"Bearer {writer}"}).status_code == 200
    run.refresh_from_db()
    assert run.state == Run.State.PAUSED
