"""Times as the API writes them."""

from datetime import UTC, datetime


def stamp(instant: datetime) -> str:
    """RFC 3339, Z, milliseconds."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
