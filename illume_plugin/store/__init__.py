"""What the loop remembers: SQLAlchemy Core tables and the verbs on them."""

from illume_plugin.store.database import Store

__all__ = ["Store"]
