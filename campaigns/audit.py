"""What must be true of the outbox at every moment."""

from __future__ import annotations

from datetime import timedelta

from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import parameter


def problems() -> list[str]:
    """One sentence for everything that is not as promised; an empty list when all is well."""
    found = [
        f"Run {pk}: its audience is {audience}, but it has {n} messages. Every recipient must have exactly one row."
        for pk, audience, n in batches.rows(
            "SELECT r.id, r.audience, count(m.id) FROM campaigns_run r LEFT JOIN campaigns_message m ON m.run_id = r.id "
            "GROUP BY r.id, r.audience HAVING r.audience <> count(m.id)"
        )
    ]
    found += [
        f"Message {pk} was sent without a consent that was granted and in force."
        for (pk,) in batches.rows(
            """
            SELECT m.id FROM campaigns_message m JOIN campaigns_run r ON r.id = m.run_id
            JOIN campaigns_campaign k ON k.id = r.campaign_id
            LEFT JOIN customers_consent c ON c.id = m.consent_id
            WHERE m.state = 'sent' AND k.purpose <> 'service' AND (
                c.id IS NULL OR NOT c.is_granted OR c.customer_id <> m.customer_id OR c.purpose <> k.purpose
                OR c.channel <> m.channel OR c.occurred_at > m.sent_at
            )
            ORDER BY m.id LIMIT 100
            """
        )
    ]
    found += [
        f"Message {pk} was on its way longer than its sender may live; the sweep should have put it in doubt."
        for (pk,) in batches.rows(
            "SELECT id FROM campaigns_message WHERE state = 'sending' AND lease_until < %s ORDER BY id LIMIT 100",
            [parameter(clock.now() - timedelta(minutes=10))],
        )
    ]
    found += [
        f"Customer {customer} has {n} sent messages of run {run} on one channel."
        for run, customer, n in batches.rows(
            "SELECT run_id, customer_id, count(*) FROM campaigns_message WHERE state = 'sent' "
            "GROUP BY run_id, customer_id, channel HAVING count(*) > 1"
        )
    ]
    found += [
        f"Run {pk} is finished, but {n} of its messages are still open."
        for pk, n in batches.rows(
            "SELECT r.id, count(*) FROM campaigns_run r JOIN campaigns_message m ON m.run_id = r.id "
            "WHERE r.state IN ('finished', 'cancelled') AND m.state IN ('queued', 'retry', 'claimed') GROUP BY r.id"
        )
    ]
    found += [
        f"Customer {customer} has {n} versions in experiment {experiment}; chance gives one, for ever."
        for experiment, customer, n in batches.rows(
            "SELECT v.experiment_id, m.customer_id, count(DISTINCT m.version_id) FROM campaigns_message m "
            "JOIN campaigns_experimentversion v ON v.id = m.version_id GROUP BY v.experiment_id, m.customer_id "
            "HAVING count(DISTINCT m.version_id) > 1 ORDER BY m.customer_id LIMIT 100"
        )
    ]
    return [*found, *_journeys(), *_tasks()]


def _journeys() -> list[str]:
    """What must be true of everybody who ever entered a journey."""
    way = "k.journey_id = r.journey_id AND k.step = s.step AND u.key LIKE 'entry:' || r.number || ':%%'"
    found = [
        f"Journey entry {pk}: its history says that a message was planned at {step}, but the outbox has none."
        for pk, step in batches.rows(
            f"""
            SELECT r.id, s.step FROM campaigns_journeystep s JOIN campaigns_journeyrun r ON r.id = s.run_id
            WHERE s.outcome = 'message' AND NOT EXISTS (
                SELECT 1 FROM campaigns_message m JOIN campaigns_run u ON u.id = m.run_id
                JOIN campaigns_campaign k ON k.id = u.campaign_id WHERE m.customer_id = r.customer_id AND {way}
            ) ORDER BY r.id LIMIT 100
            """,
            [],
        )
    ]
    found += [
        f"Journey entry {pk} has ended, but its history does not end with leaving."
        for (pk,) in batches.rows(
            """
            SELECT r.id FROM campaigns_journeyrun r
            LEFT JOIN (SELECT run_id, outcome, row_number() OVER (PARTITION BY run_id ORDER BY id DESC) AS place
                       FROM campaigns_journeystep) s ON s.run_id = r.id AND s.place = 1
            WHERE r.state IN ('done', 'goal', 'exited') AND coalesce(s.outcome, '') <> 'left' ORDER BY r.id LIMIT 100
            """
        )
    ]
    found += [
        f"Journey entry {pk} is held out, but took a step."
        for (pk,) in batches.rows(
            "SELECT r.id FROM campaigns_journeyrun r WHERE r.state = 'held_out' AND EXISTS "
            "(SELECT 1 FROM campaigns_journeystep s WHERE s.run_id = r.id) ORDER BY r.id LIMIT 100"
        )
    ]
    return found


def _tasks() -> list[str]:
    """What must be true of the tasks that journeys gave, and of what they told other systems."""
    checks = [
        (
            "Journey entry {}: its history says that another system was told at {}, but there is no delivery.",
            "SELECT s.run_id, s.step FROM campaigns_journeystep s WHERE s.outcome = 'webhook' AND NOT EXISTS "
            "(SELECT 1 FROM campaigns_webhookdelivery d WHERE d.run_id = s.run_id AND d.step = s.step)",
        ),
        (
            "Webhook delivery {} belongs to another customer than its journey entry {}.",
            "SELECT d.id, d.run_id FROM campaigns_webhookdelivery d JOIN campaigns_journeyrun r ON r.id = d.run_id "
            "WHERE r.customer_id <> d.customer_id",
        ),
        (
            "Journey entry {}: its history says that a task was given at {}, but there is none.",
            "SELECT s.run_id, s.step FROM campaigns_journeystep s WHERE s.outcome = 'task' AND NOT EXISTS "
            "(SELECT 1 FROM campaigns_stafftask t WHERE t.run_id = s.run_id AND t.step = s.step)",
        ),
        (
            "Task {} belongs to another customer than its journey entry {}.",
            "SELECT t.id, t.run_id FROM campaigns_stafftask t JOIN campaigns_journeyrun r ON r.id = t.run_id "
            "WHERE r.customer_id <> t.customer_id",
        ),
        (
            "Task {} is open, but journey entry {} was taken out or left early.",
            "SELECT t.id, t.run_id FROM campaigns_stafftask t JOIN campaigns_journeyrun r ON r.id = t.run_id "
            "WHERE t.state = 'open' AND (r.state IN ('cancelled', 'goal') OR r.reason = 'exit_rule')",
        ),
        (
            "Task {} is {}, but its history does not say so once.",
            "SELECT t.id, t.state FROM campaigns_stafftask t LEFT JOIN campaigns_stafftaskchange c ON c.task_id = t.id "
            "AND c.what IN ('done', 'not_done', 'withdrawn') GROUP BY t.id, t.state HAVING "
            "count(c.id) <> CASE WHEN t.state = 'open' THEN 0 ELSE 1 END OR coalesce(max(c.what), t.state) <> t.state",
        ),
    ]
    return [
        sentence.format(*row) for sentence, query in checks for row in batches.rows(f"{query} ORDER BY 1 LIMIT 100", [])
    ]
