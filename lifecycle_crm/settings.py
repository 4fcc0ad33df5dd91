"""Settings. The environment is the only configuration; ``.env.example`` lists every variable with its meaning.

With nothing set you get the embedded default: SQLite, an SQLite broker, mail kept in the local outbox. ``DATABASE_URL``,
``REDIS_URL`` and ``EMAIL_URL`` switch each of them with no change of code.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import dj_database_url
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from lifecycle_crm.lib import env, smsurl

BASE_DIR = Path(__file__).resolve().parent.parent
env.load_dotenv(BASE_DIR / ".env")

# --- What kind of installation -------------------------------------------------------------------------------------

ENVIRONMENT = env.choice("ENVIRONMENT", "local", ("local", "production"))
IS_PRODUCTION = ENVIRONMENT == "production"
DEBUG = env.flag("DEBUG", False)
if IS_PRODUCTION and DEBUG:
    raise ImproperlyConfigured("DEBUG=1 shows secrets to visitors. Unset DEBUG, or set ENVIRONMENT=local.")

VAR_DIR = Path(env.text("VAR_DIR", str(BASE_DIR / "var")))
VAR_DIR.mkdir(parents=True, exist_ok=True)


def _secret_key() -> str:
    """The key from the environment; on a local installation one is made once and kept in ``var/``."""
    key = env.text("SECRET_KEY", "")
    if not key and IS_PRODUCTION:
        raise ImproperlyConfigured(
            "SECRET_KEY is not set. In production set it (or SECRET_KEY_FILE) to 50 or more random characters, the "
            "same on every machine: python -c 'import secrets; print(secrets.token_urlsafe(50))'."
        )
    if not key:
        kept = VAR_DIR / "secret_key"
        if not kept.is_file():
            kept.write_text(secrets.token_urlsafe(50), encoding="utf-8")
            kept.chmod(0o600)
        return kept.read_text(encoding="utf-8").strip()
    if IS_PRODUCTION and (len(key) < 40 or key.startswith(("change", "insecure", "secret"))):
        raise ImproperlyConfigured("SECRET_KEY is too short or a sample value. Use 50 or more random characters.")
    return key


SECRET_KEY = _secret_key()

SITE_URL = env.text("SITE_URL", "http://127.0.0.1:8000").rstrip("/")
_site = urlsplit(SITE_URL)
if _site.scheme not in ("http", "https") or not _site.hostname:
    raise ImproperlyConfigured(f"SITE_URL={SITE_URL!r} is not an address. Write it as https://crm.example.com.")
if IS_PRODUCTION and _site.scheme != "https":
    raise ImproperlyConfigured("SITE_URL must start with https:// in production: sign-in cookies travel over it.")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", f"{_site.hostname},localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS", SITE_URL)
# Machines of our own network, as host:port, that webhooks may tell something; every other one has to be public, over https.
WEBHOOK_INTERNAL_HOSTS = frozenset(word.lower() for word in env.words("WEBHOOK_INTERNAL_HOSTS"))

# --- The shop -------------------------------------------------------------------------------------------------------

SHOP_NAME = env.text("SHOP_NAME", "Lifecycle sample shop")
SHOP_CURRENCY = env.text("SHOP_CURRENCY", "USD").upper()
"""The reporting currency; orders in another one carry the rate that was recorded with them."""
SHOP_TIME_ZONE = env.zone("SHOP_TIME_ZONE", "Europe/Stockholm")
"""A business date is midnight to midnight here; nights, quiet hours of people without a zone, and expiry follow it."""
SHOP_ADDRESS = env.text("SHOP_ADDRESS", "")
"""Postal address in the footer of every marketing message (a legal duty in most countries)."""
NIGHT_HOUR = env.integer("NIGHT_HOUR", 2, low=0, high=23)
"""Local hour from which the night for the day before is due."""

# --- Django ---------------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_htmx",
    "template_partials",
    "csp",
    "lifecycle_crm.lib",
    "lifecycle_crm.accounts",
    "customers",
    "stages",
    "loyalty",
    "feedback",
    "campaigns",
    "lifecycle_crm.dashboard",
    "lifecycle_crm",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "lifecycle_crm.accounts.middleware.SignInRequired",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "lifecycle_crm.lib.http.DomainErrorMiddleware",
]

ROOT_URLCONF = "lifecycle_crm.urls"
WSGI_APPLICATION = "lifecycle_crm.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "lifecycle_crm.dashboard.shell.context",
            ],
            "builtins": ["lifecycle_crm.templatetags.crm", "template_partials.templatetags.partials"],
        },
    }
]

# --- Database -------------------------------------------------------------------------------------------------------

DATABASE_URL = env.text("DATABASE_URL", f"sqlite:///{VAR_DIR / 'crm.sqlite3'}")
try:
    DATABASES: dict[str, Any] = {"default": dj_database_url.parse(DATABASE_URL, conn_max_age=60)}
except (ValueError, dj_database_url.ParseError) as problem:
    raise ImproperlyConfigured(
        f"DATABASE_URL cannot be read ({problem}). Use postgresql://user:password@host:5432/name or sqlite:////path/file."
    ) from problem
if DATABASES["default"].get("ENGINE", "") not in ("django.db.backends.sqlite3", "django.db.backends.postgresql"):
    raise ImproperlyConfigured("DATABASE_URL must name SQLite or PostgreSQL: sqlite:////path or postgresql://….")
IS_SQLITE = DATABASES["default"]["ENGINE"].endswith("sqlite3")
if env.flag("DATABASE_POOLED", False):
    # A cursor on the server lives in one connection, and the pooler gives the next transaction another one.
    DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"] = True
if IS_SQLITE:
    # Measured: no "database is locked" in four processes of read-then-write transactions (docs/adr/0002).
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 30,
        "transaction_mode": "IMMEDIATE",
        "init_command": (
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA mmap_size=134217728; "
            "PRAGMA journal_size_limit=67108864; PRAGMA cache_size=-20000; PRAGMA temp_store=MEMORY;"
        ),
    }
    # A file, so that live servers, worker processes and threads of a test see the same database.
    DATABASES["default"]["TEST"] = {"NAME": str(VAR_DIR / "test.sqlite3")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Cache, broker, worker ------------------------------------------------------------------------------------------

REDIS_URL = env.text("REDIS_URL", "")
if REDIS_URL and urlsplit(REDIS_URL).scheme not in ("redis", "rediss", "unix"):
    raise ImproperlyConfigured(f"REDIS_URL={REDIS_URL!r} is not a Redis address. Write it as redis://host:6379/0.")
CACHES: dict[str, Any] = {
    "default": (
        {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}
        if REDIS_URL
        else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    )
}
CELERY_BROKER_URL = env.text("CELERY_BROKER_URL", REDIS_URL or f"sqla+sqlite:///{VAR_DIR / 'broker.sqlite3'}")
CELERY_TIMEZONE = "UTC"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
# Tasks only ring; the work is found in the database, so a repeated ring is harmless and a lost one is swept up.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_SOFT_TIME_LIMIT = 540
CELERY_TASK_TIME_LIMIT = 600
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_MAX_MEMORY_PER_CHILD = 600_000
# A broker that goes away is no reason to kill who is at work: a sender would leave a message in doubt each time.
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 30
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
if REDIS_URL:
    CELERY_VISIBILITY_TIMEOUT = 3600
    CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS = {"visibility_timeout": 3600}

# --- Mail -----------------------------------------------------------------------------------------------------------


def _email(url: str) -> dict[str, Any]:
    """``local:`` keeps messages in the outbox page; ``smtp://user:password@host:587/?tls=1`` sends them."""
    parts = urlsplit(url)
    if parts.scheme == "local":
        return {"kind": "local"}
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise ImproperlyConfigured(
            f"EMAIL_URL={url!r} is unknown. Use local: to keep mail here, or smtp://user:password@host:587/?tls=1."
        )
    options = parse_qs(parts.query)
    return {
        "kind": "smtp",
        "host": parts.hostname,
        "port": parts.port or (465 if parts.scheme == "smtps" else 25),
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "ssl": parts.scheme == "smtps",
        "tls": options.get("tls", ["0"])[0] in ("1", "true"),
    }


EMAIL_URL = env.text("EMAIL_URL", "local:")
EMAIL = _email(EMAIL_URL)
# A sender needs a domain: on an address without one (localhost, 127.0.0.1) an example domain stands in.
_has_domain = (_site.hostname or "").rpartition(".")[2].isalpha() and "." in (_site.hostname or "")
EMAIL_FROM = env.text("EMAIL_FROM", f"{SHOP_NAME} <hello@{_site.hostname if _has_domain else 'shop.example'}>")
DEFAULT_FROM_EMAIL = EMAIL_FROM
if EMAIL["kind"] == "smtp":
    EMAIL_HOST, EMAIL_PORT = EMAIL["host"], EMAIL["port"]
    EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = EMAIL["user"], EMAIL["password"]
    EMAIL_USE_TLS, EMAIL_USE_SSL = EMAIL["tls"], EMAIL["ssl"]
    EMAIL_TIMEOUT = 30
else:
    EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

# Whose account sends text messages: "" sends none. The whole address is never kept: it holds a password.
SMS = smsurl.read(env.text("SMS_URL", ""))
# What the provider has to put into the address it calls with replies; without it there is no such address.
SMS_WEBHOOK_SECRET = smsurl.secret(env.text("SMS_WEBHOOK_SECRET", ""))

ANYMAIL = {
    # "user:password" that an e-mail provider has to give when it calls /p/webhooks/<provider>/.
    "WEBHOOK_SECRET": env.text("MAIL_WEBHOOK_SECRET", ""),
    "MAILGUN_WEBHOOK_SIGNING_KEY": env.text("MAILGUN_WEBHOOK_SIGNING_KEY", "") or None,
    "MAILERSEND_SIGNING_SECRET": env.text("MAILERSEND_SIGNING_SECRET", "") or None,
}

# --- People ---------------------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
LOGIN_URL = "accounts:sign-in"
LOGIN_REDIRECT_URL = "dashboard:home"
LOGOUT_REDIRECT_URL = "accounts:sign-in"
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# --- Languages ------------------------------------------------------------------------------------------------------

LANGUAGE_CODE = env.choice("SHOP_LANGUAGE", "en", ("en", "sv", "nb", "pl", "cs"))
LANGUAGES = [("en", "English"), ("sv", "Svenska"), ("nb", "Norsk bokmål"), ("pl", "Polski"), ("cs", "Čeština")]
LOCALE_PATHS = [BASE_DIR / "lifecycle_crm" / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

# --- Static files ---------------------------------------------------------------------------------------------------

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": (
            "django.contrib.staticfiles.storage.StaticFilesStorage"
            if DEBUG
            else "whitenoise.storage.CompressedManifestStaticFilesStorage"
        )
    },
}
WHITENOISE_MAX_AGE = 60
MEDIA_ROOT = VAR_DIR / "media"

# --- Safety ---------------------------------------------------------------------------------------------------------

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "connect-src": [SELF],
        "font-src": [SELF],
        "form-action": [SELF],
        "frame-src": [SELF],
        "manifest-src": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
CSRF_FAILURE_VIEW = "lifecycle_crm.dashboard.doors.forbidden"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
if _site.scheme == "https":
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    SECURE_SSL_REDIRECT = env.flag("SECURE_SSL_REDIRECT", True)
    SECURE_HSTS_SECONDS = env.integer("SECURE_HSTS_SECONDS", 31_536_000, low=0)
    SECURE_HSTS_INCLUDE_SUBDOMAINS = env.flag("SECURE_HSTS_INCLUDE_SUBDOMAINS", True)
    SECURE_HSTS_PRELOAD = env.flag("SECURE_HSTS_PRELOAD", False)
    if env.flag("BEHIND_PROXY", True):
        SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024

# --- REST -----------------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "lifecycle_crm.api.auth.ApiKeyAuthentication",
        "lifecycle_crm.api.auth.PageSessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["lifecycle_crm.api.auth.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_PAGINATION_CLASS": "lifecycle_crm.api.pages.KeysetPagination",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "lifecycle_crm.lib.api.problem",
    "PAGE_SIZE": 50,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Lifecycle CRM",
    "DESCRIPTION": "Customers, orders, events, stages, points, feedback and campaigns of one shop.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    # Over a hundred paths: first what there is to talk about, each opening to its paths, each with an address of its own.
    "SWAGGER_UI_SETTINGS": {"docExpansion": "none", "deepLinking": True, "filter": True},
    "REDOC_DIST": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "lifecycle_crm.api.schema.complete",
    ],
    "ENUM_NAME_OVERRIDES": {
        "StageEnum": "stages.models.StageKey",
        "CampaignKindEnum": "campaigns.models.Campaign.Kind",
        "SignUpStateEnum": "campaigns.models.SignUp.State",
        "ExperimentMeasureEnum": "campaigns.models.Experiment.Measure",
        "SurveyKindEnum": "feedback.models.Kind",
        "CaseKindEnum": "feedback.models.Case.Kind",
        "TransitionKindEnum": "stages.models.StageTransition.Kind",
        "EntryKindEnum": "loyalty.models.Entry.Kind",
        "GrantStateEnum": "loyalty.models.Grant.State",
        "GrantPersonStateEnum": "loyalty.models.GrantPerson.State",
        "RewardKindEnum": "loyalty.models.Reward.Kind",
        "ProgrammeKindEnum": "loyalty.models.Programme.Kind",
        "EarningRuleKindEnum": "loyalty.models.EarningRule.Kind",
        "CustomerKindEnum": "customers.models.Customer.Kind",
        "SegmentKindEnum": "customers.models.Segment.Kind",
        "ConsentPurposeEnum": "customers.models.Consent.Purpose",
        "ChannelEnum": "customers.models.Consent.Channel",
        "MeasureEnum": "loyalty.models.Ladder.Measure",
        "MessagePurposeEnum": "campaigns.models.Purpose",
        "JourneyStateEnum": "campaigns.models.Journey.State",
        "JourneyRunStateEnum": "campaigns.models.JourneyRun.State",
        "JourneyRunReasonEnum": "campaigns.models.JourneyRun.Reason",
        "JourneyOutcomeEnum": "campaigns.models.JourneyStep.Outcome",
        "WebhookStateEnum": "campaigns.models.WebhookDelivery.State",
        "TaskStateEnum": "campaigns.models.StaffTask.State",
        "TaskKindEnum": "campaigns.models.StaffTask.Kind",
        "OutcomeEnum": "feedback.models.Case.Outcome",
        "ReasonEnum": "campaigns.models.Message.Reason",
    },
}

# --- Logs -----------------------------------------------------------------------------------------------------------

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))},
}
