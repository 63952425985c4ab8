/* Its presence marks a kernel tree for BCC. CONFIG_BPF_SYSCALL enables the helpers of bpf(2) in BCC's helpers.h. */
#ifndef OTELBEE_KCONFIG_H
#define OTELBEE_KCONFIG_H
#define IS_ENABLED(option) 0
#define CONFIG_BPF_SYSCALL 1
#endif
