"""What can go wrong with the local stack."""


class LocalStackError(Exception):
    """A part of the local stack cannot be started or does not answer; the text says why and the way out."""
