"""Pure translators: the bytes of one eBPF tool in, serialised OTLP out. No I/O, no clock, no log."""
