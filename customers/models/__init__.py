from customers.models.consent import Consent
from customers.models.customer import Customer, ExternalId, email_key, search_text
from customers.models.event import Event
from customers.models.facts import CustomerFacts, DirtyCustomer, RfmCuts
from customers.models.imports import ImportRow, ImportRun
from customers.models.order import Order, OrderLine, Product, Refund

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
    "RfmCuts",
    "email_key",
    "search_text",
]
