"""Which services there are, by the name that `emis-streams run` and SERVICE take."""

import importlib

from emis_streams import topics
from emis_streams.errors import InvalidSetting
from emis_streams.services.gateway import GatewayService
from emis_streams.services.lessons import LessonService
from emis_streams.services.progress import ProgressService
from emis_streams.services.service import Service
from emis_streams.services.teacher import TeacherService
from emis_streams.services.users import UserService

SERVICES: dict[str, type[Service]] = {
    kind.name: kind for kind in (GatewayService, UserService, LessonService, ProgressService)
}
"""Those that `emis-streams run` runs: the teacher service is the workers of `emis-streams worker`."""


def service_class(named: str) -> type[Service]:
    """The class of a service of ours, or of one's own (`module:Class`); raises InvalidSetting."""
    if named == TeacherService.name:
        return TeacherService
    module, _, attribute = named.partition(":")
    if not attribute:
        if named not in SERVICES:
            raise InvalidSetting(f"SERVICE={named!r}: none of {', '.join(SERVICES)}, and not of the form module:Class")
        return SERVICES[named]
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InvalidSetting(f"SERVICE={named!r}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Service)):
        raise InvalidSetting(f"SERVICE={named!r}: {attribute} is no subclass of {Service.__module__}.Service")
    name = getattr(found, "name", None)
    if not (isinstance(name, str) and topics.is_service_name(name)):
        raise InvalidSetting(
            f"SERVICE={named!r}: {attribute}.name is {name!r}, but topics are called after it: "
            "a few of the characters a-z A-Z 0-9 . _ -"
        )
    return found
