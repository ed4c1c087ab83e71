{{/* pod template: (dict "root" $ "component" "registry" "env" [...] "claim" NAME or "") */}}
{{- define "anka.registryPod" -}}
{{- $reg := .root.Values.registry -}}
metadata:
  labels: {{- include "anka.selector" (list .root .component) | nindent 4 }}
  {{- with include "anka.metricsAnnotations" .root | trim }}{{ . | nindent 2 }}{{ end }}
spec:
  {{- include "anka.podSecurity" .root | nindent 2 }}
  {{- with include "anka.placement" (list .root .component $reg) | trim }}{{ . | nindent 2 }}{{ end }}
  # A transfer of tens of gigabytes is allowed to finish.
  terminationGracePeriodSeconds: {{ add $reg.drainSeconds 15 }}
  containers:
    - name: registry
      image: "{{ .root.Values.images.registry }}:{{ include "anka.tag" .root }}"
      imagePullPolicy: {{ .root.Values.images.pullPolicy }}
      command: [/anka-registry]
      env:
        - {name: ANKA_LISTEN_ADDR, value: ":8089"}
        - {name: ANKA_BASE_PATH, value: /data}
        - {name: ANKA_GRACEFUL_SHUTDOWN_TIMEOUT, value: "{{ $reg.drainSeconds }}s"}
        - {name: ANKA_DRAIN_DELAY, value: "{{ $reg.drainDelaySeconds }}s"}
        {{- with .env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- with include "anka.metricsEnv" .root | trim }}{{ . | nindent 8 }}{{ end }}
        {{- with $reg.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {name: http, containerPort: 8089}
        {{- with include "anka.metricsPort" .root | trim }}{{ . | nindent 8 }}{{ end }}
      {{- include "anka.httpProbes" .root | nindent 6 }}
      {{- include "anka.containerSecurity" .root | nindent 6 }}
      resources: {{- toYaml $reg.resources | nindent 8 }}
      volumeMounts:
        - {name: data, mountPath: /data}
        - {name: tmp, mountPath: /tmp}
  volumes:
    - name: tmp
      emptyDir: {}
    {{- with .claim }}
    - name: data
      persistentVolumeClaim: {claimName: {{ . }}}
    {{- end }}
{{- end -}}

{{/* claim: (list $ default-access-mode) */}}
{{- define "anka.registryClaim" -}}
{{- $storage := (index . 0).Values.registry.storage -}}
accessModes: [{{ $storage.accessMode | default (index . 1) }}]
{{- with $storage.className }}
storageClassName: {{ . }}
{{- end }}
resources: {requests: {storage: {{ $storage.size }}}}
{{- end -}}

{{/* service: (list $ component) */}}
{{- define "anka.registryService" -}}
{{- $root := index . 0 -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "anka.name" $root }}-{{ index . 1 }}
  labels: {{- include "anka.labels" $root | nindent 4 }}
  {{- with $root.Values.registry.service.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $root.Values.registry.service.type }}
  selector: {{- include "anka.selector" . | nindent 4 }}
  ports:
    - {name: http, port: {{ $root.Values.registry.service.port }}, targetPort: http}
{{- end -}}
