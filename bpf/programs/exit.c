/* One record for each thread group that ends, when its last thread does.
 *
 * Who is parent at exit is not who forked the process: an orphan's parent is pid 1 by then. So forks are remembered
 * until the exit; a process that was forked before this program was loaded has no parent in its record. */

struct exit_scratch {
    struct exit_record record;
    char data[2 * NAME_SIZE];
};
BPF_PERCPU_ARRAY(exit_scratch, struct exit_scratch, 1); /* the stack has 512 bytes */

struct forker {
    struct identity identity;
    u32 pid;
    u32 unused;
};
/* By the child's thread id, threads too: the tracepoint does not tell them apart. Their exits remove them. */
BPF_TABLE("lru_hash", u32, struct forker, forkers, 32768);

#ifndef HAVE_GROUP_DEAD
struct ended {
    u64 start_ns;
    u64 pid;
};
BPF_TABLE("lru_hash", struct ended, u8, ended, 4096);
#endif

#if defined(HAVE_IDENTITY) && defined(HAVE_PARENT)
TRACEPOINT_PROBE(sched, sched_process_fork) {
    void *task = (void *)bpf_get_current_task();
    struct forker forker = {};
    u32 child = args->child_pid;
    forker.pid = bpf_get_current_pid_tgid() >> 32;
    read_identity(&forker.identity, leader_of(task), task);
    forkers.update(&child, &forker);
    return 0;
}
#endif

/* Whether this is the last thread of its group. Newer kernels say so in the tracepoint. Before, signal->live is 0 then,
 * but two threads that end at once may both see that: the first to take the process's entry reports it. */
static inline int last_thread(void *task, void *leader, u32 pid, int group_dead) {
#ifdef HAVE_GROUP_DEAD
    return group_dead;
#else
    u8 one = 1;
    struct ended key = {.start_ns = read_u64(leader, task_struct__start_time), .pid = pid};
    if (read_u32(read_pointer(task, task_struct__signal), signal_struct__live))
        return 0;
    return ended.insert(&key, &one) == 0;
#endif
}

/* What wait_task_zombie (kernel/exit.c) will tell the parent. */
static inline void read_status(struct exit_record *record, u16 *has, void *task, void *leader) {
#if defined(task_struct__signal) && defined(signal_struct__flags) && defined(signal_struct__group_exit_code) \
    && defined(task_struct__exit_code)
    void *signal = read_pointer(task, task_struct__signal);
    if (read_u32(signal, signal_struct__flags) & SIGNAL_GROUP_EXIT)
        record->status = read_u32(signal, signal_struct__group_exit_code);
    else
        record->status = read_u32(leader, task_struct__exit_code);
    *has |= HAS_STATUS;
#endif
}

TRACEPOINT_PROBE(sched, sched_process_exit) {
    u32 zero = 0, at = 0;
    u64 ids = bpf_get_current_pid_tgid();
    u32 pid = ids >> 32, thread_id = (u32)ids;
    void *task = (void *)bpf_get_current_task(), *leader = leader_of(task);
#ifdef HAVE_GROUP_DEAD
    int group_dead = args->group_dead;
#else
    int group_dead = 0;
#endif
    if (thread_id != pid)
        forkers.delete(&thread_id);
    if (!last_thread(task, leader, pid, group_dead))
        return 0;

    struct exit_scratch *exit = exit_scratch.lookup(&zero);
    if (!exit)
        return 0;
    struct exit_record *record = &exit->record;
    __builtin_memset(record, 0, sizeof(*record));
    u16 has = 0;

    record->header.program = PROGRAM_EXIT;
    record->header.time_ns = bpf_ktime_get_ns();
    record->pid = pid;
    read_user_ids(&record->uid, &record->euid, &has, task);
    read_status(record, &has, task, leader);
#ifdef HAVE_IDENTITY
    read_identity(&record->process, leader, task);
    has |= HAS_IDENTITY;
#endif
    struct forker *forker = forkers.lookup(&pid);
    if (forker) {
        record->parent_pid = forker->pid;
        record->parent = forker->identity;
        has |= HAS_PARENT_PID | HAS_PARENT_IDENTITY;
        forkers.delete(&pid);
    }
#ifdef task_struct__comm
    if (bpf_probe_read_kernel_str(record->comm, sizeof(record->comm), (char *)leader + task_struct__comm) > 0)
        has |= HAS_COMM;
#endif
    void *node = cgroup_of(task);
    at += record->cgroup_length = read_name(exit->data, node);
    at += record->cgroup_above_length = read_name(exit->data + masked(at, NAME_SIZE - 1), cgroup_above(node));

    record->header.has = has;
    record->header.size = sizeof(*record) + at;
    submit(args, exit, record->header.size, sizeof(*exit), PROGRAM_EXIT);
    return 0;
}
