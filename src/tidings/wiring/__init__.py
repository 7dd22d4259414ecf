"""The only package that knows all concrete classes: from settings to a role that runs.

A module for each role, so that none pays for what only another needs.
"""
