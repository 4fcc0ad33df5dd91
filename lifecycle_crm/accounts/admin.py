from __future__ import annotations

import re
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.admin import UserAdmin as BaseUserAdmin
from django.contrib.auth.forms import AdminUserCreationForm, UserChangeForm
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from lifecycle_crm.accounts.callers import person
from lifecycle_crm.accounts.models import ApiKey, User
from lifecycle_crm.lib import clock
from lifecycle_crm.lib.admin import FastAdmin

# --- People -----------------------------------------------------------------------------------------------------------


class _LowerCaseEmail:
    """Addresses are compared in lower case, so that is how they are kept."""

    cleaned_data: dict[str, Any]

    def clean_email(self) -> str:
        return str(self.cleaned_data["email"]).strip().lower()


class UserAddForm(_LowerCaseEmail, AdminUserCreationForm):
    class Meta:
        model = User
        fields = ["email", "name", "role"]
        field_classes: dict[str, Any] = {}


class UserEditForm(_LowerCaseEmail, UserChangeForm):
    class Meta:
        model = User
        fields = "__all__"
        field_classes: dict[str, Any] = {}


@admin.register(User)
class UserAdmin(BaseUserAdmin):
    form, add_form = UserEditForm, UserAddForm
    list_display = ["email", "name", "role", "is_active", "is_staff", "last_login"]
    list_filter = ["role", "is_active", "is_staff"]
    search_fields = ["email", "name"]
    ordering = ["email"]
    readonly_fields = ["last_login", "created_at"]
    # Plain lists: the two-box widget carries labels that assistive technology may not read.
    filter_horizontal = ()
    show_full_result_count = False
    fieldsets = [
        (None, {"fields": ["email", "password"]}),
        (gettext_lazy("Person"), {"fields": ["name", "role", "language"]}),
        (gettext_lazy("Access"), {"fields": ["is_active", "is_staff", "is_superuser", "groups", "user_permissions"]}),
        (gettext_lazy("Times"), {"fields": ["last_login", "created_at"]}),
    ]
    add_fieldsets = [(None, {"fields": ["email", "name", "role", "usable_password", "password1", "password2"]})]


class AdminSignIn(AdminAuthenticationForm):
    """The admin's sign-in asks for an e-mail address, and its keyboard on a phone knows that."""

    username = forms.EmailField(
        label=gettext_lazy("E-mail"), widget=forms.EmailInput(attrs={"autofocus": True, "autocomplete": "username"})
    )


admin.site.login_form = AdminSignIn

# --- Keys -------------------------------------------------------------------------------------------------------------

_SCOPE = re.compile(r"\*|[a-z_]+:(read|write|\*)")


class ApiKeyForm(forms.ModelForm):
    scopes = forms.CharField(
        label=gettext_lazy("Scopes"),
        widget=forms.TextInput(attrs={"size": 80}),
        help_text=gettext_lazy(
            "Words with a space between them, such as: customers:read orders:write stages:*. A single * allows all."
        ),
    )

    expires_at = forms.DateTimeField(
        label=gettext_lazy("Expires"),
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        help_text=gettext_lazy("In UTC. Empty: it does not expire."),
    )

    class Meta:
        model = ApiKey
        fields = ["name", "scopes", "expires_at"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["scopes"] = " ".join(self.instance.scopes)

    def clean_scopes(self) -> list[str]:
        words = str(self.cleaned_data["scopes"]).replace(",", " ").split()
        for word in words:
            if not _SCOPE.fullmatch(word):
                raise forms.ValidationError(
                    _("%(word)s is no scope. Write noun:read, noun:write or noun:*, or a single *.") % {"word": word}
                )
        return sorted(set(words))


@admin.register(ApiKey)
class ApiKeyAdmin(FastAdmin):
    """A key is issued here; its secret is shown once, on the page that follows, and kept nowhere."""

    form = ApiKeyForm
    list_display = ["name", "prefix", "words", "created_by", "created_at", "expires_at", "revoked_at", "last_used_at"]
    list_select_related = ["created_by"]
    search_fields = ["name", "=prefix"]
    readonly_fields = ["prefix", "created_by", "created_at", "revoked_at", "last_used_at"]
    actions = ["revoke"]

    @admin.display(description=gettext_lazy("scopes"))
    def words(self, key: ApiKey) -> str:
        return " ".join(key.scopes)

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        return ["name", "scopes", "expires_at", *(self.readonly_fields if obj else [])]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A key is revoked, so that what it did keeps its name."""
        return False

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        user = person(request)
        key, secret = ApiKey.issue(name=obj.name, scopes=obj.scopes, created_by=user, expires_at=obj.expires_at)
        obj.__dict__.update(key.__dict__)
        obj.secret = secret  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        """No redirect: what the next page had to remember would be written somewhere."""
        answer = TemplateResponse(
            request,
            "admin/api_key_issued.html",
            {**self.admin_site.each_context(request), "title": _("Key issued"), "key": obj, "secret": obj.secret},  # type: ignore[attr-defined]
        )
        answer["Cache-Control"] = "no-store"
        return answer

    @admin.action(description=gettext_lazy("Revoke the selected keys"))
    def revoke(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        count = keys.filter(revoked_at=None).update(revoked_at=clock.now())
        self.message_user(request, ngettext("%(n)d key is revoked.", "%(n)d keys are revoked.", count) % {"n": count})
