from __future__ import annotations

from typing import Any

from django.contrib.auth.views import LoginView, LogoutView

from lifecycle_crm.accounts.middleware import public
from lifecycle_crm.lib.models import Note


class SignIn(LoginView):
    template_name = "registration/sign_in.html"
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        context["demo_sign_in"] = Note.objects.filter(name="sample_shop").exists()
        return context


sign_in = public(SignIn.as_view())
sign_out = LogoutView.as_view()
