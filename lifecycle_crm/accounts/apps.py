from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "lifecycle_crm.accounts"
    label = "accounts"
    verbose_name = "People and keys"
