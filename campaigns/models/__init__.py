"""What we say to customers: texts, campaigns, and one row for every message anybody was ever meant to get."""

from campaigns.models.campaign import Campaign, Run
from campaigns.models.message import Message, Rendering, Slot
from campaigns.models.sender import Sender, this_boot
from campaigns.models.suppression import Suppression
from campaigns.models.template import Channel, Purpose, Template, TemplateVariant

__all__ = [
    "Campaign",
    "Channel",
    "Message",
    "Purpose",
    "Rendering",
    "Run",
    "Sender",
    "Slot",
    "Suppression",
    "Template",
    "TemplateVariant",
    "this_boot",
]
