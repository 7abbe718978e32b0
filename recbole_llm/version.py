"""The version, in its own module so that the build can read it without other imports."""

__version__ = "0.2.0.dev0"
