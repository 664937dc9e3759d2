resource "aws_ecs_cluster" "this" {
  name = var.name
  tags = local.tags

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_ecs_service" "this" {
  name             = "worker"
  cluster          = aws_ecs_cluster.this.id
  task_definition  = aws_ecs_task_definition.worker.arn
  desired_count    = var.workers
  launch_type      = "FARGATE"
  platform_version = "LATEST"

  # New workers are there before old ones go. A release that does not start (also: whose migration was forgotten) is
  # taken back, while the old workers run on.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }
  availability_zone_rebalancing     = "ENABLED"
  health_check_grace_period_seconds = var.load_balancer == null ? null : 120
  wait_for_steady_state             = true

  # A way in, to a process that decides about money, is nobody's: the operator's task has one.
  enable_execute_command  = false
  enable_ecs_managed_tags = true
  propagate_tags          = "SERVICE"
  tags                    = local.tags

  network_configuration {
    subnets          = local.private_subnet_ids
    security_groups  = [aws_security_group.worker.id]
    assign_public_ip = false
  }

  dynamic "load_balancer" {
    for_each = aws_lb_target_group.this
    content {
      target_group_arn = load_balancer.value.arn
      container_name   = "settler"
      container_port   = local.port
    }
  }

  depends_on = [
    aws_iam_role_policy.execution,
    aws_iam_role_policy.worker,
    aws_lb_listener_rule.this,
    aws_secretsmanager_secret_version.database,
    aws_vpc_security_group_egress_rule.worker_database,
    aws_vpc_security_group_egress_rule.worker_outside,
    aws_vpc_security_group_ingress_rule.database,
    aws_route_table_association.private,
    aws_route.nat,
  ]
}

resource "aws_scheduler_schedule" "reconcile" {
  count = var.reconcile_schedule == null ? 0 : 1

  name                         = "${var.name}-reconcile"
  description                  = "settler reconcile: the records against the chains"
  schedule_expression          = var.reconcile_schedule
  schedule_expression_timezone = "UTC"
  state                        = var.workers == 0 ? "DISABLED" : "ENABLED"
  kms_key_arn                  = aws_kms_key.this.arn

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_ecs_cluster.this.arn
    role_arn = aws_iam_role.scheduler[0].arn

    ecs_parameters {
      task_definition_arn = aws_ecs_task_definition.reconcile.arn
      launch_type         = "FARGATE"
      platform_version    = "LATEST"
      propagate_tags      = "TASK_DEFINITION"

      network_configuration {
        subnets          = local.private_subnet_ids
        security_groups  = [aws_security_group.worker.id]
        assign_public_ip = false
      }
    }

    retry_policy {
      maximum_event_age_in_seconds = 3600
      maximum_retry_attempts       = 3
    }
  }
}
