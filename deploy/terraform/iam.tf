# Two kinds of roles. An execution role is ECS' own, to start a task: it pulls the image, opens the log and fetches the
# secrets, those of this kind of task and no others. A task role is the program's: to write metrics, and nothing else.
data "aws_iam_policy_document" "task_assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:ecs:${local.region}:${local.account}:*"]
    }
  }
}

locals {
  setting_secrets = [for key in sort(tolist(var.secret_settings)) : aws_secretsmanager_secret.setting[key].arn]

  # Kind of task: the secrets it starts with, and the logs it writes.
  executions = {
    worker = {
      secrets = concat([aws_secretsmanager_secret.database["settler"].arn], local.setting_secrets)
      logs    = ["worker", "collector"]
    }
    migrate = {
      secrets = concat([aws_secretsmanager_secret.database["settler_migrator"].arn], local.setting_secrets)
      logs    = ["migrate"]
    }
    reconcile = {
      secrets = concat([aws_secretsmanager_secret.database["settler"].arn], local.setting_secrets)
      logs    = ["reconcile"]
    }
    operator = {
      secrets = concat([aws_secretsmanager_secret.database["settler"].arn], local.setting_secrets)
      logs    = ["operator"]
    }
    # The only one that sees the administrator's password.
    bootstrap = {
      secrets = concat([for secret in aws_secretsmanager_secret.database : secret.arn], aws_db_instance.this.master_user_secret[*].secret_arn)
      logs    = ["bootstrap"]
    }
  }
}

data "aws_iam_policy_document" "execution" {
  # checkov:skip=CKV_AWS_356: ecr:GetAuthorizationToken knows no resource; it gives no right to any image
  for_each = local.executions

  statement {
    sid       = "Login"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }
  statement {
    sid       = "Pull"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [var.ecr_repository_arn]
  }
  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = [for group in each.value.logs : "${aws_cloudwatch_log_group.this[group].arn}:*"]
  }
  statement {
    sid       = "Secrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = each.value.secrets
  }
  statement {
    sid       = "Decrypt"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.this.arn]
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["secretsmanager.${local.region}.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "execution" {
  for_each = local.executions

  name               = "${var.name}-${each.key}-execution"
  assume_role_policy = data.aws_iam_policy_document.task_assume.json
  tags               = local.tags
}

resource "aws_iam_role_policy" "execution" {
  for_each = local.executions

  name   = "start"
  role   = aws_iam_role.execution[each.key].id
  policy = data.aws_iam_policy_document.execution[each.key].json
}

data "aws_iam_policy_document" "worker" {
  statement {
    sid       = "Metrics"
    actions   = ["aps:RemoteWrite"]
    resources = [aws_prometheus_workspace.this.arn]
  }
}

resource "aws_iam_role" "worker" {
  name               = "${var.name}-worker"
  assume_role_policy = data.aws_iam_policy_document.task_assume.json
  tags               = local.tags
}

resource "aws_iam_role_policy" "worker" {
  name   = "metrics"
  role   = aws_iam_role.worker.id
  policy = data.aws_iam_policy_document.worker.json
}

# An operator's shell: `aws ecs execute-command` opens its channel through these.
data "aws_iam_policy_document" "operator" {
  # checkov:skip=CKV_AWS_111: these four know no resource
  # checkov:skip=CKV_AWS_356: as above
  statement {
    sid = "Session"
    actions = [
      "ssmmessages:CreateControlChannel",
      "ssmmessages:CreateDataChannel",
      "ssmmessages:OpenControlChannel",
      "ssmmessages:OpenDataChannel",
    ]
    resources = ["*"]
  }
}

resource "aws_iam_role" "operator" {
  name               = "${var.name}-operator"
  assume_role_policy = data.aws_iam_policy_document.task_assume.json
  tags               = local.tags
}

resource "aws_iam_role_policy" "operator" {
  name   = "session"
  role   = aws_iam_role.operator.id
  policy = data.aws_iam_policy_document.operator.json
}

# Starts `settler reconcile` on time.
data "aws_iam_policy_document" "scheduler_assume" {
  count = var.reconcile_schedule == null ? 0 : 1

  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

data "aws_iam_policy_document" "scheduler" {
  count = var.reconcile_schedule == null ? 0 : 1

  statement {
    sid       = "Run"
    actions   = ["ecs:RunTask"]
    resources = ["${aws_ecs_task_definition.reconcile.arn_without_revision}:*"]
    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [aws_ecs_cluster.this.arn]
    }
  }
  statement {
    sid       = "Tag"
    actions   = ["ecs:TagResource"]
    resources = ["arn:${local.partition}:ecs:${local.region}:${local.account}:task/${aws_ecs_cluster.this.name}/*"]
    condition {
      test     = "StringEquals"
      variable = "ecs:CreateAction"
      values   = ["RunTask"]
    }
  }
  statement {
    # The schedule itself is encrypted.
    sid       = "Decrypt"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.this.arn]
  }
  statement {
    sid       = "Pass"
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.execution["reconcile"].arn]
    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "scheduler" {
  count = var.reconcile_schedule == null ? 0 : 1

  name               = "${var.name}-scheduler"
  assume_role_policy = data.aws_iam_policy_document.scheduler_assume[0].json
  tags               = local.tags
}

resource "aws_iam_role_policy" "scheduler" {
  count = var.reconcile_schedule == null ? 0 : 1

  name   = "reconcile"
  role   = aws_iam_role.scheduler[0].id
  policy = data.aws_iam_policy_document.scheduler[0].json
}
