from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from customers.models import Customer
from lifecycle_crm.lib import clock


class StageKey(models.TextChoices):
    """The six stages, in the order of a relation that goes well."""

    REACH = "reach", pgettext_lazy("stage", "Reach")
    ACQUIRE = "acquire", pgettext_lazy("stage", "Acquire")
    NURTURE = "nurture", pgettext_lazy("stage", "Nurture")
    RETAIN = "retain", pgettext_lazy("stage", "Retain")
    ADVOCATE = "advocate", pgettext_lazy("stage", "Advocate")
    DORMANT = "dormant", pgettext_lazy("stage", "Dormant")


class Stage(models.Model):
    """What the shop itself says about a stage: its goal and its playbook. The six keys are fixed."""

    key = models.CharField(max_length=12, primary_key=True, choices=StageKey.choices)
    position = models.PositiveSmallIntegerField(unique=True)
    goal = models.CharField(_("goal"), max_length=200, blank=True)
    playbook = models.JSONField(_("playbook"), default=list, blank=True, help_text=_("A list of activities, in order."))

    class Meta:
        verbose_name = _("stage")
        verbose_name_plural = _("stages")
        ordering: ClassVar = ["position"]

    def __str__(self) -> str:
        return str(self.get_key_display())


class RuleSet(models.Model):
    """One version of the rules. Published ones are never edited: a change is a new version."""

    class State(models.TextChoices):
        DRAFT = "draft", _("Draft")
        PUBLISHED = "published", _("Published")
        RETIRED = "retired", _("Retired")

    class Mode(models.TextChoices):
        """What publishing does to people whom the new rules would move at once."""

        QUIET = "quiet", _("Move people quietly: no campaign starts from these moves")
        MOVE = "move", _("Move people and let campaigns start")
        LATER = "later", _("Only people who change from now on")

    version = models.PositiveIntegerField(_("version"), unique=True)
    name = models.CharField(_("name"), max_length=80)
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.DRAFT)
    rules = models.JSONField(_("rules"), help_text=_("Ordered list; the first rule whose condition holds decides."))
    note = models.TextField(_("note"), blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)
    base = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text=_("The version that was in force when this one was drafted."),
    )
    published_at = models.DateTimeField(null=True, blank=True)
    published_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    mode = models.CharField(_("published how"), max_length=8, blank=True, choices=Mode.choices)

    class Meta:
        verbose_name = _("rule set")
        verbose_name_plural = _("rule sets")
        ordering: ClassVar = ["-version"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["state"], condition=Q(state="published"), name="stages_rule_set_one_published"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name}, version {self.version}"


class RuleApproval(models.Model):
    """A second pair of eyes above the brake: one person asks to publish a draft, another one does it.

    Editing the draft withdraws the request, so what is approved is what was asked for.
    """

    rule_set = models.OneToOneField(RuleSet, primary_key=True, on_delete=models.CASCADE, related_name="approval")
    mode = models.CharField(_("how"), max_length=8, choices=RuleSet.Mode.choices)
    moving = models.PositiveIntegerField(_("customers who would move"))
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    requested_at = models.DateTimeField(default=clock.now, editable=False)
    approved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    approved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("approval of rules")
        verbose_name_plural = _("approvals of rules")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(approved_by__isnull=True) | ~Q(approved_by=F("requested_by")),
                name="stages_approval_by_a_second_person",
            ),
        ]

    def __str__(self) -> str:
        return f"Approval of version {self.rule_set_id}"


class Backtest(models.Model):
    """A draft replayed over past nights, beside the rules in force. Made in the background; only this row is written."""

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        FAILED = "failed", _("Stopped")

    rule_set = models.ForeignKey(RuleSet, on_delete=models.CASCADE, related_name="backtests")
    rules = models.JSONField(_("rules"), help_text=_("As they were when the replay was asked for."))
    against = models.ForeignKey(RuleSet, on_delete=models.CASCADE, related_name="+")
    months = models.PositiveSmallIntegerField(_("months"))
    last_day = models.DateField(_("last date"))
    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.WAITING)
    done = models.PositiveIntegerField(_("nights done"), default=0)
    nights = models.PositiveIntegerField(_("nights"), default=0)
    customers = models.PositiveIntegerField(_("customers replayed"), default=0)
    base_customers = models.PositiveIntegerField(_("customers in all"), default=0)
    result = models.JSONField(_("result"), default=dict)
    error = models.CharField(_("error"), max_length=500, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    owner = models.CharField(max_length=100, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("replay of rules")
        verbose_name_plural = _("replays of rules")
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"Replay of version {self.rule_set.version} over {self.months} months"


class Night(models.Model):
    """The run of one business date. Its chunks say how far it got; running the date again finds them done."""

    class State(models.TextChoices):
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        FAILED = "failed", _("Stopped")

    business_date = models.DateField(_("business date"), unique=True)
    as_of = models.DateTimeField(_("decides as of"))
    rule_set = models.ForeignKey(RuleSet, on_delete=models.PROTECT, related_name="nights")
    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.RUNNING)
    is_full = models.BooleanField(_("everybody"), default=False)
    is_quiet = models.BooleanField(_("quiet"), default=False, help_text=_("Moves stages, starts no message."))
    counts = models.JSONField(_("counts"), default=dict)
    error = models.CharField(_("error"), max_length=500, blank=True)
    started_at = models.DateTimeField(default=clock.now)
    finished_at = models.DateTimeField(null=True, blank=True)
    undone_at = models.DateTimeField(_("undone"), null=True, blank=True)
    undone_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    undo = models.JSONField(_("what undoing did"), default=dict)

    class Meta:
        verbose_name = _("night")
        verbose_name_plural = _("nights")
        ordering: ClassVar = ["-business_date"]

    def __str__(self) -> str:
        return f"Night of {self.business_date}"


class Chunk(models.Model):
    """One id range of one step of a night: claimed by lease; result and completion in one transaction."""

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        FAILED = "failed", _("Set aside")

    night = models.ForeignKey(Night, on_delete=models.CASCADE, related_name="chunks")
    step = models.CharField(max_length=20)
    position = models.PositiveSmallIntegerField()
    low = models.BigIntegerField()
    high = models.BigIntegerField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    owner = models.CharField(max_length=100, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    result = models.JSONField(default=dict)
    error = models.CharField(max_length=500, blank=True)
    seconds = models.FloatField(null=True, blank=True)

    class Meta:
        verbose_name = _("part of a night")
        verbose_name_plural = _("parts of a night")
        ordering: ClassVar = ["night", "position", "low"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["night", "step", "low"], name="stages_chunk_once_per_night"),
        ]

    def __str__(self) -> str:
        return f"{self.step} {self.low}–{self.high}"


class MoveQuerySet(models.QuerySet["StageTransition"]):
    def counted(self) -> MoveQuerySet:
        """Without the moves of undone nights and those that took them back: they count nowhere."""
        taken_back = StageTransition.objects.filter(undoes__isnull=False).order_by()
        return self.filter(undoes=None).exclude(pk__in=taken_back.values("undoes"))


class StageTransition(models.Model):
    """One move of one customer, with what decided it. Append-only.

    ``evidence`` holds the value of every fact the rule set looked at, so the reason, and why other rules did not
    decide, can be said at any later time in any language.
    """

    class Kind(models.TextChoices):
        RULE = "rule", _("By rule")
        PERSON = "person", _("By hand")
        UNDO = "undo", _("Undone")

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="transitions")
    from_stage = models.CharField(_("from"), max_length=12, blank=True, choices=StageKey.choices)
    to_stage = models.CharField(_("to"), max_length=12, choices=StageKey.choices)
    kind = models.CharField(max_length=8, choices=Kind.choices, default=Kind.RULE)
    occurred_at = models.DateTimeField(_("moved"), help_text=_("The instant the decision was made for."))
    business_date = models.DateField(_("business date"))
    rule_set = models.ForeignKey(RuleSet, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    rule = models.CharField(_("rule"), max_length=40, blank=True)
    evidence = models.JSONField(_("evidence"), default=dict)
    night = models.ForeignKey(Night, null=True, blank=True, on_delete=models.PROTECT, related_name="transitions")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    reason = models.CharField(_("reason"), max_length=300, blank=True)
    undoes = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="undone_by",
        db_index=False,
        help_text=_("The move that this one takes back."),
    )
    is_quiet = models.BooleanField(
        _("quiet"), default=False, help_text=_("Follows from loaded history or a quiet run: starts no message.")
    )
    recorded_at = models.DateTimeField(default=clock.now, editable=False)

    objects = MoveQuerySet.as_manager()

    class Meta:
        verbose_name = _("move between stages")
        verbose_name_plural = _("moves between stages")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["customer", "night"], condition=Q(night__isnull=False), name="stages_transition_once_per_night"
            ),
            models.CheckConstraint(condition=~Q(from_stage=F("to_stage")), name="stages_transition_moves"),
            models.CheckConstraint(
                condition=Q(kind="rule", rule_set__isnull=False)
                | Q(kind="person", user__isnull=False)
                | Q(kind="undo", undoes__isnull=False),
                name="stages_transition_says_who",
            ),
            # Of the few that undo something: an index of all would find nearly everything under NULL, and SQLite takes
            # it for the way to a single row.
            models.UniqueConstraint(
                fields=["undoes"], condition=Q(undoes__isnull=False), name="stages_transition_undone_once"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["customer", "id"], name="stages_transition_customer"),
            models.Index(fields=["business_date", "from_stage", "to_stage"], name="stages_transition_flow"),
            models.Index(fields=["night", "to_stage"], name="stages_transition_night"),
        ]

    def __str__(self) -> str:
        return f"{self.from_stage or '–'} → {self.to_stage}"


class Pin(models.Model):
    """A person holds a customer in a stage until a date; the engine leaves them alone that long."""

    customer = models.OneToOneField(Customer, primary_key=True, on_delete=models.CASCADE, related_name="pin")
    stage = models.CharField(max_length=12, choices=StageKey.choices)
    until = models.DateTimeField(_("until"))
    reason = models.CharField(_("reason"), max_length=300)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("pin")
        verbose_name_plural = _("pins")

    def __str__(self) -> str:
        return f"#{self.pk} in {self.stage} until {self.until:%Y-%m-%d}"
