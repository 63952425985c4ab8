"""What survives a restart: a SQLite database in the directory that ``storage`` names."""

from receiver.storage.config import Config
from receiver.storage.rows import Backlog, Numbered, Row
from receiver.storage.writer import Storage

__all__ = ["Backlog", "Config", "Numbered", "Row", "Storage"]
