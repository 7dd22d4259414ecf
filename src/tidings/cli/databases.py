"""Which databases a command works on."""

from pathlib import Path

from tidings.cli.app import Unreachable
from tidings.settings import Settings, current


def named(data_dir: Path | None, config: Path | None = None) -> Settings:
    """Settings that name a control database: those of a system started by ``tidings up``, or the fleet's. Raises
    Unreachable, before PostgreSQL's own defaults could lead to somebody else's database."""
    settings = current({"data_dir": data_dir and str(data_dir), "config": config and str(config)})
    if not settings.control_dsn:
        raise Unreachable(
            f"nothing runs on {settings.data_dir}: start `tidings up`, or set TIDINGS_CONTROL_DSN and "
            "TIDINGS_SHARD_DSNS"
        )
    return settings
