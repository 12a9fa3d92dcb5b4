"""The web views of a worker: pages for people, JSON for programs. Put together by `worker.py`."""

from web.site import PAGES, setup

__all__ = ["PAGES", "setup"]
