{{/* otelbee's configuration: what the values say, and `config` over it. */}}
{{- define "otelbee.config" -}}
{{- $v := .Values }}
{{- $node := eq $v.mode "daemonset" }}
{{- $sources := dict }}
{{- if and $node $v.bpf.enabled }}
{{- $_ := set $sources "bpf" dict }}
{{- end }}
{{- if eq $v.tetragon.source "socket" }}
{{- $socket := dict "endpoint" "unix:///run/tetragon/tetragon.sock" "discovery_file" "/run/tetragon/tetragon-info.json" }}
{{- $_ := set $sources "tetragon" $socket }}
{{- else if eq $v.tetragon.source "file" }}
{{- $_ := set $sources "tetragon_file" (dict "path" (printf "/run/tetragon/%s" (base $v.tetragon.file))) }}
{{- end }}
{{- $listener := dict }}
{{- if include "otelbee.listenersSecret" . }}
{{- $tls := dict "cert_file" "/etc/otelbee/listeners-tls/tls.crt" "key_file" "/etc/otelbee/listeners-tls/tls.key" }}
{{- if $v.listeners.tls.clientAuthority }}{{- $_ := set $tls "client_ca_file" "/etc/otelbee/listeners-tls/ca.crt" }}{{- end }}
{{- $_ := set $listener "tls" $tls }}
{{- end }}
{{- if $v.listeners.tokens.secretName }}
{{- $_ := set $listener "auth" (dict "bearertokenauth" (dict "filename" (printf "/etc/otelbee/listeners-tokens/%s" $v.listeners.tokens.key))) }}
{{- end }}
{{- range $port, $number := include "otelbee.ports" . | fromYaml }}
{{- $source := first (splitList "-" $port) }}
{{- $protocols := dict (last (splitList "-" $port)) (merge (dict "endpoint" (printf "0.0.0.0:%v" $number)) $listener) }}
{{- $_ := set $sources $source (merge (default dict (get $sources $source)) (dict "protocols" $protocols)) }}
{{- end }}
{{- $otlp := dict "endpoint" $v.collector.endpoint "sending_queue" (dict "queue_size" $v.queue.sizePerSignal) }}
{{- $tls := dict }}
{{- if $v.collector.tls.insecure }}{{- $_ := set $tls "insecure" true }}{{- end }}
{{- if $v.collector.tls.secretName }}{{- $_ := set $tls "ca_file" "/etc/otelbee/collector-tls/ca.crt" }}{{- end }}
{{- if $v.collector.tls.clientCertificate }}
{{- $_ := set $tls "cert_file" "/etc/otelbee/collector-tls/tls.crt" }}
{{- $_ := set $tls "key_file" "/etc/otelbee/collector-tls/tls.key" }}
{{- end }}
{{- with $v.collector.tls.serverName }}{{- $_ := set $tls "server_name_override" . }}{{- end }}
{{- if $tls }}{{- $_ := set $otlp "tls" $tls }}{{- end }}
{{- with $v.collector.token.secretName }}
{{- $_ := set $otlp "auth" (dict "bearertokenauth" (dict "filename" (printf "/etc/otelbee/collector-token/%s" $v.collector.token.key))) }}
{{- end }}
{{- $resource := dict "attributes" dict }}
{{- if $node }}
{{- $_ := set $resource "host_name" "${env:NODE_NAME}" }}
{{- $_ := set $resource.attributes "k8s.node.name" "${env:NODE_NAME}" }}
{{- end }}
{{- with $v.clusterName }}{{- $_ := set $resource.attributes "k8s.cluster.name" . }}{{- end }}
{{- $config := dict "sources" $sources "exporter" (dict "otlp_grpc" $otlp) "resource" $resource }}
{{- $_ := set $config "telemetry" (dict "endpoint" "0.0.0.0:8877") }}
{{- $_ := set $config "shutdown_timeout" (printf "%vs" $v.shutdownTimeoutSeconds) }}
{{- if ne $v.queue.type "memory" }}{{- $_ := set $config "storage" "/var/lib/otelbee/queue" }}{{- end }}
{{- toYaml (mergeOverwrite $config (deepCopy $v.config)) }}
{{- end }}
