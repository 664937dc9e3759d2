# What Prometheus cannot see, because it is below it: the database's host, the tasks. Alerts of settler itself come from
# the rules (metrics.tf), to the same topic.
resource "aws_sns_topic" "alarms" {
  name              = "${var.name}-alarms"
  kms_master_key_id = aws_kms_key.this.arn
  tags              = local.tags
}

data "aws_iam_policy_document" "alarms" {
  statement {
    sid       = "Alarms"
    actions   = ["sns:Publish", "sns:GetTopicAttributes"]
    resources = [aws_sns_topic.alarms.arn]
    principals {
      type        = "Service"
      identifiers = ["aps.amazonaws.com", "cloudwatch.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_sns_topic_policy" "alarms" {
  arn    = aws_sns_topic.alarms.arn
  policy = data.aws_iam_policy_document.alarms.json
}

resource "aws_sns_topic_subscription" "mail" {
  for_each = var.alarm_emails

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.value
}

locals {
  database_alarms = {
    # Bytes: a tenth of what it began with; it grows by itself up to storage_max_gib.
    storage     = { metric = "FreeStorageSpace", below = true, threshold = var.database.storage_gib * 107374182, statistic = "Minimum", minutes = 10 }
    cpu         = { metric = "CPUUtilization", below = false, threshold = 80, statistic = "Average", minutes = 15 }
    memory      = { metric = "FreeableMemory", below = true, threshold = 268435456, statistic = "Minimum", minutes = 15 }
    connections = { metric = "DatabaseConnections", below = false, threshold = 40 + 25 * var.workers, statistic = "Maximum", minutes = 10 }
  }
}

resource "aws_cloudwatch_metric_alarm" "database" {
  for_each = local.database_alarms

  alarm_name          = "${var.name}-database-${each.key}"
  alarm_description   = "settler's database: ${each.value.metric}. docs/runbook.md, Database away"
  namespace           = "AWS/RDS"
  metric_name         = each.value.metric
  dimensions          = { DBInstanceIdentifier = aws_db_instance.this.identifier }
  statistic           = each.value.statistic
  comparison_operator = each.value.below ? "LessThanThreshold" : "GreaterThanThreshold"
  threshold           = each.value.threshold
  period              = 60
  evaluation_periods  = each.value.minutes
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags                = local.tags
}

resource "aws_cloudwatch_metric_alarm" "workers" {
  count = var.workers == 0 ? 0 : 1

  alarm_name          = "${var.name}-workers"
  alarm_description   = "fewer tasks of settler than asked for"
  namespace           = "ECS/ContainerInsights"
  metric_name         = "RunningTaskCount"
  dimensions          = { ClusterName = aws_ecs_cluster.this.name, ServiceName = aws_ecs_service.this.name }
  statistic           = "Minimum"
  comparison_operator = "LessThanThreshold"
  threshold           = var.workers
  period              = 60
  evaluation_periods  = 10
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags                = local.tags
}
