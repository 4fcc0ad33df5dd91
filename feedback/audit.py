"""What must be true of feedback at any time."""

from __future__ import annotations

from django.db import connection

from feedback.models import DETRACTOR_MAX, SCALES
from lifecycle_crm.lib import batches
from lifecycle_crm.lib.moments import epoch

_SHOWN = 20


def problems() -> list[str]:
    """One sentence per broken promise, at most ``_SHOWN`` rows named each; empty when all hold."""
    false = "false" if connection.vendor == "postgresql" else "0"
    scale = " OR ".join(f"(kind = '{kind}' AND score BETWEEN {low} AND {high})" for kind, (low, high) in SCALES.items())
    checks = [
        (
            "Response {} is a low score that was worked through and has no case.",
            f"SELECT r.id FROM feedback_response r LEFT JOIN feedback_case c ON c.response_id = r.id "
            f"WHERE r.kind = 'nps' AND r.score <= {DETRACTOR_MAX} AND r.is_history = {false} "
            "AND r.reacted_at IS NOT NULL AND c.id IS NULL",
        ),
        ("Response {} has a score off its scale.", f"SELECT id FROM feedback_response WHERE NOT ({scale})"),
        ("Answer {} has a score off its scale.", f"SELECT id FROM feedback_answer WHERE NOT ({scale})"),
        (
            "Response {} differs from its survey in kind.",
            "SELECT r.id FROM feedback_response r JOIN feedback_survey s ON s.id = r.survey_id WHERE s.kind <> r.kind",
        ),
        (
            "Response {} differs from its invitation in customer or survey.",
            "SELECT r.id FROM feedback_response r JOIN feedback_invitation i ON i.id = r.invitation_id "
            "WHERE i.customer_id <> r.customer_id OR i.survey_id <> r.survey_id",
        ),
        (
            "Response {} is not what its last answer says.",
            "SELECT r.id FROM feedback_response r LEFT JOIN feedback_answer a "
            "ON a.response_id = r.id AND a.number = r.answer_count "
            "WHERE a.id IS NULL OR a.score <> r.score OR a.comment <> r.comment OR a.kind <> r.kind "
            "OR a.customer_id <> r.customer_id OR a.answered_at <> r.answered_at",
        ),
        (
            "Response {} does not have one answer per number.",
            "SELECT r.id FROM feedback_response r LEFT JOIN feedback_answer a ON a.response_id = r.id "
            "GROUP BY r.id, r.answer_count HAVING count(a.id) <> r.answer_count OR max(a.number) <> r.answer_count",
        ),
        (
            "Case {} is not in the state of its last move.",
            "SELECT c.id FROM feedback_case c LEFT JOIN ("
            " SELECT case_id, state, outcome, row_number() OVER (PARTITION BY case_id ORDER BY id DESC) AS place"
            " FROM feedback_casenote WHERE state <> '') m ON m.case_id = c.id AND m.place = 1 "
            "WHERE m.case_id IS NULL OR m.state <> c.state OR m.outcome <> c.outcome",
        ),
        (
            "Case {} is closed without outcome or moment, or has one while it waits.",
            "SELECT id FROM feedback_case WHERE (state = 'closed') <> (closed_at IS NOT NULL) "
            "OR (state = 'closed') <> (outcome <> '')",
        ),
        (
            "Case {} belongs to another customer than its response.",
            "SELECT c.id FROM feedback_case c JOIN feedback_response r ON r.id = c.response_id "
            "WHERE r.customer_id <> c.customer_id",
        ),
        (
            "The facts of customer {} differ from their last score, its moment or their open cases.",
            f"""
            SELECT f.customer_id FROM customers_customerfacts f
            LEFT JOIN (
                SELECT customer_id, score, {epoch("answered_at")} AS answered,
                       row_number() OVER (PARTITION BY customer_id ORDER BY answered_at DESC, id DESC) AS place
                FROM feedback_answer WHERE kind = 'nps'
            ) a ON a.customer_id = f.customer_id AND a.place = 1
            LEFT JOIN (
                SELECT customer_id, count(*) AS waiting FROM feedback_case WHERE state <> 'closed' GROUP BY customer_id
            ) c ON c.customer_id = f.customer_id
            WHERE NOT EXISTS (SELECT 1 FROM customers_dirtycustomer d WHERE d.customer_id = f.customer_id)
              AND (coalesce(f.nps_score, -1) <> coalesce(a.score, -1)
                   OR coalesce(f.answered_at, -1) <> coalesce(a.answered, -1)
                   OR f.open_cases <> coalesce(c.waiting, 0))
            """,
        ),
    ]
    found = []
    for sentence, query in checks:
        rows = batches.rows(f"SELECT broken.* FROM ({query}) broken ORDER BY 1 LIMIT {_SHOWN + 1}", [])
        found += [sentence.format(f"#{row[0]}") for row in rows[:_SHOWN]]
        if len(rows) > _SHOWN:
            found.append(f"{sentence.format('…')} (and more)")
    return found
