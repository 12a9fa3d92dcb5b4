"""axe-core in a page: rules of accessibility that a program can check."""

from pathlib import Path
from typing import Any

from playwright.async_api import Page

AXE = Path(__file__).parent / "vendor" / "axe.min.js"


async def violations(page: Page) -> list[str]:
    """What axe-core finds wrong in the page as it is now, a line for each element."""
    # Not by a script tag: the security policy of the pages forbids those that are not theirs.
    await page.evaluate(AXE.read_text())
    found: dict[str, Any] = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']} ({one['impact']}): {node['html'][:150]} — {node.get('failureSummary', '')[:200]}"
        for one in found["violations"]
        for node in one["nodes"]
    ]
