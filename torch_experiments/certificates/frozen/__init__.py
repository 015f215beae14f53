"""Frozen units: which, for which reason, within which radius, and which weights they hold."""
