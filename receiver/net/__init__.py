"""Channels and listeners made from typed configuration, and their TLS."""
