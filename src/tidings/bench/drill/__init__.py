"""The outage drill: providers go away under load and come back, and what happened when is told afterwards."""
