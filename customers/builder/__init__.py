"""The builder of segments as values: rows that a form can hold, and the tree they stand for.

``read`` and ``change`` are the form, ``of_tree`` and ``to_tree`` the stored condition. What the rows cannot show is
refused by ``of_tree``: a builder that opened a tree and dropped a part of it would destroy it on saving.
"""

from customers.builder.form import change, read
from customers.builder.rows import FIELD_GROUPS, Builder, Group, Row
from customers.builder.starts import STARTS
from customers.builder.trees import CannotShow, of_tree, to_tree

__all__ = [
    "FIELD_GROUPS",
    "STARTS",
    "Builder",
    "CannotShow",
    "Group",
    "Row",
    "change",
    "of_tree",
    "read",
    "to_tree",
]
