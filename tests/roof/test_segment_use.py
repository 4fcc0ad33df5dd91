"""A segment is not put away while anything in the shop names it, and its page says what does."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from campaigns.journeys import publishing
from campaigns.models import Campaign, Run
from customers import segments, usage
from customers.models import Segment
from lifecycle_crm.lib.errors import Conflict
from loyalty import presets, rules
from loyalty.models import Programme
from tests.api.factories import caller
from tests.campaigns.factories import CampaignFactory, planned
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db
IN_VIP = {"segment": "vip"}


@pytest.fixture
def vip() -> Segment:
    return segments.create(name="VIP", key="vip", condition={"tag": "vip"})


def earning_rule() -> Any:
    presets.install(preset=presets.PRESETS[0])
    programme = Programme.objects.first()
    return rules.create(programme=programme, kind="order", name="Gift", points=5, segment="vip")


def journey(**tree: Any) -> Any:
    exits = tree.pop("exits", [])
    made = publishing.create(name="Follow-up", tree={"trigger": {"on": "order"}, "steps": []} | tree)
    return publishing.set_up(journey=made, exits=exits)


WAIT = {"id": "s9", "do": "wait", "days": 1}
SPLIT = {"id": "s1", "do": "split", "branches": [{"when": {"not": IN_VIP}, "steps": []}], "else": []}


@pytest.mark.parametrize(
    ("make", "kind", "url"),
    [
        (earning_rule, "Earning rule", "/loyalty/programmes/"),
        (lambda: CampaignFactory(audience={"any": [IN_VIP]}, state="draft"), "Campaign", "/campaigns/"),
        (lambda: CampaignFactory(audience=IN_VIP, kind="reactivation"), "Campaign", "/campaigns/"),
        (lambda: journey(trigger={"on": "segment_entered", "segment": "vip"}), "Journey", "/journeys/"),
        (lambda: journey(steps=[SPLIT]), "Journey", "/journeys/"),
        (lambda: journey(exits=[IN_VIP]), "Journey", "/journeys/"),
        (lambda: segments.create(name="Inner", key="inner", condition={"not": IN_VIP}), "Segment", "/segments/inner/"),
    ],
    ids=["earning rule", "draft campaign", "win-back", "trigger", "split", "exit", "segment"],
)  # fmt: skip
def test_it_is_kept_while_something_names_it(vip, make, kind, url, client: Client):
    make()
    [use] = usage.of("vip")
    assert (str(use.kind), use.url.startswith(url)) == (kind, True)
    with pytest.raises(Conflict, match=r"“VIP” is used in “.*”\. Take it out there first\."):
        segments.archive(segment=vip)
    answer = caller("segments:write").patch("/api/v1/segments/vip/", {"archived": True, "name": "Other"}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    assert answer.json()["details"]["used_in"] == [{"kind": kind, "name": use.name, "url": use.url}]
    vip.refresh_from_db()
    assert (vip.archived_at, vip.name) == (None, "VIP")
    client.force_login(UserFactory(role="viewer"))
    for address in ("/segments/vip/", "/segments/"):
        page = client.get(address).content.decode()
        assert f'href="{use.url}"' in page
        assert use.name in page
    assert client.get(use.url).status_code == 200


def test_what_is_over_lets_it_go(vip):
    rules.stop(rule=earning_rule())
    sent = planned([], campaign=CampaignFactory(audience=IN_VIP))
    Run.objects.filter(pk=sent.pk).update(state=Run.State.FINISHED)
    CampaignFactory(audience=IN_VIP, state=Campaign.State.ENDED, kind="reactivation")
    publishing.end(journey=journey(exits=[IN_VIP]))
    assert usage.of("vip") == []
    assert segments.archive(segment=vip).archived_at is not None


def test_the_version_in_force_counts_besides_the_draft(vip):
    made = journey(steps=[SPLIT])
    publishing.publish(journey=made)
    publishing.save(journey=made, tree={"trigger": {"on": "order"}, "steps": [WAIT]})
    assert [use.name for use in usage.of("vip")] == ["Follow-up"]
    publishing.publish(journey=made)
    assert usage.of("vip") == []


def test_a_refusal_names_a_few_and_counts_the_others(vip):
    for n in range(7):
        segments.create(name=f"S{n}", condition=IN_VIP)
    with pytest.raises(Conflict, match=r"“S0”, “S1”, “S2”, “S3”, “S4” \(\+2\)\."):
        segments.archive(segment=vip)


def test_it_is_put_away_and_taken_back_over_rest(vip):
    api = caller("segments:write")
    answer = api.patch("/api/v1/segments/vip/", {"archived": True, "note": "for later"}, format="json")
    assert (answer.status_code, answer.json()["archived_at"] is None, answer.json()["note"]) == (
        200,
        False,
        "for later",
    )
    answer = api.patch("/api/v1/segments/vip/", {"archived": False}, format="json")
    assert (answer.status_code, answer.json()["archived_at"]) == (200, None)
    assert caller("segments:read").patch("/api/v1/segments/vip/", {"archived": True}, format="json").status_code == 403
