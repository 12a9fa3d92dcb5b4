"""The one error of an application, a setting or a topic that the engine cannot work with."""


class ConfigError(Exception):
    """The text names the thing, and the way out. Trying again does not help until somebody changes something."""
