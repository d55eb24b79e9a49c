"""The service's methods for operators."""

from .methods import Methods


class AdminMethods(Methods):
    """Backups."""

    async def backup(self, path: str) -> str:
        """Write a consistent copy of the SQLite file, while it is in use; return where it is.

        Args:
            path: A new file, with the mode 600. A relative one begins at the service's folder.

        Raises:
            PermissionError: A service of an agent called: the copy has the records of all agents.
            FileExistsError: The file exists.
            NotImplementedError: The database is on PostgreSQL.
        """
        caller = self.runtime.caller
        if caller is not None and caller.agent:
            raise PermissionError(
                f"{caller.name} belongs to agent {caller.agent!r}, and a backup has the records of "
                f"all agents: run garrison call {self.runtime.name} backup PATH"
            )
        target = self.runtime.data_folder.absolute() / path
        size = await self._stores.database.engine.backup(target)
        self.runtime.logger.info("database.backup file=%s size_bytes=%d", target, size)
        return str(target)
