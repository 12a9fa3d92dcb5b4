"""Where the pages of another process are, from the name that it goes by among brokers and in the registry. Pure."""

import re

from emis_streams.settings import Settings

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):[0-9]{1,5}")


def page_of(name: str, settings: Settings) -> str | None:
    """The address of its first page if the name is host:port; by TLS if this process has it, as all do then."""
    if not _ADDRESS.fullmatch(name):
        return None
    return f"{'https' if settings.web_cert_file else 'http'}://{name}/"
