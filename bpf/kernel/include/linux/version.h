/* Only BPF programs of the kprobe type are checked against the version, and only before Linux 5.0. */
#ifndef OTELBEE_VERSION_H
#define OTELBEE_VERSION_H
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))
#ifndef LINUX_VERSION_CODE
#define LINUX_VERSION_CODE KERNEL_VERSION(5, 5, 0)
#endif
#endif
