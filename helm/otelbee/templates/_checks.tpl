{{/* What a schema cannot say: values that are right by themselves, and wrong together. */}}
{{- define "otelbee.checks" -}}
{{- $v := .Values }}
{{- $node := eq $v.mode "daemonset" }}
{{- $ports := include "otelbee.ports" . | fromYaml }}
{{- $_ := required "collector.endpoint: where does the Collector take OTLP/gRPC? For example --set collector.endpoint=otel-collector.observability:4317" $v.collector.endpoint }}
{{- if and (not $node) (not $ports) (not $v.config.sources) }}
{{- fail "mode deployment: enable one of listeners.otlp, listeners.parca, listeners.pprof; or name config.sources" }}
{{- end }}
{{- if and $node (not $v.bpf.enabled) (eq $v.tetragon.source "none") (not $ports) (not $v.config.sources) }}
{{- fail "nothing to read: enable bpf, tetragon.source or one of the listeners; or name config.sources" }}
{{- end }}
{{- if and (not $node) (ne $v.tetragon.source "none") }}
{{- fail "tetragon.source: what happens on a node is read there, with mode daemonset; mode deployment takes only what is pushed" }}
{{- end }}
{{- if and $node (eq $v.queue.type "pvc") }}
{{- fail "queue.type pvc: the pods of a daemonset cannot share one volume; take hostPath" }}
{{- end }}
{{- if and (not $node) (eq $v.queue.type "hostPath") }}
{{- fail "queue.type hostPath: a deployment's pod may come back on another node; take pvc" }}
{{- end }}
{{- if and (eq $v.queue.type "pvc") (gt (int $v.replicas) 1) }}
{{- fail "replicas: two pods cannot share one queue; take queue.type memory, or one release for each" }}
{{- end }}
{{- if and $v.hostNetwork (or (not $node) $v.networkPolicy.enabled) }}
{{- fail "hostNetwork: only with mode daemonset, and no networkPolicy holds for it" }}
{{- end }}
{{- if and $node $v.podDisruptionBudget.enabled }}
{{- fail "podDisruptionBudget: a drain does not evict a daemonset's pods; use maxUnavailable" }}
{{- end }}
{{- if and $v.listeners.tls.certManager.enabled (not $v.listeners.tls.certManager.issuerRef.name) }}
{{- fail "listeners.tls.certManager.issuerRef.name: which issuer?" }}
{{- end }}
{{- if and $v.collector.tls.clientCertificate (not $v.collector.tls.secretName) }}
{{- fail "collector.tls.clientCertificate: name the Secret with tls.crt and tls.key, collector.tls.secretName" }}
{{- end }}
{{- range $key, $instead := dict "shutdown_timeout" "shutdownTimeoutSeconds, which the pod's grace period follows" "telemetry.endpoint" "nothing: probes and monitors use 8877" "storage" "queue.type" "exporter.otlp_grpc.endpoint" "collector.endpoint" }}
{{- $value := $v.config }}
{{- range splitList "." $key }}
{{- $value = ternary (get (default dict $value) .) "" (kindIs "map" (default dict $value)) }}
{{- end }}
{{- if $value }}
{{- fail (printf "config.%s: set %s" $key $instead) }}
{{- end }}
{{- end }}
{{- end }}
