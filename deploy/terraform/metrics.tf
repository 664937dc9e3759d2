# Amazon Managed Prometheus: the sidecars write, the repository's own rules are evaluated, alerts go to a topic.
resource "aws_prometheus_workspace" "this" {
  alias       = var.name
  kms_key_arn = aws_kms_key.this.arn
  tags        = local.tags

  logging_configuration {
    log_group_arn = "${aws_cloudwatch_log_group.prometheus.arn}:*"
  }
}

resource "aws_cloudwatch_log_group" "prometheus" {
  name              = "/aws/vendedlogs/${var.name}/prometheus"
  retention_in_days = var.log_days
  kms_key_id        = aws_kms_key.this.arn
  tags              = local.tags
}

resource "aws_prometheus_rule_group_namespace" "this" {
  for_each = fileset("${path.module}/../prometheus/rules", "*.yaml")

  name         = "${var.name}-${trimsuffix(each.key, ".yaml")}"
  workspace_id = aws_prometheus_workspace.this.id
  data         = file("${path.module}/../prometheus/rules/${each.key}")
  tags         = local.tags
}

resource "aws_prometheus_alert_manager_definition" "this" {
  workspace_id = aws_prometheus_workspace.this.id
  definition = yamlencode({
    alertmanager_config = yamlencode({
      route = {
        receiver        = "topic"
        group_by        = ["alertname", "chain", "severity"]
        group_wait      = "30s"
        group_interval  = "5m"
        repeat_interval = "4h"
      }
      receivers = [{
        name = "topic"
        sns_configs = [{
          topic_arn     = aws_sns_topic.alarms.arn
          sigv4         = { region = local.region }
          send_resolved = true
          # Subscriptions can filter by it: page or ticket.
          attributes = { severity = "{{ .CommonLabels.severity }}" }
        }]
      }]
    })
  })
}

locals {
  # Of the collector beside each worker. Its series carry the task they are of: else those of two workers would be one.
  collector = {
    extensions = {
      sigv4auth = { region = local.region, service = "aps" }
    }
    receivers = {
      prometheus = {
        config = {
          scrape_configs = [{
            job_name        = "settler"
            scrape_interval = "15s"
            static_configs  = [{ targets = ["127.0.0.1:${local.port}"] }]
          }]
        }
      }
    }
    processors = {
      resourcedetection = { detectors = ["env", "ecs"], timeout = "5s" }
    }
    exporters = {
      prometheusremotewrite = {
        endpoint                         = "${aws_prometheus_workspace.this.prometheus_endpoint}api/v1/remote_write"
        auth                             = { authenticator = "sigv4auth" }
        resource_to_telemetry_conversion = { enabled = true }
      }
    }
    service = {
      extensions = ["sigv4auth"]
      pipelines = {
        metrics = {
          receivers  = ["prometheus"]
          processors = ["resourcedetection"]
          exporters  = ["prometheusremotewrite"]
        }
      }
    }
  }
}

# -- Grafana, where it is wanted; deploy/grafana/dashboards are imported by hand (docs/aws.md) ----------------------------
resource "aws_grafana_workspace" "this" {
  count = var.grafana ? 1 : 0

  name                     = var.name
  account_access_type      = "CURRENT_ACCOUNT"
  authentication_providers = ["AWS_SSO"]
  permission_type          = "CUSTOMER_MANAGED"
  data_sources             = ["PROMETHEUS", "CLOUDWATCH"]
  role_arn                 = aws_iam_role.grafana[0].arn
  grafana_version          = "10.4"
  tags                     = local.tags
}

data "aws_iam_policy_document" "grafana_assume" {
  count = var.grafana ? 1 : 0

  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["grafana.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

data "aws_iam_policy_document" "grafana" {
  # checkov:skip=CKV_AWS_356: ListWorkspaces knows no resource
  count = var.grafana ? 1 : 0

  statement {
    sid       = "List"
    actions   = ["aps:ListWorkspaces"]
    resources = ["*"]
  }
  statement {
    sid       = "Query"
    actions   = ["aps:DescribeWorkspace", "aps:GetLabels", "aps:GetMetricMetadata", "aps:GetSeries", "aps:QueryMetrics"]
    resources = [aws_prometheus_workspace.this.arn]
  }
}

resource "aws_iam_role" "grafana" {
  count = var.grafana ? 1 : 0

  name               = "${var.name}-grafana"
  assume_role_policy = data.aws_iam_policy_document.grafana_assume[0].json
  tags               = local.tags
}

resource "aws_iam_role_policy" "grafana" {
  count = var.grafana ? 1 : 0

  name   = "query"
  role   = aws_iam_role.grafana[0].id
  policy = data.aws_iam_policy_document.grafana[0].json
}
