"""What we say to customers: texts, campaigns, and one row for every message anybody was ever meant to get."""

from campaigns.models.campaign import Campaign, Run
from campaigns.models.experiment import LABELS, Experiment, ExperimentDay, ExperimentVerdict, ExperimentVersion
from campaigns.models.hook import WebhookDelivery, WebhookTarget
from campaigns.models.journey import Journey, JourneyRun, JourneyStep, JourneyVersion
from campaigns.models.limits import DeliveryEvent, Hold, Outage, SendingRules, Throttle
from campaigns.models.message import Message, Rendering, Slot
from campaigns.models.reply import Reply
from campaigns.models.sender import Sender, this_boot
from campaigns.models.signup import SignUp, SignUpForm
from campaigns.models.stafftask import StaffTask, StaffTaskChange
from campaigns.models.suppression import Suppression, address_key
from campaigns.models.template import Channel, Purpose, Template, TemplateDraft, TemplateVariant, TrialMessage
from campaigns.models.tracking import Link, Visit, digest_of

__all__ = [
    "LABELS",
    "Campaign",
    "Channel",
    "DeliveryEvent",
    "Experiment",
    "ExperimentDay",
    "ExperimentVerdict",
    "ExperimentVersion",
    "Hold",
    "Journey",
    "JourneyRun",
    "JourneyStep",
    "JourneyVersion",
    "Link",
    "Message",
    "Outage",
    "Purpose",
    "Rendering",
    "Reply",
    "Run",
    "Sender",
    "SendingRules",
    "SignUp",
    "SignUpForm",
    "Slot",
    "StaffTask",
    "StaffTaskChange",
    "Suppression",
    "Template",
    "TemplateDraft",
    "TemplateVariant",
    "Throttle",
    "TrialMessage",
    "Visit",
    "WebhookDelivery",
    "WebhookTarget",
    "address_key",
    "digest_of",
    "this_boot",
]
