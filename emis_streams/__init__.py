"""EMIS Streams: a teacher's classes, materialised from events and answered without a network call."""

__version__ = "0.1.0"
