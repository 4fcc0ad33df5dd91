"""The drawing of a journey: everything is on it once, nothing lies on anything else, and it says the same in words."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.urls import reverse
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns import journey_map
from campaigns.journey_map import GAP, HIGH, WIDE, drawn
from campaigns.journeys import engine, entering
from tests.campaigns.factories import happens, live_journey, person


def line(number: str = "1", do: str = "wait", ways: Any = (), people: str = "") -> dict[str, Any]:
    return {"number": number, "do": do, "sentence": "Waits 3 days", "people": people, "ways": ways}


def way(*lines: Any) -> dict[str, Any]:
    return {"name": "Everybody else", "lines": list(lines)}


def test_a_sequence_runs_down_and_ends():
    made = drawn("Places an order", [line("1"), line("2", people="2 here, 3 passed")])
    assert [(box.x, box.y, box.kind) for box in made.boxes] == [
        (1, 1, "trigger"), (1, 1 + HIGH + GAP, "wait"), (1, 1 + 2 * (HIGH + GAP), "wait"),
    ]  # fmt: skip
    assert made.paths[0] == f"M105 {1 + HIGH}V{1 + HIGH + GAP}"
    assert made.end is not None
    assert [box.people.text for box in made.boxes if box.people] == ["2 here, 3 passed"]


def test_the_ways_of_a_split_stand_beside_each_other_and_meet_again_but_for_one_that_ends():
    made = drawn(
        "Places an order", [line("1", "split", [way(line("1a1")), way(), way(line("1c1", "exit"))]), line("2")]
    )
    assert made.width == 3 * WIDE + 2 * journey_map.BESIDE + 2
    first, exits = made.boxes[2], made.boxes[3]
    assert (first.y, first.x, exits.x) == (exits.y, 1, 1 + 2 * (WIDE + journey_map.BESIDE))
    # Into the step after the split come the way with a step and the empty one.
    after = made.boxes[4]
    assert sum(path.endswith(f"V{after.y:g}") for path in made.paths) == 2
    assert [one.text for one in made.ways] == ["Everybody else"] * 3


def trees(depth: int = 0) -> Any:
    inner = st.lists(st.deferred(lambda: trees(depth + 1)), max_size=3) if depth < 3 else st.just([])
    split = st.builds(
        lambda ways: line(do="split", ways=[way(*one) for one in ways]), st.lists(inner, min_size=1, max_size=3)
    )
    return st.sampled_from([line(), line(do="exit")]) | split if depth < 3 else st.just(line())


def count(lines: Any) -> int:
    return sum(1 + sum(count(one["lines"]) for one in each["ways"]) for each in lines)


@given(st.lists(trees(), max_size=4))
@settings(max_examples=100, deadline=None)
def test_every_step_is_drawn_once_inside_the_drawing_and_no_two_overlap(lines):
    made = drawn("Places an order", lines)
    assert len(made.boxes) == 1 + count(lines)
    for box in made.boxes:
        assert 0 <= box.x <= made.width - WIDE
        assert 0 <= box.y <= made.height - HIGH
    for number, box in enumerate(made.boxes):
        for other in made.boxes[number + 1 :]:
            assert abs(box.x - other.x) >= WIDE or abs(box.y - other.y) >= HIGH


@pytest.mark.django_db
@pytest.mark.usefixtures("noon")
def test_the_page_draws_it_with_the_people_and_says_the_same_in_words(marketer):
    rich = {"fact": "points", "op": "gte", "value": 100}
    journey = live_journey([
        {"id": "s1", "do": "wait", "days": 3},
        {"id": "s2", "do": "split", "branches": [{"when": rich, "steps": [{"id": "s3", "do": "exit"}], "name": "<Rich>"}],
         "else": []},
    ])  # fmt: skip
    entering.for_events([happens(person()).pk, happens(person()).pk])
    engine.advance_due()
    page = marketer.get(reverse("campaigns:journey-map", args=[journey.pk])).content.decode()
    assert page.count('<g class="map-step') == 4
    assert page.count("2 here, 0 passed") == 2
    assert page.count("&lt;Rich&gt;") == 2
    assert not re.search(r'(?:x|y|d)="[^"]*\d,\d', page)
    in_swedish = marketer.get(
        reverse("campaigns:journey-map", args=[journey.pk]), HTTP_ACCEPT_LANGUAGE="sv"
    ).content.decode()
    assert not re.search(r'(?:x|y|width|height)="\d+,\d', in_swedish)
