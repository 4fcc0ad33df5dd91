"""The sample shop: real purchases, invented people."""
