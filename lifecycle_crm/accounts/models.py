"""Who works here, and which machines may speak to us."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models
from django.utils.translation import gettext_lazy as _

from lifecycle_crm.lib import clock


class Role(models.TextChoices):
    OWNER = "owner", _("Owner")
    ADMIN = "admin", _("Admin")
    MARKETER = "marketer", _("Marketer")
    SUPPORT = "support", _("Support")
    ANALYST = "analyst", _("Analyst")
    VIEWER = "viewer", _("Viewer")


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        fields.setdefault("role", Role.OWNER)
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email=(username or "").strip().lower())


class User(AbstractBaseUser, PermissionsMixin):
    """Somebody who signs in with an e-mail address."""

    email = models.EmailField(_("e-mail"), unique=True)
    name = models.CharField(_("name"), max_length=120, blank=True)
    role = models.CharField(_("role"), max_length=12, choices=Role.choices, default=Role.VIEWER)
    language = models.CharField(_("language"), max_length=5, blank=True)
    is_active = models.BooleanField(_("active"), default=True)
    is_staff = models.BooleanField(_("may enter the admin"), default=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    objects = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        verbose_name = _("user")
        verbose_name_plural = _("users")

    def __str__(self) -> str:
        return self.name or self.email

    # What a role may do is answered here and asked everywhere else.

    def sees_contacts(self) -> bool:
        """See who a customer is: the name, the addresses, and what may hold them. The others see initials and numbers."""
        return self._is(Role.OWNER, Role.ADMIN, Role.MARKETER, Role.SUPPORT)

    def may_serve(self) -> bool:
        """Work with single customers: edit them, record consents, answer cases, hand out points, bring in files."""
        return self._is(Role.OWNER, Role.ADMIN, Role.MARKETER, Role.SUPPORT)

    def may_steer(self) -> bool:
        """Decide what happens to many: stages, rules and nights, segments, campaigns, what the shop offers."""
        return self._is(Role.OWNER, Role.ADMIN, Role.MARKETER)

    def may_govern(self) -> bool:
        """Answer for the others: say yes or no to what they ask, open what is for admins only."""
        return self._is(Role.OWNER, Role.ADMIN)

    def _is(self, *roles: Role) -> bool:
        return self.is_superuser or self.role in roles

    @property
    def initials(self) -> str:
        words = (self.name or self.email).split()
        return "".join(word[0] for word in words[:2]).upper()


class ApiKey(models.Model):
    """A machine's key: shown once, kept as SHA-256 (the secret has 256 random bits, so a plain hash is enough)."""

    name = models.CharField(_("name"), max_length=80)
    prefix = models.CharField(max_length=12, unique=True)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    scopes = models.JSONField(default=list, help_text=_('Such as ["customers:read", "orders:write"], or ["*"].'))
    created_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @staticmethod
    def digest_of(secret: str) -> str:
        return hashlib.sha256(secret.encode()).hexdigest()

    @classmethod
    def issue(
        cls, *, name: str, scopes: list[str], created_by: User | None = None, **fields: Any
    ) -> tuple[ApiKey, str]:
        """A new key and its secret. The secret is not kept: show it now or never."""
        secret = f"lc_{secrets.token_urlsafe(32)}"
        key = cls.objects.create(
            name=name, prefix=secret[:10], digest=cls.digest_of(secret), scopes=scopes, created_by=created_by, **fields
        )
        return key, secret

    @classmethod
    def find(cls, secret: str) -> ApiKey | None:
        """The live key with this secret, or ``None``."""
        key = cls.objects.filter(digest=cls.digest_of(secret), revoked_at=None).first()
        if key is None or (key.expires_at and key.expires_at <= clock.now()):
            return None
        return key

    def allows(self, scope: str) -> bool:
        """``"orders:write"`` is allowed by itself, by ``"orders:*"`` and by ``"*"``; write includes read."""
        noun, _sep, verb = scope.partition(":")
        wanted = {scope, f"{noun}:*", "*"} | ({f"{noun}:write"} if verb == "read" else set())
        return bool(wanted & set(self.scopes))
