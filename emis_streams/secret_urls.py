"""URLs as they may be shown: without user, password and secret parameters, whatever characters these have."""

import re

SHOWN = "***"
_USER_INFO = re.compile(r"(?s)^(\s*(?!sqlite)[A-Za-z][\w+.-]*:/*)(.*)@")
"""From the scheme to the LAST @: parsers differ about which one ends a password, and none shows what is left of it.
A file of SQLite has neither user nor password."""
_SECRET_PARAMETER = re.compile(r"(?i)([?&;][^=&;]*(?:pass|pwd|secret|token|key|sig|auth|cred)[^=&;]*=)[^&;]*")


def masked(url: str) -> str:
    """The URL, or what should be one, with *** for user and password and for parameters that may be secret."""
    return _USER_INFO.sub(rf"\1{SHOWN}@", _SECRET_PARAMETER.sub(rf"\1{SHOWN}", url))
