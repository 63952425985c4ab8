"""The service: sources, pipeline and exporters. Read :mod:`receiver.app` first."""
