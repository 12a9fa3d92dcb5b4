"""The web views of a worker: pages for people, JSON for programs. Put together by `worker.py`."""

from web.pages import load_templates
from web.site import PAGES, setup

__all__ = ["PAGES", "load_templates", "setup"]
