"""What we say to customers: texts, campaigns, and one row for every message anybody was ever meant to get."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from customers.models import Consent, Customer, email_key
from lifecycle_crm.lib import batches, clock
from lifecycle_crm.lib.moments import parameter
from lifecycle_crm.templatetags.crm import day

_RUN_MARKS = {"sending": "info", "needs_confirmation": "warn", "paused": "warn", "finished": "ok", "planned": "waiting"}
_MESSAGE_MARKS = {
    "sent": "ok", "failed": "bad", "in_doubt": "warn", "retry": "waiting", "queued": "waiting", "claimed": "info",
    "sending": "info",
}  # fmt: skip


class Purpose(models.TextChoices):
    """Why we write. Marketing and survey need a consent of that name; a service notice follows from the contract."""

    MARKETING = "marketing", _("Offers and news")
    SERVICE = "service", _("Service notice")
    SURVEY = "survey", _("Question about an experience")


class Channel(models.TextChoices):
    EMAIL = "email", _("E-mail")


class Template(models.Model):
    """A text under a stable key. The words are in its variants."""

    key = models.SlugField(_("key"), max_length=60, unique=True)
    name = models.CharField(_("name"), max_length=120)
    purpose = models.CharField(_("purpose"), max_length=12, choices=Purpose.choices, default=Purpose.MARKETING)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("template")
        verbose_name_plural = _("templates")
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class TemplateVariant(models.Model):
    """The words in one language. A variant is never edited: a change is the next version, so a run keeps its text.

    ``blocks`` is the stored form, a list of ``{"type": "heading" | "text" | "button" | "divider", "text": …, "url": …}``
    in order; ``text`` and ``url`` are Liquid. HTML and plain text are made from it (``campaigns/rendering.py``).
    """

    template = models.ForeignKey(Template, on_delete=models.PROTECT, related_name="variants", db_index=False)
    language = models.CharField(_("language"), max_length=5, choices=settings.LANGUAGES)
    version = models.PositiveIntegerField(_("version"), default=1)
    subject = models.CharField(_("subject"), max_length=200)
    blocks = models.JSONField(_("blocks"))
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("template text")
        verbose_name_plural = _("template texts")
        ordering: ClassVar = ["template", "language", "-version"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["template", "language", "version"], name="campaigns_variant_once_per_version"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.language} {self.version}: {self.subject}"


class Campaign(models.Model):
    """Something we want to say, to whom, and within which limits."""

    class Kind(models.TextChoices):
        BROADCAST = "broadcast", _("One-off message")
        REACTIVATION = "reactivation", _("Win-back")

    class State(models.TextChoices):
        DRAFT = "draft", _("Draft")
        ACTIVE = "active", _("Active")
        PAUSED = "paused", _("Paused")
        ENDED = "ended", _("Ended")

    key = models.SlugField(_("key"), max_length=60, unique=True, null=True, blank=True)
    name = models.CharField(_("name"), max_length=120)
    kind = models.CharField(_("kind"), max_length=14, choices=Kind.choices, default=Kind.BROADCAST)
    purpose = models.CharField(_("purpose"), max_length=12, choices=Purpose.choices, default=Purpose.MARKETING)
    channel = models.CharField(_("channel"), max_length=8, choices=Channel.choices, default=Channel.EMAIL)
    template = models.ForeignKey(Template, on_delete=models.PROTECT, related_name="campaigns")
    audience = models.JSONField(
        _("audience"), default=dict, blank=True, help_text=_("A condition over the facts; a win-back finds its own.")
    )
    holdout_percent = models.PositiveSmallIntegerField(
        _("holdout"), default=10, help_text=_("Per cent of the audience that gets nothing, so that the effect shows.")
    )
    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.DRAFT)
    cap_per_day = models.PositiveSmallIntegerField(
        _("messages a day"), default=1, help_text=_("Not sent to somebody who had so many offers on their day.")
    )
    cap_per_week = models.PositiveSmallIntegerField(_("messages in seven days"), default=3)
    quiet_from = models.PositiveSmallIntegerField(_("quiet from"), default=21, help_text=_("Hour where they live."))
    quiet_until = models.PositiveSmallIntegerField(_("quiet until"), default=8)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("campaign")
        verbose_name_plural = _("campaigns")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(holdout_percent__lte=90), name="campaigns_holdout_leaves_somebody"),
            models.CheckConstraint(
                condition=Q(cap_per_day__gte=1) & Q(cap_per_week__gte=1), name="campaigns_caps_allow_one"
            ),
            models.CheckConstraint(
                condition=Q(quiet_from__lte=23) & Q(quiet_until__lte=23), name="campaigns_quiet_hours_are_hours"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def mark(self) -> str:
        """The kind of mark a page sets beside the state."""
        return {"active": "ok", "paused": "warn", "draft": "info"}.get(self.state, "neutral")


class Run(models.Model):
    """One going-out of a campaign, with its audience frozen into messages. Its key makes planning re-runnable."""

    class State(models.TextChoices):
        PLANNED = "planned", _("Planned")
        NEEDS_CONFIRMATION = "needs_confirmation", _("Waits for your word")
        SENDING = "sending", _("Sending")
        PAUSED = "paused", _("Paused")
        FINISHED = "finished", _("Finished")
        CANCELLED = "cancelled", _("Cancelled")

    campaign = models.ForeignKey(Campaign, on_delete=models.PROTECT, related_name="runs", db_index=False)
    key = models.CharField(_("key"), max_length=80)
    state = models.CharField(_("state"), max_length=20, choices=State.choices, default=State.PLANNED)
    as_of = models.DateTimeField(_("as of"), help_text=_("The instant the audience was decided for."))
    audience = models.PositiveBigIntegerField(_("audience"), default=0)
    variants = models.JSONField(
        default=dict, help_text=_("Language to text, as they were when planned: a later edit does not reach this run.")
    )
    guard = models.JSONField(default=dict, blank=True, help_text=_("Why this run waits for a person, in numbers."))
    confirmed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["campaign", "key"], name="campaigns_run_once_per_key"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["id"], condition=Q(state="sending"), name="campaigns_run_sending"),
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def mark(self) -> str:
        """The kind of mark a page sets beside the state."""
        return _RUN_MARKS.get(self.state, "neutral")

    @property
    def label(self) -> str:
        """The run's name for people: the night or the send it is."""
        kind, _sep, rest = self.key.partition(":")
        if kind == "night":
            try:
                night = date.fromisoformat(rest)
            except ValueError:
                return self.key
            return gettext("Night of %(day)s") % {"day": day(night)}
        if kind == "broadcast":
            return gettext("Send %(number)s") % {"number": rest}
        return self.key

    @property
    def can_be_stopped(self) -> bool:
        return self.state not in (self.State.FINISHED, self.State.CANCELLED)


class Message(models.Model):
    """One message to one customer: a row of the outbox, from the moment they were picked to the last answer.

    ``queued → claimed → sending → sent | retry | failed | in_doubt | skipped | cancelled``; ``held_out`` from the
    start for those who get nothing on purpose. ``sending`` is committed just before the body leaves; what dies in it is
    ``in_doubt`` and never sent again by us. ``attempt`` counts claims and fences a zombie out, ``tries`` counts refusals.
    """

    class State(models.TextChoices):
        QUEUED = "queued", _("Queued")
        CLAIMED = "claimed", _("Taken by a sender")
        SENDING = "sending", _("On its way")
        SENT = "sent", _("Sent")
        RETRY = "retry", _("Will be tried again")
        FAILED = "failed", _("Failed")
        IN_DOUBT = "in_doubt", _("In doubt")
        SKIPPED = "skipped", _("Skipped")
        HELD_OUT = "held_out", _("Held out")
        CANCELLED = "cancelled", _("Cancelled")

    class Reason(models.TextChoices):
        NO_ADDRESS = "no_address", _("has no e-mail address")
        NO_CONSENT = "no_consent", _("has not agreed to this")
        UNSUBSCRIBED = "unsubscribed", _("has unsubscribed")
        BOUNCED = "bounced", _("address cannot receive")
        COMPLAINED = "complained", _("marked a message as spam")
        MANUAL = "manual", _("was put on the stop list by hand")
        QUIET_HOURS = "quiet_hours", _("waits for the morning where they live")
        CAPPED = "capped", _("had enough messages lately")
        OPEN_CASE = "open_case", _("has a complaint that is being handled")
        DETRACTOR = "recent_detractor", _("was unhappy with us lately")
        CAME_BACK = "came_back", _("came back before it was sent")
        STALE = "stale", _("the occasion is too long ago")
        INACTIVE = "inactive", _("the campaign was stopped")
        RENDER = "render", _("the text could not be made")
        ADDRESS = "bad_address", _("address cannot be written on an envelope")
        REFUSED = "refused", _("the mail server refused it")
        LATER = "later", _("the mail server asked for later")
        GAVE_UP = "gave_up", _("still refused after the last try")
        NO_ANSWER = "no_answer", _("handed over, but the answer got lost")
        SENDER_DIED = "sender_died", _("the sender stopped while it was on its way")
        CANCELLED = "cancelled", _("the run was cancelled")
        HOLDOUT = "holdout", _("gets nothing on purpose, to measure the effect")

    OPEN = ("queued", "retry", "claimed", "sending")
    """States in which something is still to happen; a run without them is finished."""

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="messages", db_index=False)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="messages", db_index=False)
    channel = models.CharField(_("channel"), max_length=8, choices=Channel.choices)
    state = models.CharField(_("state"), max_length=9, choices=State.choices, default=State.QUEUED)
    reason = models.CharField(_("reason"), max_length=20, choices=Reason.choices, blank=True)
    verdict = models.JSONField(_("verdict"), default=dict, help_text=_("What the gate looked at when it last decided."))
    consent = models.ForeignKey(
        Consent, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    context = models.JSONField(default=dict, blank=True, help_text=_("Values for this message alone."))
    address = models.CharField(_("address"), max_length=254, blank=True)
    language = models.CharField(_("language"), max_length=5, blank=True)
    owner = models.CharField(max_length=100, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    attempt = models.PositiveIntegerField(default=0)
    tries = models.PositiveSmallIntegerField(_("tries"), default=0)
    due_at = models.DateTimeField(_("due"))
    sent_at = models.DateTimeField(_("sent"), null=True, blank=True)
    transport = models.CharField(_("sent by"), max_length=8, blank=True)
    message_id = models.CharField(_("message id"), max_length=120, blank=True)
    error = models.CharField(_("answer of the mail server"), max_length=500, blank=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["run", "customer", "channel"], name="campaigns_message_once_per_run_customer_channel"
            ),
            models.CheckConstraint(
                condition=~Q(state="sent") | Q(sent_at__isnull=False), name="campaigns_message_sent_has_a_time"
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["skipped", "failed", "in_doubt"]) | ~Q(reason=""),
                name="campaigns_message_says_why",
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["run", "due_at", "id"],
                condition=Q(state__in=["queued", "retry"]),
                name="campaigns_message_due",
            ),
            models.Index(
                fields=["lease_until"], condition=Q(state__in=["claimed", "sending"]), name="campaigns_message_leased"
            ),
            models.Index(fields=["customer", "id"], name="campaigns_message_customer"),
            models.Index(fields=["run", "state"], name="campaigns_message_run_state"),
            models.Index(fields=["state", "id"], name="campaigns_message_state"),
        ]

    def __str__(self) -> str:
        return f"#{self.pk} {self.state}"

    @property
    def mark(self) -> str:
        """The kind of mark a page sets beside the state."""
        return _MESSAGE_MARKS.get(self.state, "neutral")


class Rendering(models.Model):
    """What they saw: the message as it was made for this one person."""

    message = models.OneToOneField(Message, primary_key=True, on_delete=models.CASCADE, related_name="rendering")
    subject = models.CharField(_("subject"), max_length=400)
    html = models.TextField()
    text = models.TextField()

    class Meta:
        verbose_name = _("rendered message")
        verbose_name_plural = _("rendered messages")

    def __str__(self) -> str:
        return self.subject


class Slot(models.Model):
    """A marketing message used up one place of a customer's day. The unique key is what makes the cap hold: two senders
    at the same second want the same number, and one gets it."""

    customer_id = models.BigIntegerField()
    day = models.DateField(help_text=_("Calendar day where the customer lives."))
    number = models.PositiveSmallIntegerField()
    message = models.OneToOneField(Message, on_delete=models.CASCADE, related_name="slot")
    occurred_at = models.DateTimeField()

    class Meta:
        verbose_name = _("used place of a day")
        verbose_name_plural = _("used places of a day")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["customer_id", "day", "number"], name="campaigns_slot_once"),
        ]

    def __str__(self) -> str:
        return f"#{self.customer_id} {self.day} {self.number}"


class Suppression(models.Model):
    """An address we do not write to, and why. One row per reason: "does not want" and "cannot receive" are different
    things that can both be true, and lifting one must not lift the other."""

    class Reason(models.TextChoices):
        UNSUBSCRIBED = "unsubscribed", _("Unsubscribed")
        BOUNCED = "bounced", _("Cannot receive")
        COMPLAINED = "complained", _("Marked as spam")
        MANUAL = "manual", _("By hand")

    email_key = models.CharField(_("address"), max_length=254)
    reason = models.CharField(_("reason"), max_length=12, choices=Reason.choices)
    diagnostic = models.CharField(_("what was said"), max_length=500, blank=True)
    created_at = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name = _("address on the stop list")
        verbose_name_plural = _("stop list")
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["email_key", "reason"], name="campaigns_suppression_once_per_reason"),
        ]

    def __str__(self) -> str:
        return f"{self.email_key}: {self.reason}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.email_key = email_key(self.email_key)
        super().save(*args, **kwargs)

    @classmethod
    def add(cls, *, email_key: str, reason: str, diagnostic: str = "", at: datetime | None = None) -> bool:
        """Put an address on the list; true for the one caller, of however many at once, who put it there."""
        return bool(
            batches.execute(
                "INSERT INTO campaigns_suppression (email_key, reason, diagnostic, created_at) VALUES (%s, %s, %s, %s) "
                "ON CONFLICT (email_key, reason) DO NOTHING",
                [email_key, reason, diagnostic[:500], parameter(at or clock.now())],
            )
        )

    @property
    def is_unwilling(self) -> bool:
        """They do not want it (they may change their mind), as opposed to: they cannot receive it."""
        return self.reason in (self.Reason.UNSUBSCRIBED, self.Reason.COMPLAINED)
