/* One record for each successful exec. At sched_process_exec the new image is in place and its arguments lie in its
 * memory between mm->arg_start and arg_end: one hook covers execve, execveat, 32-bit and an exec from any thread. */

/* Each append is bounded by masking its offset with half of the data, so that the other half holds the longest. */
#define EXEC_DATA_SIZE 16384
#define EXEC_AT(at) (exec->data + masked(at, EXEC_DATA_SIZE / 2 - 1))

struct exec_scratch {
    struct exec_record record;
    char data[EXEC_DATA_SIZE];
};
BPF_PERCPU_ARRAY(exec_scratch, struct exec_scratch, 1); /* the stack has 512 bytes */

TRACEPOINT_PROBE(sched, sched_process_exec) {
    u32 zero = 0, at = 0;
    struct exec_scratch *exec = exec_scratch.lookup(&zero);
    if (!exec)
        return 0;
    struct exec_record *record = &exec->record;
    __builtin_memset(record, 0, sizeof(*record));
    void *task = (void *)bpf_get_current_task(), *leader = leader_of(task), *parent = parent_of(leader);
    u16 has = 0;

    record->header.program = PROGRAM_EXEC;
    record->header.time_ns = bpf_ktime_get_ns();
    record->pid = bpf_get_current_pid_tgid() >> 32;
    record->old_thread_id = args->old_pid;
    read_user_ids(&record->uid, &record->euid, &has, task);
#ifdef HAVE_IDENTITY
    read_identity(&record->process, leader, task);
    has |= HAS_IDENTITY;
#endif
#ifdef HAVE_PARENT
    record->parent_pid = read_u32(parent, task_struct__tgid);
    has |= HAS_PARENT_PID;
#ifdef HAVE_IDENTITY
    read_identity(&record->parent, parent, parent);
    has |= HAS_PARENT_IDENTITY;
#endif
#endif

    int length = bpf_probe_read_kernel_str(exec->data, PATH_SIZE, (char *)args + (args->data_loc_filename & 0xffff));
    if (length > 1 && length <= PATH_SIZE)
        at = record->path_length = length - 1;

    void *node = cgroup_of(task);
    at += record->cgroup_length = read_name(EXEC_AT(at), node);
    at += record->cgroup_above_length = read_name(EXEC_AT(at), cgroup_above(node));
    node = parent ? cgroup_of(parent) : 0;
    at += record->parent_cgroup_length = read_name(EXEC_AT(at), node);
    at += record->parent_cgroup_above_length = read_name(EXEC_AT(at), cgroup_above(node));

#if defined(task_struct__mm) && defined(mm_struct__arg_start) && defined(mm_struct__arg_end)
    void *mm = read_pointer(task, task_struct__mm);
    u64 start = read_u64(mm, mm_struct__arg_start), end = read_u64(mm, mm_struct__arg_end);
    if (mm && end >= start) {
        u64 size = end - start;
        record->args_size = size;
        asm volatile("" : "+r"(size)); /* so that the next bound is on what the verifier follows */
        if (size > ARGS_SIZE)
            size = ARGS_SIZE;
        if (bpf_probe_read_user(EXEC_AT(at), size, (void *)start) == 0) {
            at += record->args_length = size;
            has |= HAS_ARGS;
        }
    }
#endif

    record->header.has = has;
    record->header.size = sizeof(*record) + at;
    submit(args, exec, record->header.size, sizeof(*exec), PROGRAM_EXEC);
    return 0;
}
