"""Tasks for the team: their verbs, their pages and their endpoints."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from django.db import DatabaseError, transaction
from django.urls import reverse

from campaigns import audit, stafftasks, worklist
from campaigns.journeys import engine, entering
from campaigns.models import JourneyRun, StaffTask, StaffTaskChange
from customers.models import CustomerFacts
from lifecycle_crm.dashboard import today
from lifecycle_crm.dashboard.models import ReportDay
from lifecycle_crm.lib.errors import InvalidInput
from tests.api.factories import caller
from tests.campaigns.factories import happens, live_journey, person
from tests.factories import UserFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("noon")]

LIST = "/tasks/"


def tasks(n: int = 1, **step) -> list[StaffTask]:
    """A live journey that gave so many tasks, the last one to Anna Berg, who has a phone."""
    given = {"id": "s1", "do": "task", "kind": "call", "what": "Ask how it went", "days": 2, **step}
    live_journey(
        [given, {"id": "s2", "do": "task_done", "task": "s1", "at_most": {"days": 9}, "branches": [{"steps": []}]}]
    )
    crowd = [person() for _n in range(n - 1)] + [
        person(name="Anna Berg", phone="+46701234567", email="anna@mail.example")
    ]
    assert entering.for_events([happens(one).pk for one in crowd]) == n
    engine.advance_due()
    return list(StaffTask.objects.order_by("pk"))


def history(task: StaffTask) -> list[str]:
    return [one.what for one in worklist.changes(task)]


def test_it_is_passed_on_put_off_and_done_and_keeps_who_did_what():
    [task], maja, ada = tasks(), UserFactory(role="marketer"), UserFactory(role="support")
    stafftasks.pass_on(task=task, actor=maja, assignee=ada, why="She knows them")
    stafftasks.put_off(task=task, actor=ada, until=date(2026, 11, 30), why="On holiday")
    stafftasks.done(task=task, actor=ada, why="All is well")
    assert (task.state, task.assignee, task.due_on, task.edits) == ("done", ada, date(2026, 11, 30), 3)
    assert list(worklist.changes(task).values_list("what", "by", "why", "assignee", "due_on")) == [
        ("passed_on", maja.pk, "She knows them", ada.pk, None),
        ("put_off", ada.pk, "On holiday", None, date(2026, 11, 30)),
        ("done", ada.pk, "All is well", None, None),
    ]
    assert JourneyRun.objects.get().due_at <= task.settled_at
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        StaffTaskChange.objects.filter(what="done").update(what="not_done")
    assert audit.problems() == []


def test_of_two_who_press_at_once_one_wins_and_the_other_is_told_who():
    [task], maja = tasks(), UserFactory(role="marketer", name="Maja")
    seen, also_seen = task.edits, StaffTask.objects.get()
    stafftasks.put_off(task=task, actor=maja, until=date(2026, 11, 25))
    for verb, more in (
        (stafftasks.done, {}),
        (stafftasks.not_done, {"why": "No number"}),
        (stafftasks.pass_on, {"role": "admin"}),
        (stafftasks.put_off, {"until": date(2026, 11, 26)}),
    ):
        with pytest.raises(stafftasks.TaskMoved, match=r"^Maja was quicker: Put off\. Nothing of yours was written\.$"):
            verb(task=also_seen, actor=None, edits=seen, **more)
    assert history(task) == ["put_off"]
    assert JourneyRun.objects.get().due_at > task.created_at
    stafftasks.done(task=task, actor=maja)
    with pytest.raises(stafftasks.TaskMoved, match=r"^Maja was quicker: Done\."):
        stafftasks.done(task=task, actor=None)
    assert history(task) == ["put_off", "done"]


@pytest.mark.parametrize(
    ("verb", "more", "code"),
    [
        (stafftasks.not_done, {"why": " "}, "no_reason"),
        (stafftasks.done, {"why": "x" * 301}, "text_too_long"),
        (stafftasks.put_off, {"until": date(2026, 11, 19)}, "wrong_day"),
        (stafftasks.put_off, {"until": date(2027, 11, 21)}, "wrong_day"),
        (stafftasks.pass_on, {"role": "viewer"}, "wrong_role"),
    ],
)
def test_it_refuses_what_makes_no_sense(verb, more, code):
    [task] = tasks()
    with pytest.raises(InvalidInput) as refused:
        verb(task=task, actor=None, **more)
    assert refused.value.code == code
    task.refresh_from_db()
    assert (task.state, task.edits, history(task)) == ("open", 0, [])


def test_it_is_passed_on_only_to_who_works_with_customers():
    [task] = tasks()
    for nobody in (UserFactory(role="viewer"), UserFactory(role="support", is_active=False)):
        with pytest.raises(InvalidInput, match="does not work with customers"):
            stafftasks.pass_on(task=task, actor=None, assignee=nobody)
    with pytest.raises(InvalidInput, match="not both"):
        stafftasks.pass_on(task=task, actor=None, assignee=UserFactory(role="admin"), role="admin")
    assert history(task) == []


def test_it_knows_whose_tasks_are_whose_and_which_are_late(noon):
    maja, ada = UserFactory(role="marketer"), UserFactory(role="support")
    mine, role, hers, anybody = tasks(4)
    stafftasks.pass_on(task=mine, actor=None, assignee=maja)
    stafftasks.pass_on(task=role, actor=None, role="marketer")
    stafftasks.pass_on(task=hers, actor=None, assignee=ada)
    stafftasks.put_off(task=anybody, actor=None, until=date(2026, 11, 29))
    assert worklist.page(worklist.Asked("mine", maja))[0] == [mine, role, anybody]
    assert worklist.page(worklist.Asked("mine", ada))[0] == [hers, anybody]
    assert worklist.waiting(maja) == worklist.Waiting(0, 0)
    noon.shift(timedelta(days=2))
    assert worklist.waiting(maja) == worklist.Waiting(2, 0)
    noon.shift(timedelta(days=1))
    assert worklist.waiting(maja) == worklist.Waiting(2, 2)
    assert worklist.page(worklist.Asked("late"))[0] == [mine, role, hers]
    stafftasks.done(task=hers, actor=ada)
    assert worklist.page(worklist.Asked("done"))[0] == [hers]
    report = ReportDay(business_date=date(2026, 11, 22))
    [line] = [one for one in today.lines(None, report, maja) if one.url == LIST]
    assert (line.text, line.kind) == ("2 tasks of yours are overdue.", "warn")
    assert not [one for one in today.lines(None, report, UserFactory(role="viewer")) if one.url == LIST]


@pytest.mark.parametrize("view", ["all", "done"])
def test_its_pages_follow_each_other_without_a_gap(view, noon):
    for task in tasks(5):
        if view == "done":
            stafftasks.done(task=task, actor=None)
            noon.shift(timedelta(seconds=task.pk % 2))
    asked, seen, after = worklist.Asked(view), [], ""
    for _page in range(3):
        rows, after = worklist.page(asked, after=after, size=2)
        seen += rows
    assert after == ""
    assert seen == list(worklist.found(asked))
    assert len(seen) == 5


def test_a_person_works_through_the_list_with_plain_forms(client):
    ada = UserFactory(role="support", name="Ada")
    client.force_login(ada)
    task = tasks(2)[-1]
    page = client.get(LIST).content.decode()
    for said in ("Ask how it went", "Anna Berg", "+46701234567", "Nov", "Welcome", "the team"):
        assert said in page
    at = reverse("campaigns:task", args=[task.pk])
    page = client.get(at).content.decode()
    for said in (
        "tel:+46701234567",
        "anna@mail.example",
        "Does “signup”",
        "Gives a task for 2 days to the team: Call them",
    ):
        assert said in page

    def press(verb: str, edits: int, **more: str):
        return client.post(
            f"{at}{verb}/", {f"{verb}-{name}": value for name, value in {"edits": edits, **more}.items()}
        )

    assert press("not-done", 0).status_code == 422
    assert press("put-off", 0, until="2020-01-01").status_code == 422
    assert press("put-off", 0, until="2026-11-27").url == at
    assert press("pass-on", 1, whom=f"person:{ada.email}").url == at
    told = client.get(at).content.decode()
    assert "Put off: 27 Nov 2026" in told
    assert "Passed on: Ada" in told
    # From a page that was made before: told, and nothing written.
    answer = press("done", 0)
    assert "Ada was quicker: Passed on." in client.get(answer.url).content.decode()
    press("done", 2, why="All is well")
    task.refresh_from_db()
    assert (task.state, history(task)) == ("done", ["put_off", "passed_on", "done"])
    assert "All is well" in client.get(at).content.decode()
    assert "Anna Berg" in client.get(LIST, {"view": "done"}).content.decode()
    assert "Anna Berg" not in client.get(LIST).content.decode()
    assert "Nothing matches these filters" in client.get(LIST, {"kind": "social"}).content.decode()
    assert client.get(LIST, {"after": "9_x", "view": "??", "journey": "9" * 30, "kind": "x"}).status_code == 200
    assert client.get(LIST, {"after": f"{'9' * 18}_1"}).status_code == 200
    assert client.get("/tasks/999/").status_code == 404


def test_who_may_not_see_contacts_reads_no_name_and_presses_nothing(client):
    client.force_login(UserFactory(role="viewer"))
    [task] = tasks()
    stafftasks.put_off(task=task, actor=None, until=task.due_on, why="Anna is away")
    for path in (LIST, f"{LIST}?view=all", f"/tasks/{task.pk}/", reverse("campaigns:tasks-csv")):
        answer = client.get(path)
        said = (b"".join(answer) if answer.streaming else answer.content).decode()
        assert answer.status_code == 200
        for hidden in ("Anna", "+467012", "anna@mail"):
            assert hidden not in said
    assert client.post(f"/tasks/{task.pk}/done/", {"done-edits": 1}).status_code == 403
    task.refresh_from_db()
    assert task.state == "open"


def test_it_gives_the_list_as_csv_with_what_a_spreadsheet_would_run_made_harmless(client):
    client.force_login(UserFactory(role="support"))
    [task] = tasks(what="=1+1")
    head, row = b"".join(client.get(reverse("campaigns:tasks-csv"), {"view": "all"})).decode().splitlines()
    assert head.startswith("id,due,state,withdrawn,kind,what")
    assert row.startswith(f"{task.pk},2026-11-22,open,,call,'=1+1,,,{task.customer_id},Welcome,s1,2026-11-20T11:00")


def test_it_stands_on_the_page_of_the_customer(client):
    client.force_login(UserFactory(role="support"))
    [task] = tasks()
    CustomerFacts.objects.filter(customer=task.customer).update(orders=1)
    page = client.get(reverse("dashboard:customer", args=[task.customer_id])).content.decode()
    assert page.count(f'href="/tasks/{task.pk}/"') == 2  # among the cards, and in the time line
    assert "Task for the team: Ask how it went" in page
    results = client.get(reverse("campaigns:journey-results", args=[task.run.journey_id])).content.decode()
    assert "Open: 1, done: 0, not done: 0" in results


def test_a_key_lists_and_settles_tasks_with_its_scope():
    [task, other], ada = tasks(2), UserFactory(role="support")
    at = f"/api/v1/tasks/{task.pk}/"
    assert caller("campaigns:*").get("/api/v1/tasks/").status_code == 403
    reader = caller("tasks:read")
    assert [one["id"] for one in reader.get("/api/v1/tasks/").json()["results"]] == [other.pk, task.pk]
    assert [one["id"] for one in reader.get("/api/v1/tasks/", {"customer": task.customer_id}).json()["results"]] == [
        task.pk
    ]
    assert reader.get("/api/v1/tasks/", {"due_before": "2026-11-22"}).json()["results"] == []
    assert reader.post(f"{at}done/", {}, format="json").status_code == 403
    writer = caller("tasks:write")
    answer = writer.post(f"{at}pass-on/", {"assignee": ada.pk, "why": "Hers", "edits": 0}, format="json")
    assert (answer.status_code, answer.json()["assignee"], answer.json()["edits"]) == (200, ada.pk, 1)
    assert writer.post(f"{at}put-off/", {"until": "2026-11-28"}, format="json").json()["due_on"] == "2026-11-28"
    answer = writer.post(f"{at}done/", {"edits": 1}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (409, "task_moved")
    assert writer.post(f"{at}not-done/", {}, format="json").status_code == 400
    assert writer.post(f"{at}not-done/", {"why": "No number"}, format="json").json()["state"] == "not_done"
    told = reader.get(at).json()
    assert [(one["what"], one["why"]) for one in told["changes"]] == [
        ("passed_on", "Hers"), ("put_off", ""), ("not_done", "No number"),
    ]  # fmt: skip
    assert writer.post(f"{at}pass-on/", {"assignee": 999_999}, format="json").status_code == 404
    journeys = caller("campaigns:read").get(f"/api/v1/journeys/{told['journey']}/results/").json()
    assert journeys["tasks"] == {"s1": {"not_done": 1, "open": 1}}
