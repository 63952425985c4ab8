{{/* The pod of both modes. */}}
{{- define "otelbee.pod" -}}
{{- $v := .Values }}
{{- $bpf := and (eq $v.mode "daemonset") $v.bpf.enabled }}
{{- $image := include "otelbee.image" (dict "image" $v.image "root" .) }}
metadata:
  labels:
    {{- include "otelbee.labels" . | nindent 4 }}
    {{- with $v.podLabels }}{{- toYaml . | nindent 4 }}{{- end }}
  annotations:
    checksum/config: {{ include "otelbee.config" . | sha256sum }}
    kubectl.kubernetes.io/default-container: otelbee
    {{- with $v.podAnnotations }}{{- toYaml . | nindent 4 }}{{- end }}
spec:
  serviceAccountName: {{ include "otelbee.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  # Above shutdown_timeout: what is queued is delivered before the kubelet loses patience.
  terminationGracePeriodSeconds: {{ add $v.shutdownTimeoutSeconds 10 }}
  {{- if $v.hostNetwork }}
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  {{- end }}
  securityContext:
    # The group of the bpf socket's folder, of a claim and of mounted Secrets.
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    {{- if ne $v.tetragon.source "none" }}
    supplementalGroups: [{{ $v.tetragon.group }}]
    {{- end }}
  {{- with $v.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $v.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if eq $v.mode "deployment" }}
  {{- with $v.topologySpreadConstraints }}
  topologySpreadConstraints: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- if eq $v.queue.type "hostPath" }}
  initContainers:
    # The kubelet makes a hostPath for root alone, and fsGroup does not reach it: this gives it to the receiver.
    - name: queue
      image: {{ $image }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      command: [/opt/otelbee/bin/python, -I, -c, "import os; os.chown('/var/lib/otelbee', 65532, 65532)"]
      securityContext:
        runAsUser: 0
        runAsGroup: 0
        readOnlyRootFilesystem: true
        allowPrivilegeEscalation: false
        capabilities: {drop: [ALL], add: [CHOWN]}
        seccompProfile: {type: RuntimeDefault}
      resources:
        requests: {cpu: 10m, memory: 32Mi}
        limits: {memory: 64Mi}
      volumeMounts:
        - {name: queue, mountPath: /var/lib/otelbee}
  {{- end }}
  containers:
    - name: otelbee
      image: {{ $image }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args: [run, --config, /etc/otelbee/config/otelbee.yaml]
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        runAsGroup: 65532
        readOnlyRootFilesystem: true
        allowPrivilegeEscalation: false
        capabilities: {drop: [ALL]}
        seccompProfile: {type: RuntimeDefault}
      env:
        - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        - {name: HOST_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
        - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        {{- with $v.env }}{{- toYaml . | nindent 8 }}{{- end }}
      ports:
        - {name: health, containerPort: 8877}
        {{- range $name, $number := include "otelbee.ports" . | fromYaml }}
        - {name: {{ $name }}, containerPort: {{ $number }}}
        {{- end }}
      # A queue on disk is looked through before anything answers.
      startupProbe: {httpGet: {path: /live, port: health}, periodSeconds: 2, timeoutSeconds: 5, failureThreshold: 60}
      livenessProbe: {httpGet: {path: /live, port: health}, periodSeconds: 10, timeoutSeconds: 5}
      readinessProbe: {httpGet: {path: /ready, port: health}, periodSeconds: 5, timeoutSeconds: 5}
      {{- with $v.resources }}
      resources: {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - {name: config, mountPath: /etc/otelbee/config, readOnly: true}
        {{- if $bpf }}
        - {name: bpf-socket, mountPath: /run/otelbee}
        {{- end }}
        {{- if ne $v.tetragon.source "none" }}
        - {name: tetragon, mountPath: /run/tetragon, readOnly: true}
        {{- end }}
        {{- if ne $v.queue.type "memory" }}
        - {name: queue, mountPath: /var/lib/otelbee}
        {{- end }}
        {{- if $v.collector.tls.secretName }}
        - {name: collector-tls, mountPath: /etc/otelbee/collector-tls, readOnly: true}
        {{- end }}
        {{- if $v.collector.token.secretName }}
        - {name: collector-token, mountPath: /etc/otelbee/collector-token, readOnly: true}
        {{- end }}
        {{- if include "otelbee.listenersSecret" . }}
        - {name: listeners-tls, mountPath: /etc/otelbee/listeners-tls, readOnly: true}
        {{- end }}
        {{- if $v.listeners.tokens.secretName }}
        - {name: listeners-tokens, mountPath: /etc/otelbee/listeners-tokens, readOnly: true}
        {{- end }}
        {{- with $v.extraVolumeMounts }}{{- toYaml . | nindent 8 }}{{- end }}
    {{- if $bpf }}
    # Loads the kernel programs and hands their records over the socket; it listens on nothing else and reads nothing.
    # - uid 0: tracefs belongs to root, and only root may read it.
    # - BPF: to load programs and maps. PERFMON: to attach them to tracepoints and to read kernel structs.
    # - No pid namespace of the node: records carry the node's pids anyway, and otelbee knows its own by the pod.
    # - No other capability, no new privileges, a root file system that is read-only, no network code.
    # - /sys/kernel/tracing of the node, read-only: the ids and formats of tracepoints; a container's /sys has it not.
    # - The group of the socket's folder: the socket becomes that group's without CAP_CHOWN.
    - name: bpf
      image: {{ include "otelbee.image" (dict "image" $v.bpf.image "root" .) }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args:
        {{- range $v.bpf.programs }}
        - --program={{ . }}
        {{- end }}
        - --socket-gid=65532
        - --allow-uid=65532
      securityContext:
        runAsUser: 0
        runAsGroup: 0
        readOnlyRootFilesystem: true
        allowPrivilegeEscalation: false
        capabilities: {drop: [ALL], add: [BPF, PERFMON]}
        seccompProfile: {{- toYaml $v.bpf.seccompProfile | nindent 10 }}
      {{- with $v.bpf.resources }}
      resources: {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - {name: bpf-socket, mountPath: /run/otelbee}
        - {name: tracing, mountPath: /sys/kernel/tracing, readOnly: true}
    {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ include "otelbee.fullname" . }}}
    {{- if $bpf }}
    - name: bpf-socket
      emptyDir: {medium: Memory, sizeLimit: 1Mi}
    - name: tracing
      hostPath: {path: /sys/kernel/tracing, type: Directory}
    {{- end }}
    {{- if eq $v.tetragon.source "socket" }}
    # The folder, which is there before the agent is: the socket in it comes and goes.
    - name: tetragon
      hostPath: {path: {{ $v.tetragon.socketDirectory }}, type: DirectoryOrCreate}
    {{- else if eq $v.tetragon.source "file" }}
    - name: tetragon
      hostPath: {path: {{ dir $v.tetragon.file }}, type: DirectoryOrCreate}
    {{- end }}
    {{- if eq $v.queue.type "hostPath" }}
    - name: queue
      hostPath: {path: {{ $v.queue.hostPath }}, type: DirectoryOrCreate}
    {{- else if eq $v.queue.type "pvc" }}
    - name: queue
      persistentVolumeClaim: {claimName: {{ include "otelbee.claim" . }}}
    {{- end }}
    {{- with $v.collector.tls.secretName }}
    - name: collector-tls
      secret: {secretName: {{ . }}, defaultMode: 0440}
    {{- end }}
    {{- with $v.collector.token.secretName }}
    - name: collector-token
      secret: {secretName: {{ . }}, defaultMode: 0440}
    {{- end }}
    {{- with include "otelbee.listenersSecret" . }}
    - name: listeners-tls
      secret: {secretName: {{ . }}, defaultMode: 0440}
    {{- end }}
    {{- with $v.listeners.tokens.secretName }}
    - name: listeners-tokens
      secret: {secretName: {{ . }}, defaultMode: 0440}
    {{- end }}
    {{- with $v.extraVolumes }}{{- toYaml . | nindent 4 }}{{- end }}
{{- end }}
