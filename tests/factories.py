"""One factory per model, each making the smallest row that is allowed."""

from __future__ import annotations

from functools import cache

import factory
from django.contrib.auth.hashers import make_password

from lifecycle_crm.accounts.models import User

PASSWORD = "correct horse battery"


@cache
def _hashed(password: str) -> str:
    """Argon2 takes an eighth of a second on purpose: once per process, not once per user."""
    return make_password(password)


class UserFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = User
        django_get_or_create = ("email",)

    email = factory.Sequence(lambda n: f"person{n}@shop.example")
    name = factory.Sequence(lambda n: f"Person {n}")
    password = factory.LazyFunction(lambda: _hashed(PASSWORD))
