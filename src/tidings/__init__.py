"""Tidings: a self-hosted notification system."""

__version__ = "0.1.0"
