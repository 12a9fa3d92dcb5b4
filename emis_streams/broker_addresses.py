"""Addresses of brokers as KAFKA_BROKERS names them: host:port, comma-separated."""

import re

from emis_streams.errors import InvalidSetting

_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<name>[^\s:/\[\]@]+)):(?P<port>\d{1,5})", re.ASCII)
_HIGHEST_PORT = 65_535


def addresses(kafka_brokers: str) -> list[tuple[str, int]]:
    """Host and port of each broker; raises InvalidSetting with what is wrong with the first bad one."""
    return [_address(kafka_brokers, text.strip()) for text in kafka_brokers.split(",")]


def _address(kafka_brokers: str, text: str) -> tuple[str, int]:
    found = _ADDRESS.fullmatch(text)
    if found is not None and 1 <= int(found["port"]) <= _HIGHEST_PORT:
        return found["v6"] or found["name"], int(found["port"])
    raise InvalidSetting(
        f"KAFKA_BROKERS={kafka_brokers!r} is not allowed: {_mistake(text)}; "
        "write host:port of each broker, comma-separated: kafka-1:9092,kafka-2:9092"
    )


def _mistake(text: str) -> str:
    if not text:
        return "an address is empty"
    if "://" in text:
        return f"{text!r} has a scheme"
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        return f"{text!r} has no port"
    if not host:
        return f"{text!r} has no host"
    if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= _HIGHEST_PORT):
        return f"the port of {text!r} is no number from 1 to {_HIGHEST_PORT:,}"
    return f"the host of {text!r} is no name or address" + (" (IPv6: [::1]:9092)" if ":" in host else "")
