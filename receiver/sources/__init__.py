"""Where bytes come from: one module or folder per source, each with its ``Config`` and ``Source``."""
