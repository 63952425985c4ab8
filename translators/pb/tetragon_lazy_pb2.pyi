from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Event(_message.Message):
    __slots__ = ("process_exec", "process_exit", "process_kprobe", "process_tracepoint", "process_loader", "process_uprobe", "process_throttle", "process_lsm", "process_usdt", "test", "rate_limit_info", "node_name", "time", "aggregation_info", "cluster_name", "node_labels")
    PROCESS_EXEC_FIELD_NUMBER: _ClassVar[int]
    PROCESS_EXIT_FIELD_NUMBER: _ClassVar[int]
    PROCESS_KPROBE_FIELD_NUMBER: _ClassVar[int]
    PROCESS_TRACEPOINT_FIELD_NUMBER: _ClassVar[int]
    PROCESS_LOADER_FIELD_NUMBER: _ClassVar[int]
    PROCESS_UPROBE_FIELD_NUMBER: _ClassVar[int]
    PROCESS_THROTTLE_FIELD_NUMBER: _ClassVar[int]
    PROCESS_LSM_FIELD_NUMBER: _ClassVar[int]
    PROCESS_USDT_FIELD_NUMBER: _ClassVar[int]
    TEST_FIELD_NUMBER: _ClassVar[int]
    RATE_LIMIT_INFO_FIELD_NUMBER: _ClassVar[int]
    NODE_NAME_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    AGGREGATION_INFO_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_NAME_FIELD_NUMBER: _ClassVar[int]
    NODE_LABELS_FIELD_NUMBER: _ClassVar[int]
    process_exec: bytes
    process_exit: bytes
    process_kprobe: bytes
    process_tracepoint: bytes
    process_loader: bytes
    process_uprobe: bytes
    process_throttle: bytes
    process_lsm: bytes
    process_usdt: bytes
    test: bytes
    rate_limit_info: bytes
    node_name: str
    time: Timestamp
    aggregation_info: bytes
    cluster_name: str
    node_labels: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, process_exec: _Optional[bytes] = ..., process_exit: _Optional[bytes] = ..., process_kprobe: _Optional[bytes] = ..., process_tracepoint: _Optional[bytes] = ..., process_loader: _Optional[bytes] = ..., process_uprobe: _Optional[bytes] = ..., process_throttle: _Optional[bytes] = ..., process_lsm: _Optional[bytes] = ..., process_usdt: _Optional[bytes] = ..., test: _Optional[bytes] = ..., rate_limit_info: _Optional[bytes] = ..., node_name: _Optional[str] = ..., time: _Optional[_Union[Timestamp, _Mapping]] = ..., aggregation_info: _Optional[bytes] = ..., cluster_name: _Optional[str] = ..., node_labels: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Timestamp(_message.Message):
    __slots__ = ("seconds", "nanos")
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    NANOS_FIELD_NUMBER: _ClassVar[int]
    seconds: int
    nanos: int
    def __init__(self, seconds: _Optional[int] = ..., nanos: _Optional[int] = ...) -> None: ...

class ProcessExec(_message.Message):
    __slots__ = ("process", "parent", "ancestors")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    ANCESTORS_FIELD_NUMBER: _ClassVar[int]
    process: bytes
    parent: bytes
    ancestors: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, process: _Optional[bytes] = ..., parent: _Optional[bytes] = ..., ancestors: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ProcessExit(_message.Message):
    __slots__ = ("process", "parent", "signal", "status", "time", "ancestors")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ANCESTORS_FIELD_NUMBER: _ClassVar[int]
    process: bytes
    parent: bytes
    signal: str
    status: int
    time: Timestamp
    ancestors: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, process: _Optional[bytes] = ..., parent: _Optional[bytes] = ..., signal: _Optional[str] = ..., status: _Optional[int] = ..., time: _Optional[_Union[Timestamp, _Mapping]] = ..., ancestors: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ProcessKprobe(_message.Message):
    __slots__ = ("process", "parent", "function_name", "args", "action", "kernel_stack_trace", "policy_name", "return_action", "message", "tags", "user_stack_trace", "ancestors", "data")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    RETURN_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    KERNEL_STACK_TRACE_FIELD_NUMBER: _ClassVar[int]
    POLICY_NAME_FIELD_NUMBER: _ClassVar[int]
    RETURN_ACTION_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    USER_STACK_TRACE_FIELD_NUMBER: _ClassVar[int]
    ANCESTORS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    process: bytes
    parent: bytes
    function_name: str
    args: _containers.RepeatedScalarFieldContainer[bytes]
    action: int
    kernel_stack_trace: _containers.RepeatedScalarFieldContainer[bytes]
    policy_name: str
    return_action: int
    message: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    user_stack_trace: _containers.RepeatedScalarFieldContainer[bytes]
    ancestors: _containers.RepeatedScalarFieldContainer[bytes]
    data: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, process: _Optional[bytes] = ..., parent: _Optional[bytes] = ..., function_name: _Optional[str] = ..., args: _Optional[_Iterable[bytes]] = ..., action: _Optional[int] = ..., kernel_stack_trace: _Optional[_Iterable[bytes]] = ..., policy_name: _Optional[str] = ..., return_action: _Optional[int] = ..., message: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ..., user_stack_trace: _Optional[_Iterable[bytes]] = ..., ancestors: _Optional[_Iterable[bytes]] = ..., data: _Optional[_Iterable[bytes]] = ..., **kwargs) -> None: ...

class ProcessTracepoint(_message.Message):
    __slots__ = ("process", "parent", "subsys", "event", "args", "policy_name", "action", "message", "tags", "ancestors")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    SUBSYS_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    POLICY_NAME_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    ANCESTORS_FIELD_NUMBER: _ClassVar[int]
    process: bytes
    parent: bytes
    subsys: str
    event: str
    args: _containers.RepeatedScalarFieldContainer[bytes]
    policy_name: str
    action: int
    message: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    ancestors: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, process: _Optional[bytes] = ..., parent: _Optional[bytes] = ..., subsys: _Optional[str] = ..., event: _Optional[str] = ..., args: _Optional[_Iterable[bytes]] = ..., policy_name: _Optional[str] = ..., action: _Optional[int] = ..., message: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ..., ancestors: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ProcessLoader(_message.Message):
    __slots__ = ("process", "path", "buildid", "parent", "ancestors")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    BUILDID_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    ANCESTORS_FIELD_NUMBER: _ClassVar[int]
    process: bytes
    path: str
    buildid: bytes
    parent: bytes
    ancestors: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, process: _Optional[bytes] = ..., path: _Optional[str] = ..., buildid: _Optional[bytes] = ..., parent: _Optional[bytes] = ..., ancestors: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ProcessUprobe(_message.Message):
    __slots__ = ("process", "parent", "path", "symbol", "policy_name", "message", "args", "tags", "ancestors", "offset", "ref_ctr_offset", "action", "data")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    POLICY_NAME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    ANCESTORS_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    REF_CTR_OFFSET_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    process: bytes
    parent: bytes
    path: str
    symbol: str
    policy_name: str
    message: str
    args: _containers.RepeatedScalarFieldContainer[bytes]
    tags: _containers.RepeatedScalarFieldContainer[str]
    ancestors: _containers.RepeatedScalarFieldContainer[bytes]
    offset: int
    ref_ctr_offset: int
    action: int
    data: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, process: _Optional[bytes] = ..., parent: _Optional[bytes] = ..., path: _Optional[str] = ..., symbol: _Optional[str] = ..., policy_name: _Optional[str] = ..., message: _Optional[str] = ..., args: _Optional[_Iterable[bytes]] = ..., tags: _Optional[_Iterable[str]] = ..., ancestors: _Optional[_Iterable[bytes]] = ..., offset: _Optional[int] = ..., ref_ctr_offset: _Optional[int] = ..., action: _Optional[int] = ..., data: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ProcessThrottle(_message.Message):
    __slots__ = ("type", "cgroup")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CGROUP_FIELD_NUMBER: _ClassVar[int]
    type: int
    cgroup: str
    def __init__(self, type: _Optional[int] = ..., cgroup: _Optional[str] = ...) -> None: ...

class ProcessLsm(_message.Message):
    __slots__ = ("process", "parent", "function_name", "policy_name", "message", "args", "action", "tags", "ancestors", "ima_hash")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    POLICY_NAME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    ANCESTORS_FIELD_NUMBER: _ClassVar[int]
    IMA_HASH_FIELD_NUMBER: _ClassVar[int]
    process: bytes
    parent: bytes
    function_name: str
    policy_name: str
    message: str
    args: _containers.RepeatedScalarFieldContainer[bytes]
    action: int
    tags: _containers.RepeatedScalarFieldContainer[str]
    ancestors: _containers.RepeatedScalarFieldContainer[bytes]
    ima_hash: str
    def __init__(self, process: _Optional[bytes] = ..., parent: _Optional[bytes] = ..., function_name: _Optional[str] = ..., policy_name: _Optional[str] = ..., message: _Optional[str] = ..., args: _Optional[_Iterable[bytes]] = ..., action: _Optional[int] = ..., tags: _Optional[_Iterable[str]] = ..., ancestors: _Optional[_Iterable[bytes]] = ..., ima_hash: _Optional[str] = ...) -> None: ...

class ProcessUsdt(_message.Message):
    __slots__ = ("process", "parent", "path", "provider", "name", "policy_name", "message", "args", "tags", "ancestors", "action", "flags")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    POLICY_NAME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    ANCESTORS_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    process: bytes
    parent: bytes
    path: str
    provider: str
    name: str
    policy_name: str
    message: str
    args: _containers.RepeatedScalarFieldContainer[bytes]
    tags: _containers.RepeatedScalarFieldContainer[str]
    ancestors: _containers.RepeatedScalarFieldContainer[bytes]
    action: int
    flags: str
    def __init__(self, process: _Optional[bytes] = ..., parent: _Optional[bytes] = ..., path: _Optional[str] = ..., provider: _Optional[str] = ..., name: _Optional[str] = ..., policy_name: _Optional[str] = ..., message: _Optional[str] = ..., args: _Optional[_Iterable[bytes]] = ..., tags: _Optional[_Iterable[str]] = ..., ancestors: _Optional[_Iterable[bytes]] = ..., action: _Optional[int] = ..., flags: _Optional[str] = ...) -> None: ...

class Process(_message.Message):
    __slots__ = ("exec_id", "pid", "uid", "cwd", "binary", "arguments", "flags", "start_time", "auid", "pod", "docker", "parent_exec_id", "refcnt", "cap", "ns", "tid", "process_credentials", "binary_properties", "user", "in_init_tree", "environment_variables")
    EXEC_ID_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    CWD_FIELD_NUMBER: _ClassVar[int]
    BINARY_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    AUID_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    DOCKER_FIELD_NUMBER: _ClassVar[int]
    PARENT_EXEC_ID_FIELD_NUMBER: _ClassVar[int]
    REFCNT_FIELD_NUMBER: _ClassVar[int]
    CAP_FIELD_NUMBER: _ClassVar[int]
    NS_FIELD_NUMBER: _ClassVar[int]
    TID_FIELD_NUMBER: _ClassVar[int]
    PROCESS_CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    BINARY_PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    IN_INIT_TREE_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_VARIABLES_FIELD_NUMBER: _ClassVar[int]
    exec_id: str
    pid: UInt32
    uid: UInt32
    cwd: str
    binary: str
    arguments: str
    flags: str
    start_time: Timestamp
    auid: UInt32
    pod: bytes
    docker: str
    parent_exec_id: str
    refcnt: int
    cap: bytes
    ns: bytes
    tid: UInt32
    process_credentials: bytes
    binary_properties: bytes
    user: bytes
    in_init_tree: Bool
    environment_variables: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, exec_id: _Optional[str] = ..., pid: _Optional[_Union[UInt32, _Mapping]] = ..., uid: _Optional[_Union[UInt32, _Mapping]] = ..., cwd: _Optional[str] = ..., binary: _Optional[str] = ..., arguments: _Optional[str] = ..., flags: _Optional[str] = ..., start_time: _Optional[_Union[Timestamp, _Mapping]] = ..., auid: _Optional[_Union[UInt32, _Mapping]] = ..., pod: _Optional[bytes] = ..., docker: _Optional[str] = ..., parent_exec_id: _Optional[str] = ..., refcnt: _Optional[int] = ..., cap: _Optional[bytes] = ..., ns: _Optional[bytes] = ..., tid: _Optional[_Union[UInt32, _Mapping]] = ..., process_credentials: _Optional[bytes] = ..., binary_properties: _Optional[bytes] = ..., user: _Optional[bytes] = ..., in_init_tree: _Optional[_Union[Bool, _Mapping]] = ..., environment_variables: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Pod(_message.Message):
    __slots__ = ("namespace", "name", "uid", "container", "pod_labels", "workload", "workload_kind", "pod_annotations")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    POD_LABELS_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_KIND_FIELD_NUMBER: _ClassVar[int]
    POD_ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    uid: str
    container: Container
    pod_labels: _containers.RepeatedScalarFieldContainer[bytes]
    workload: str
    workload_kind: str
    pod_annotations: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., uid: _Optional[str] = ..., container: _Optional[_Union[Container, _Mapping]] = ..., pod_labels: _Optional[_Iterable[bytes]] = ..., workload: _Optional[str] = ..., workload_kind: _Optional[str] = ..., pod_annotations: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Container(_message.Message):
    __slots__ = ("id", "name", "image", "start_time", "pid", "maybe_exec_probe", "security_context")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    MAYBE_EXEC_PROBE_FIELD_NUMBER: _ClassVar[int]
    SECURITY_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    name: bytes
    image: bytes
    start_time: bytes
    pid: UInt32
    maybe_exec_probe: bool
    security_context: bytes
    def __init__(self, id: _Optional[bytes] = ..., name: _Optional[bytes] = ..., image: _Optional[bytes] = ..., start_time: _Optional[bytes] = ..., pid: _Optional[_Union[UInt32, _Mapping]] = ..., maybe_exec_probe: _Optional[bool] = ..., security_context: _Optional[bytes] = ...) -> None: ...

class UInt32(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: int
    def __init__(self, value: _Optional[int] = ...) -> None: ...

class Bool(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: bool
    def __init__(self, value: _Optional[bool] = ...) -> None: ...
