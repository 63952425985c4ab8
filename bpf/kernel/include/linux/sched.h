#ifndef OTELBEE_SCHED_H
#define OTELBEE_SCHED_H
#define TASK_COMM_LEN 16
#endif
