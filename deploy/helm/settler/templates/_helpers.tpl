{{- define "settler.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "settler.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "settler.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "settler.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "settler.selector" -}}
app.kubernetes.io/name: {{ include "settler.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "settler.labels" -}}
{{ include "settler.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "settler.image" -}}
{{- $name := required "image.repository is empty: name the image that deploy/Dockerfile built, e.g. registry.example/settler" .Values.image.repository }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $name .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $name (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- define "settler.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "settler.fullname" .) }}
{{- else }}
{{- required "serviceAccount.name is empty: name one, or let serviceAccount.create make it" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Which keys of which Secret are mounted. The migration has its own copy of a Secret that the chart makes: at the
     first install its hook runs before anything else of the chart is there. */}}
{{- define "settler.secretName" -}}
{{- if .root.Values.secrets.existingSecret }}
{{- if .root.Values.secrets.values }}
{{- fail "secrets.existingSecret and secrets.values are both given: keep one" }}
{{- end }}
{{- .root.Values.secrets.existingSecret }}
{{- else }}
{{- if not .root.Values.secrets.values }}
{{- fail "no secrets: name a Secret in secrets.existingSecret, with the keys of secrets.keys" }}
{{- end }}
{{- printf "%s%s" (include "settler.fullname" .root) .suffix }}
{{- end }}
{{- end }}

{{- define "settler.secretKeys" -}}
{{- if .Values.secrets.existingSecret }}
{{- toJson .Values.secrets.keys }}
{{- else }}
{{- keys .Values.secrets.values | sortAlpha | toJson }}
{{- end }}
{{- end }}

{{- define "settler.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
# The secrets' files are root's: this group may read them.
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "settler.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Variables of every settler container: .root, and .databaseUrlKey where it is not the daemon's. */}}
{{- define "settler.env" -}}
- name: SETTLER__RUNTIME__WORKER
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: SETTLER__RUNTIME__DRAIN_TIMEOUT_S
  value: {{ .root.Values.drainTimeoutSeconds | quote }}
- name: SETTLER__RUNTIME__LOG_FORMAT
  value: json
- name: SETTLER__API__LISTEN
  value: {{ printf "%s:%v" .root.Values.listen.host .root.Values.listen.port | quote }}
{{- range include "settler.secretKeys" .root | fromJsonArray }}
{{- if and (hasPrefix "SETTLER__" .) (not (and $.databaseUrlKey (eq . "SETTLER__DATABASE__URL"))) }}
- name: {{ . }}_FILE
  value: /run/settler/secrets/{{ . }}
{{- end }}
{{- end }}
{{- if .databaseUrlKey }}
- name: SETTLER__DATABASE__URL_FILE
  value: /run/settler/secrets/{{ .databaseUrlKey }}
{{- end }}
{{- with .root.Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "settler.volumeMounts" -}}
- name: config
  mountPath: /etc/settler
  readOnly: true
- name: secrets
  mountPath: /run/settler/secrets
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- end }}

{{/* .root, .suffix of the ConfigMap's (and a made Secret's) name, .keys of the Secret. */}}
{{- define "settler.volumes" -}}
- name: config
  configMap:
    name: {{ include "settler.fullname" .root }}{{ .suffix }}
- name: secrets
  secret:
    secretName: {{ include "settler.secretName" . }}
    defaultMode: 0440
    items:
      {{- range .keys }}
      - key: {{ . }}
        path: {{ . }}
      {{- end }}
- name: tmp
  emptyDir:
    sizeLimit: {{ .root.Values.tmpSize }}
{{- end }}

{{/* What a migration's hook needs is there before it and gone after it. */}}
{{- define "settler.hook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
