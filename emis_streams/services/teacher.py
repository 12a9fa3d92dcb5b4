"""The teacher service as others find it: its workers answer by their pages."""

from emis_streams.services.service import Service


class TeacherService(Service):
    name = "teacher"
    port = 6066
    asks = False
