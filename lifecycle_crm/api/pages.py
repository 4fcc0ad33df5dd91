"""Keyset pages: an opaque cursor instead of an offset, so page 10,000 costs what page 1 costs and nothing shows twice."""

from __future__ import annotations

from rest_framework.pagination import CursorPagination


class KeysetPagination(CursorPagination):
    ordering = "-id"
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 500
