"""The version of this process, told to its peer; the same as translators/version.py, which cannot be imported here."""

VERSION = "0.1.0"
