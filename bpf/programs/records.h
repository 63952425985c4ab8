/* Every struct that crosses from the kernel to user space.
 *
 * Byte order is the machine's. Every member is naturally aligned and the structs have no padding, so the receiver
 * unpacks them with a fixed format. translators/bpf holds the SHA-256 of this file and refuses a peer whose differs:
 * change this file and that constant together, with the formats in translators/bpf.
 *
 * A record is a fixed part followed by its strings, in the order of their lengths and without terminators. What this
 * kernel does not tell is absent, by a bit in `has` or a length of 0, and then its member means nothing.
 */
#ifndef OTELBEE_RECORDS_H
#define OTELBEE_RECORDS_H

#define PROGRAM_EXEC 1
#define PROGRAM_EXIT 2

#define NAME_SIZE 256   /* NAME_MAX, with the NUL: a cgroup's name */
#define PATH_SIZE 4096  /* PATH_MAX, with the NUL */
#define ARGS_SIZE 8192  /* what is kept of the arguments, in bytes */

#define HAS_IDENTITY 0x01         /* process */
#define HAS_PARENT_PID 0x02       /* parent_pid */
#define HAS_PARENT_IDENTITY 0x04  /* parent */
#define HAS_EUID 0x08             /* euid */
#define HAS_ARGS 0x10             /* args_size; the arguments could be read */
#define HAS_STATUS 0x20           /* status */
#define HAS_COMM 0x40             /* comm */

struct record_header {
    u32 size;     /* of the whole record with its strings, in bytes */
    u16 program;  /* PROGRAM_* */
    u16 has;      /* HAS_* */
    u64 time_ns;  /* CLOCK_MONOTONIC */
};

/* With the boot id and the pid this is unique for ever: start_ns survives an exec, exec_count counts them. */
struct identity {
    u64 start_ns;    /* task_struct.start_time of the group leader, CLOCK_MONOTONIC */
    u64 exec_count;  /* task_struct.self_exec_id: 1 more with each exec, inherited by fork */
};

struct exec_record {
    struct record_header header;
    struct identity process;
    struct identity parent;  /* the real parent's group leader, at the time of the exec */
    u32 pid;                 /* thread group id, as all pids here in the first pid namespace */
    u32 parent_pid;
    u32 uid;                 /* real, in the first user namespace, as euid */
    u32 euid;
    u32 old_thread_id;       /* the thread that called exec; it takes over the pid */
    u32 args_size;           /* of the arguments in the process; more than args_length: truncated */
    u16 path_length;
    u16 args_length;         /* NUL-terminated strings one after the other */
    u16 cgroup_length;       /* name of the process's cgroup */
    u16 cgroup_above_length; /* name of that cgroup's parent */
    u16 parent_cgroup_length;
    u16 parent_cgroup_above_length;
    u16 unused[2];
    /* path, cgroup, cgroup above, parent's cgroup, parent's cgroup above, arguments */
};

struct exit_record {
    struct record_header header;
    struct identity process;
    struct identity parent;  /* the process that forked this one, as it was then; not who is parent at exit */
    u32 pid;
    u32 parent_pid;
    u32 uid;
    u32 euid;
    u32 status;              /* as wait(2) tells it: exit code << 8, or signal and 0x80 for a core dump */
    u16 cgroup_length;
    u16 cgroup_above_length;
    char comm[16];           /* the group leader's name, NUL-terminated */
    /* cgroup, cgroup above */
};

#endif
