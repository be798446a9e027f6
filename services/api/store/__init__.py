"""The one place for SQL: every method is one transaction.

`Database` opens and closes; `ExportStore` serves callers, `TaskStore` serves
dispatch and events, `ReuseStore` serves planning, `BacklogStore` serves forecasts,
`Housekeeping` serves the reconciler.
"""

from services.api.store.backlog import BacklogStore
from services.api.store.database import Database
from services.api.store.exports import ExportStore
from services.api.store.housekeeping import Housekeeping
from services.api.store.reuse import ReuseStore
from services.api.store.tasks import TaskStore

__all__ = ["BacklogStore", "Database", "ExportStore", "Housekeeping", "ReuseStore", "TaskStore"]
