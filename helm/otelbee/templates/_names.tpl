{{- define "otelbee.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 53 | trimSuffix "-" }}
{{- end }}

{{- define "otelbee.fullname" -}}
{{- $name := include "otelbee.name" . }}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 53 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}{{ .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "otelbee.selector" -}}
app.kubernetes.io/name: {{ include "otelbee.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "otelbee.labels" -}}
{{ include "otelbee.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* An image by digest, or else by tag; takes a dict of `image` and `root`. */}}
{{- define "otelbee.image" -}}
{{- if .image.digest }}{{ .image.repository }}@{{ .image.digest }}
{{- else }}{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "otelbee.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "otelbee.fullname" .) }}
{{- else }}{{ .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{/* The Secret of the listeners' certificate; empty for plain text. */}}
{{- define "otelbee.listenersSecret" -}}
{{- if .Values.listeners.tls.certManager.enabled }}{{ include "otelbee.fullname" . }}-tls
{{- else }}{{ .Values.listeners.tls.secretName }}
{{- end }}
{{- end }}

{{- define "otelbee.claim" -}}
{{- .Values.queue.existingClaim | default (printf "%s-queue" (include "otelbee.fullname" .)) }}
{{- end }}

{{/* Every port that takes what is pushed, by name, as a dict; the health port is not among them. */}}
{{- define "otelbee.ports" -}}
{{- with .Values.listeners }}
{{- if .otlp.enabled }}
otlp-grpc: 4319
otlp-http: 4320
{{- end }}
{{- if .parca.enabled }}
parca-grpc: 7070
{{- end }}
{{- if .pprof.enabled }}
pprof-http: 4040
{{- end }}
{{- end }}
{{- end }}
