/* BCC sizes BPF_STACK_TRACE and hash maps with it; our sizes are powers of two. */
#ifndef OTELBEE_LOG2_H
#define OTELBEE_LOG2_H
#define roundup_pow_of_two(n) (n)
#endif
