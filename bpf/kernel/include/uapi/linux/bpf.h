/* BCC ships its own copy of bpf.h; this only satisfies the include. */
