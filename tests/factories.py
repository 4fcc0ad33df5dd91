"""One factory per model, each making the smallest row that is allowed."""

from __future__ import annotations

from typing import Any

import factory

from lifecycle_crm.accounts.models import User

PASSWORD = "correct horse battery"


class UserFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = User
        django_get_or_create = ("email",)
        skip_postgeneration_save = True

    email = factory.Sequence(lambda n: f"person{n}@shop.example")
    name = factory.Sequence(lambda n: f"Person {n}")

    @factory.post_generation
    def password(obj: Any, create: bool, extracted: str | None, **_: Any) -> None:
        obj.set_password(extracted or PASSWORD)
        if create:
            obj.save(update_fields=["password"])
