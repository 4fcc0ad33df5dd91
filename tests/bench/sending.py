"""Planning and sending beside the least the data allows and beside what Django itself does with the same messages.

Everything goes over SMTP to a server in another process that accepts at once. Ours keeps every promise meanwhile: claim,
gate, ``sending`` committed per message, settled, what they saw kept. Django's does nothing but render, build and send.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection
from django.db import connection, transaction
from django.template import Context, Engine
from django.test import override_settings

from campaigns import letters, outbox, planning
from campaigns.models import Campaign, Message, Run, Slot, Template
from customers.models import Customer
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import parameter
from tests.bench.sink import Sink

SENT = 4_000
"""Messages per measured round; fewer in a smaller shop."""
ROUNDS = 3


class _Undo(Exception):
    pass


def campaign() -> Campaign:
    """The win-back text that ships, to everybody, at any hour."""
    return Campaign.objects.create(
        name="Bench", template=Template.objects.get(key="win-back"), holdout_percent=0, state="active", cap_per_day=1000,
        cap_per_week=1000, quiet_from=0, quiet_until=0,
    )  # fmt: skip


def spent(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds on the wall and of this process's CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def agreeing(one: Campaign, limit: int) -> list[int]:
    """Customers whom planning would queue, lowest id first."""
    found: list[int] = []
    try:
        with transaction.atomic():
            everybody = ("SELECT id AS customer_id FROM customers_customer", [])
            run = planning.plan(campaign=one, run_key="bench:who", audience=everybody, as_of=clock.now(), start=False)
            queued = Message.objects.filter(run=run, state="queued").order_by("customer_id")
            found += queued.values_list("customer_id", flat=True)[:limit]
            raise _Undo
    except _Undo:
        return found


def ours(one: Campaign, people: list[int], number: int) -> tuple[float, float, int]:
    """One run over all of them: wall, CPU, messages sent. Planning is measured apart."""
    run = planning.plan(campaign=one, run_key=f"bench:{number}", audience=people, as_of=clock.now())

    def work() -> None:
        while outbox.send_due(limit=100_000, seconds=600):
            continue

    wall, cpu = spent(work)
    sent = Message.objects.filter(run=run, state="sent").count()
    return wall, cpu, sent


def _as_django(one: Campaign) -> dict[str, tuple[Any, Any, Any]]:
    """The same texts as Django templates, per language: what our layout made, with Django's variables in its places."""
    engine = Engine()
    answer = {}
    person = Customer.objects.first()
    assert person is not None
    for language in letters.texts_of(one):
        Customer.objects.filter(pk=person.pk).update(language=language, given_name="QQNAMEQQ")
        person.refresh_from_db()
        made = letters.preview(campaign=one, customer=person)
        places = ((r"QQNAMEQQ", "{{ name }}"), (r"https?://[^\s\"<]*/p/u/preview", "{{ way_out }}"))
        texts = [made.subject, made.text, made.html.replace("><", ">\n<")]
        for pattern, place in places:
            texts = [re.sub(pattern, place, text) for text in texts]
        answer[language] = tuple(engine.from_string(text) for text in texts)
    return answer


def django(people: list[dict[str, Any]], texts: dict[str, tuple[Any, Any, Any]]) -> None:
    """What ``send_mass_mail`` does (build all, send all over one connection), with an HTML part and the same headers."""
    with get_connection() as backend:
        for some in batches.of(people, 100):
            messages = []
            for person in some:
                subject, text, page = texts[person["language"]]
                values = Context(person)
                mail = EmailMultiAlternatives(
                    subject.render(values),
                    text.render(values),
                    settings.EMAIL_FROM,
                    [person["email"]],
                    headers={
                        "List-Unsubscribe": f"<{person['way_out']}>",
                        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
                        "List-Id": "Bench <marketing.shop.example>",
                        "Feedback-ID": "1:marketing:shop.example",
                        "Auto-Submitted": "auto-generated",
                    },
                    connection=backend,
                )
                mail.attach_alternative(page.render(values), "text/html")
                messages.append(mail)
            backend.send_messages(messages)


def _people(ids: list[int], languages: set[str]) -> list[dict[str, Any]]:
    rows = Customer.objects.filter(pk__in=ids).order_by("pk").values_list("pk", "email", "given_name", "language")
    return [
        {
            "email": email,
            "name": name,
            "language": language if language in languages else "en",
            "way_out": f"{settings.SITE_URL}/p/u/{pk:x}-{pk:x}-m~0123456789abcdefghijklmnopqrstuvwxyz0123456/",
        }
        for pk, email, name, language in rows
    ]


def sending() -> list[dict[str, Any]]:
    one = campaign()
    people = agreeing(one, SENT)
    n = len(people)
    with Sink() as sink:
        mail = {
            "EMAIL": sink.options, "EMAIL_HOST": "127.0.0.1", "EMAIL_PORT": sink.port, "EMAIL_HOST_USER": "",
            "EMAIL_HOST_PASSWORD": "", "EMAIL_USE_TLS": False, "EMAIL_USE_SSL": False,
            "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        }  # fmt: skip
        with override_settings(**mail):
            texts = _as_django(one)
            theirs = _people(people, set(texts))
            ours(one, people[:200], 0)
            django(theirs[:200], texts)
            rounds: list[tuple[float, float]] = []
            beside: list[tuple[float, float]] = []
            for number in range(1, ROUNDS + 1):
                Slot.objects.all().delete()
                before = sink.count()
                wall, cpu, sent = ours(one, people, number)
                assert sent == n == sink.count() - before, (sent, n, sink.count() - before)
                rounds.append((wall, cpu))
                beside.append(spent(lambda: django(theirs, texts)))
    wall, cpu = (statistics.median(one[k] for one in rounds) for k in (0, 1))
    their_wall, their_cpu = (statistics.median(one[k] for one in beside) for k in (0, 1))
    return [
        {
            "what": f"send {n:,} messages, every promise kept",
            "median_s": wall,
            "min_s": min(one[0] for one in rounds),
            "max_s": max(one[0] for one in rounds),
            "note": f"{n / wall:,.0f}/s on the wall, {n / cpu:,.0f} per CPU second; {their_cpu / cpu:.1f} × Django by "
            f"CPU, {their_wall / wall:.1f} × by the wall",
            "per_second": n / wall,
            "per_cpu_second": n / cpu,
            "times_django_cpu": their_cpu / cpu,
            "times_django_wall": their_wall / wall,
        },
        {
            "what": "the same by Django's send_messages",
            "median_s": their_wall,
            "min_s": min(one[0] for one in beside),
            "max_s": max(one[0] for one in beside),
            "note": f"{n / their_wall:,.0f}/s on the wall, {n / their_cpu:,.0f} per CPU second",
        },
    ]


def _undone(work: Callable[[], Any]) -> float:
    took = 0.0
    try:
        with transaction.atomic():
            began = time.perf_counter()
            work()
            took = time.perf_counter() - began
            raise _Undo
    except _Undo:
        return took


def plans() -> list[dict[str, Any]]:
    """Freezing everybody beside the least that writes those rows: one INSERT … SELECT without a question asked."""
    one = Campaign.objects.filter(name="Bench").first() or campaign()
    run = Run.objects.create(campaign=one, key="bench:floor", as_of=clock.now(), variants={})
    at = parameter(clock.now())
    moment = "%s::timestamptz" if connection.vendor == "postgresql" else "%s"

    def floor() -> None:
        batches.execute(
            f"""
            INSERT INTO campaigns_message (run_id, customer_id, channel, state, reason, verdict, consent_id, context,
                address, language, owner, attempt, tries, due_at, transport, message_id, error, created_at)
            SELECT %s, c.id, 'email', 'queued', '', '{{}}', NULL, '{{}}', c.email, c.language, '', 0, 0, {moment}, '', '',
                   '', {moment}
            FROM customers_customer c
            """,
            [run.pk, at, at],
        )

    def work() -> None:
        planning.plan(
            campaign=one,
            run_key="bench:plan",
            audience=("SELECT id AS customer_id FROM customers_customer", []),
            as_of=clock.now() + timedelta(days=1),
            start=False,
        )

    floors, times = [], []
    _undone(floor)
    for _ in range(ROUNDS):
        floors.append(_undone(floor))
        times.append(_undone(work))
    Run.objects.filter(pk=run.pk).delete()
    ratio = statistics.median(times) / statistics.median(floors)
    return [
        {
            "what": "plan everybody into one run",
            "median_s": statistics.median(times),
            "min_s": min(times),
            "max_s": max(times),
            "note": f"{ratio:.2f} × the bare INSERT … SELECT of those rows ({statistics.median(floors) * 1000:,.0f} ms)",
            "times_floor": ratio,
        }
    ]


def rows() -> list[dict[str, Any]]:
    return plans() + sending()
