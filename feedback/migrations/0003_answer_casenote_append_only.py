from django.db import migrations

from lifecycle_crm.lib.appendonly import AppendOnly


class Migration(migrations.Migration):
    dependencies = [("feedback", "0002_survey_install_nps")]

    # Not fixed: what a customer may ask us to forget. Their words and address can be blanked, their score cannot.
    operations = [
        AppendOnly(
            "feedback_answer",
            ("id", "response_id", "number", "customer_id", "kind", "score", "language", "answered_at"),
        ),
        AppendOnly(
            "feedback_casenote",
            ("id", "case_id", "customer_id", "state", "outcome", "assignee_id", "author_id", "created_at"),
        ),
    ]
