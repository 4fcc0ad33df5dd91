"""Facts come in: customers, orders, events and refunds, many at a time, each with its own answer.

Every verb takes what a shop sends, checks each item by itself, writes the good ones in one transaction and answers with
one ``Result`` per item: a bad item never sinks the batch. Saying the same thing again is harmless: orders, events and
refunds are kept once per ``(source, source_id)`` for ever, customers once per external id and e-mail address.
"""

from customers.ingest.events import EventIn, record_event, record_events
from customers.ingest.items import Result, Status
from customers.ingest.orders import LineIn, OrderIn, record_order, record_orders
from customers.ingest.people import CustomerIn, save_customer, save_customers
from customers.ingest.refunds import refund

__all__ = [
    "CustomerIn",
    "EventIn",
    "LineIn",
    "OrderIn",
    "Result",
    "Status",
    "record_event",
    "record_events",
    "record_order",
    "record_orders",
    "refund",
    "save_customer",
    "save_customers",
]
