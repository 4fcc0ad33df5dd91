from __future__ import annotations

import unicodedata
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from lifecycle_crm.lib import clock

_LETTERS = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ß": "ss", "æ": "ae", "œ": "oe", "þ": "th", "ð": "d"})


def email_key(email: str) -> str:
    """The one spelling under which an address is compared: NFC, trimmed, lower case."""
    return unicodedata.normalize("NFC", email.strip()).lower()


def search_text(*parts: str) -> str:
    """Lower case without accents, so that *Malmo* finds *Malmö* and *lodz* finds *Łódź*."""
    text = " ".join(part for part in parts if part).lower().translate(_LETTERS)
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


class Customer(models.Model):
    """A person or company the shop knows. What they did is in other rows; what follows from it is in their facts."""

    class Kind(models.TextChoices):
        PERSON = "person", _("Person")
        COMPANY = "company", _("Company")

    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices, default=Kind.PERSON)
    name = models.CharField(_("name"), max_length=200, blank=True)
    given_name = models.CharField(_("given name"), max_length=100, blank=True)
    email = models.EmailField(_("e-mail"), blank=True)
    email_key = models.CharField(max_length=254, null=True, blank=True, unique=True, editable=False)
    phone = models.CharField(_("phone"), max_length=20, blank=True, help_text=_("E.164, such as +46701234567."))
    language = models.CharField(_("language"), max_length=5, blank=True)
    time_zone = models.CharField(_("time zone"), max_length=40, blank=True)
    country = models.CharField(_("country"), max_length=2, blank=True)
    city = models.CharField(_("city"), max_length=100, blank=True)
    birth_date = models.DateField(_("birth date"), null=True, blank=True)
    tags = models.JSONField(_("tags"), default=list, blank=True)
    attributes = models.JSONField(_("attributes"), default=dict, blank=True)
    acquisition_source = models.CharField(_("source"), max_length=80, blank=True)
    acquisition_medium = models.CharField(_("medium"), max_length=80, blank=True)
    acquisition_campaign = models.CharField(_("campaign"), max_length=80, blank=True)
    acquisition_cost_minor = models.BigIntegerField(_("acquisition cost"), null=True, blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="customers"
    )
    is_invented = models.BooleanField(default=False, help_text=_("Name and address were made for the sample shop."))
    known_since = models.DateTimeField(
        _("known since"), default=clock.now, help_text=_("When the relation began; may be long before it was loaded.")
    )
    loaded_at = models.DateTimeField(
        _("loaded"),
        default=clock.now,
        help_text=_("What happened before this moment is history and starts no message."),
    )
    search_text = models.CharField(max_length=600, blank=True, editable=False)

    class Meta:
        verbose_name = _("customer")
        verbose_name_plural = _("customers")
        indexes: ClassVar = [
            models.Index(fields=["name", "id"], name="customers_customer_name"),
            models.Index(fields=["country", "id"], name="customers_customer_country"),
            models.Index(fields=["phone"], condition=~Q(phone=""), name="customers_customer_phone"),
        ]

    def __str__(self) -> str:
        return self.name or self.email or f"#{self.pk}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.prepare()
        if (fields := kwargs.get("update_fields")) is not None:
            kwargs["update_fields"] = {*fields, "email_key", "search_text"}
        super().save(*args, **kwargs)

    def prepare(self) -> None:
        """Fill the derived columns. Bulk writers call this themselves, since they do not call ``save``."""
        self.email_key = email_key(self.email) or None
        self.search_text = search_text(self.name, self.email, self.phone, self.city)[:600]
        if not self.given_name and self.name and self.kind == self.Kind.PERSON:
            self.given_name = self.name.split()[0][:100]

    def speaks(self) -> str:
        """The language to write in: theirs, or the shop's."""
        return self.language or settings.LANGUAGE_CODE

    def zone_name(self) -> str:
        """Their time zone, or the shop's: an unknown zone must not mean "any hour will do"."""
        return self.time_zone or settings.SHOP_TIME_ZONE


class ExternalId(models.Model):
    """The name another system has for a customer."""

    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="external_ids")
    source = models.CharField(max_length=40)
    value = models.CharField(max_length=200)

    class Meta:
        verbose_name = _("external id")
        verbose_name_plural = _("external ids")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["source", "value"], name="customers_external_id_once_per_source"),
        ]

    def __str__(self) -> str:
        return f"{self.source}:{self.value}"
