{{- define "anka.name" -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "anka.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* selector labels of one component: (list $ "controller") */}}
{{- define "anka.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "anka.tag" -}}
{{- .Values.images.tag | default .Chart.AppVersion -}}
{{- end -}}

{{/* etcd's own DNS names, as members know one another */}}
{{- define "anka.etcdHosts" -}}
{{- $name := include "anka.name" . -}}
{{- $hosts := list -}}
{{- range $i := until (int .Values.etcd.replicas) -}}
{{- $hosts = append $hosts (printf "%s-etcd-%d.%s-etcd.%s.svc" $name $i $name $.Release.Namespace) -}}
{{- end -}}
{{- join "," $hosts -}}
{{- end -}}

{{- define "anka.etcdEndpoints" -}}
{{- if .Values.etcd.enabled -}}
{{- $urls := list -}}
{{- range $h := splitList "," (include "anka.etcdHosts" .) -}}
{{- $urls = append $urls (printf "http://%s:2379" $h) -}}
{{- end -}}
{{- join "," $urls -}}
{{- else -}}
{{- if not .Values.etcd.external.endpoints -}}
{{- fail "etcd.external.endpoints is required when etcd.enabled is false" -}}
{{- end -}}
{{- join "," .Values.etcd.external.endpoints -}}
{{- end -}}
{{- end -}}

{{/* the controllers' own way to a registry */}}
{{- define "anka.localRegistry" -}}
{{- if .Values.registry.enabled -}}
http://{{ include "anka.name" . }}-registry.{{ .Release.Namespace }}.svc:{{ .Values.registry.service.port }}
{{- else -}}
{{ required "registry.external.url is required when registry.enabled is false" .Values.registry.external.url }}
{{- end -}}
{{- end -}}

{{/* the registry's address for nodes */}}
{{- define "anka.registryURL" -}}
{{- if .Values.registryURL -}}
{{ .Values.registryURL }}
{{- else if and .Values.ingress.enabled .Values.ingress.registryHost .Values.registry.enabled -}}
http{{ if .Values.ingress.tlsSecret }}s{{ end }}://{{ .Values.ingress.registryHost }}
{{- else -}}
{{ include "anka.localRegistry" . }}
{{- end -}}
{{- end -}}

{{/* the address that a controller announces to nodes: one for all, or its own */}}
{{- define "anka.controllerURL" -}}
{{- if eq .Values.controller.exposure "hostPort" -}}
http://$(HOST_IP):{{ .Values.controller.hostPort }}
{{- else if eq .Values.controller.exposure "perPod" -}}
{{ required "controller.perPod.url is required when controller.exposure is perPod" .Values.controller.perPod.url | replace "{index}" "$(POD_INDEX)" }}
{{- else if .Values.controllerURL -}}
{{ .Values.controllerURL }}
{{- else if .Values.ingress.enabled -}}
http{{ if .Values.ingress.tlsSecret }}s{{ end }}://{{ .Values.ingress.controllerHost }}
{{- else -}}
http://{{ include "anka.name" . }}-controller.{{ .Release.Namespace }}.svc:{{ .Values.controller.service.port }}
{{- end -}}
{{- end -}}

{{- define "anka.pushRegistry" -}}
{{- if not .Values.registry.enabled -}}
{{ .Values.registry.external.pushURL }}
{{- else if eq .Values.registry.mode "replicated" -}}
http://{{ include "anka.name" . }}-push-registry.{{ .Release.Namespace }}.svc:{{ .Values.registry.service.port }}
{{- end -}}
{{- end -}}

{{- define "anka.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
automountServiceAccountToken: false
enableServiceLinks: false
{{- end -}}

{{- define "anka.containerSecurity" -}}
securityContext:
  readOnlyRootFilesystem: true
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* (list $ "controller" "soft") */}}
{{- define "anka.affinity" -}}
{{- $how := index . 2 -}}
{{- if has $how (list "soft" "hard") }}
affinity:
  podAntiAffinity:
  {{- if eq $how "hard" }}
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels: {{- include "anka.selector" . | nindent 12 }}
  {{- else }}
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels: {{- include "anka.selector" . | nindent 14 }}
  {{- end }}
{{- else if ne $how "none" }}
{{- fail (printf "%s.antiAffinity must be soft, hard or none, not %q" (index . 1) $how) }}
{{- end }}
{{- end -}}

{{/* placement: (list $ "controller" .Values.controller) */}}
{{- define "anka.placement" -}}
{{- $part := index . 2 -}}
{{- include "anka.affinity" (list (index . 0) (index . 1) $part.antiAffinity) }}
{{- with $part.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- if $part.topologySpread }}
topologySpreadConstraints:
  - topologyKey: {{ $part.topologySpread }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "anka.selector" . | nindent 8 }}
{{- end }}
{{- with (index . 0).Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "anka.httpProbes" -}}
startupProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- end -}}

{{- define "anka.metricsAnnotations" -}}
{{- if .Values.metrics.enabled }}
annotations:
  prometheus.io/scrape: "true"
  prometheus.io/port: {{ .Values.metrics.port | quote }}
  prometheus.io/path: /metrics
{{- end }}
{{- end -}}

{{- define "anka.metricsPort" -}}
{{- if .Values.metrics.enabled }}
- {name: metrics, containerPort: {{ .Values.metrics.port }}}
{{- end }}
{{- end -}}

{{- define "anka.metricsEnv" -}}
{{- if .Values.metrics.enabled }}
- {name: ANKA_ENABLE_METRICS, value: "true"}
- {name: ANKA_METRICS_PORT, value: {{ .Values.metrics.port | quote }}}
{{- end }}
{{- end -}}
