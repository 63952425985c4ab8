/* The registers that a uprobe program sees; from arch/x86/include/asm/ptrace.h. No program of ours reads them yet. */
#ifndef OTELBEE_PTRACE_H
#define OTELBEE_PTRACE_H
#if defined(__x86_64__) || defined(__TARGET_ARCH_x86) || defined(bpf_target_x86)
struct pt_regs {
    unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};
#else
struct pt_regs;
#endif
#endif
