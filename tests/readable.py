"""What keeps somebody from reading a page: rules of accessibility that it breaks, and text beyond the edge."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
OPTIONS = {
    "runOnly": {"type": "tag", "values": TAGS},
    # What is right is not listed node by node: that takes as long as finding what is wrong.
    "resultTypes": ["violations"],
}


def faults(page: Any) -> list[str]:
    """A line for each, as the page stands now."""
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    found = [f"{wide} px wider than the window"] if wide > 0 else []
    for rule in Axe().run(page, options=OPTIONS).response["violations"]:
        where = ", ".join(f"{node['target']} {node['html'][:120]}" for node in rule["nodes"][:3])
        found.append(f"{rule['id']} at {where}")
    return found
