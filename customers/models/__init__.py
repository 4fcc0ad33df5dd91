from customers.models.consent import Consent
from customers.models.customer import Customer, ExternalId, email_key, search_text
from customers.models.event import Event
from customers.models.facts import CustomerFacts, DirtyCustomer, RfmCuts
from customers.models.imports import ImportRow, ImportRun
from customers.models.order import Order, OrderLine, Product, Refund
from customers.models.rfm import RfmChange, RfmDay, RfmGroup
from customers.models.segment import (
    Segment,
    SegmentChange,
    SegmentDay,
    SegmentMember,
    SegmentStanding,
    SegmentVersion,
)

__all__ = [
    "Consent",
    "Customer",
    "CustomerFacts",
    "DirtyCustomer",
    "Event",
    "ExternalId",
    "ImportRow",
    "ImportRun",
    "Order",
    "OrderLine",
    "Product",
    "Refund",
    "RfmChange",
    "RfmCuts",
    "RfmDay",
    "RfmGroup",
    "Segment",
    "SegmentChange",
    "SegmentDay",
    "SegmentMember",
    "SegmentStanding",
    "SegmentVersion",
    "email_key",
    "search_text",
]
