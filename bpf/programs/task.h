/* Reading task_struct and its neighbours.
 *
 * Offsets come from the running kernel's BTF as macros STRUCT__MEMBER (layout.py); one that this kernel does not have,
 * or has in another size, is not defined, and what needs it is compiled out.
 */
#include "records.h"

#define SIGNAL_GROUP_EXIT 0x4 /* include/linux/sched/signal.h */

#if defined(task_struct__group_leader) && defined(task_struct__start_time) && defined(task_struct__self_exec_id)
#define HAVE_IDENTITY
#endif
#if defined(task_struct__group_leader) && defined(task_struct__real_parent) && defined(task_struct__tgid)
#define HAVE_PARENT
#endif
#if defined(task_struct__cgroups) && defined(cgroup__kn) && defined(kernfs_node__name) && defined(CGROUP_IN_CSS_SET) \
    && (!defined(CGROUP_BY_CONTROLLER) || defined(cgroup_subsys_state__cgroup))
#define HAVE_CGROUP
#endif

#ifdef USE_RING_BUFFER
BPF_RINGBUF_OUTPUT(records, RING_BUFFER_PAGES);
#else
BPF_PERF_OUTPUT(records);
#endif
BPF_PERCPU_ARRAY(lost, u64, 16); /* by PROGRAM_*: records that the buffer had no room for */

/* `value & mask` where the verifier can see it: clang drops a mask that it can prove to be useless. */
static inline u64 masked(u64 value, u64 mask) {
    asm volatile("" : "+r"(value));
    return value & mask;
}

static inline void *read_pointer(void *base, int offset) {
    void *value = 0;
    bpf_probe_read_kernel(&value, sizeof(value), (char *)base + offset);
    return value;
}

static inline u64 read_u64(void *base, int offset) {
    u64 value = 0;
    bpf_probe_read_kernel(&value, sizeof(value), (char *)base + offset);
    return value;
}

static inline u32 read_u32(void *base, int offset) {
    u32 value = 0;
    bpf_probe_read_kernel(&value, sizeof(value), (char *)base + offset);
    return value;
}

static inline void *leader_of(void *task) {
#ifdef task_struct__group_leader
    return read_pointer(task, task_struct__group_leader);
#else
    return task;
#endif
}

/* real_parent may be the very thread that forked: its group leader stands for the process. */
static inline void *parent_of(void *leader) {
#ifdef HAVE_PARENT
    return leader_of(read_pointer(leader, task_struct__real_parent));
#else
    return 0;
#endif
}

static inline void read_identity(struct identity *identity, void *leader, void *task) {
#ifdef HAVE_IDENTITY
    identity->start_ns = read_u64(leader, task_struct__start_time);
    identity->exec_count = read_u64(task, task_struct__self_exec_id);
#endif
}

/* The kernfs node of the task's cgroup: cgroup v1's, in a controller's hierarchy, or v2's; 0 where it is not known. */
static inline void *cgroup_of(void *task) {
#ifdef HAVE_CGROUP
    void *cgroup = read_pointer(read_pointer(task, task_struct__cgroups), CGROUP_IN_CSS_SET);
#ifdef CGROUP_BY_CONTROLLER
    cgroup = read_pointer(cgroup, cgroup_subsys_state__cgroup);
#endif
    return read_pointer(cgroup, cgroup__kn);
#else
    return 0;
#endif
}

static inline void *cgroup_above(void *node) {
#ifdef kernfs_node__parent
    return read_pointer(node, kernfs_node__parent);
#else
    return 0;
#endif
}

/* Reads a node's name into NAME_SIZE bytes; returns its length without the NUL. */
static inline u16 read_name(char *to, void *node) {
#ifdef HAVE_CGROUP
    int length = bpf_probe_read_kernel_str(to, NAME_SIZE, read_pointer(node, kernfs_node__name));
    return length > 1 && length <= NAME_SIZE ? length - 1 : 0;
#else
    return 0;
#endif
}

static inline void read_user_ids(u32 *uid, u32 *euid, u16 *has, void *task) {
    *uid = (u32)bpf_get_current_uid_gid();
#if defined(task_struct__cred) && defined(cred__euid)
    *euid = read_u32(read_pointer(task, task_struct__cred), cred__euid);
    *has |= HAS_EUID;
#endif
}

/* Writes the scratch space `record` of `capacity` bytes up to `size`, in 64 bits: the verifier loses narrower bounds. */
static inline void submit(void *ctx, void *record, u64 size, u64 capacity, u32 program) {
    asm volatile("" : "+r"(size));
    if (size == 0 || size > capacity)
        return;
#ifdef USE_RING_BUFFER
    long failed = records.ringbuf_output(record, size, 0);
#else
    long failed = records.perf_submit(ctx, record, size);
#endif
    if (failed) {
        u64 *count = lost.lookup(&program);
        if (count)
            (*count)++;
    }
}
