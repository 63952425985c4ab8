"""Records of our own kernel programs (``bpf/programs``) to OTLP log records; one module per program.

What becomes of every field is in docs/sources/bpf.md.
"""

from translators.bpf.translator import Options, Translator

__all__ = ["Options", "Translator"]
