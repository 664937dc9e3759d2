output "cluster" {
  description = "Name of the ECS cluster."
  value       = aws_ecs_cluster.this.name
}

output "service" {
  description = "Name of the ECS service of the workers."
  value       = aws_ecs_service.this.name
}

output "tasks" {
  description = "Task definitions to run by hand: bootstrap (once), migrate (before each upgrade), reconcile, operator (a shell)."
  value = {
    bootstrap = aws_ecs_task_definition.bootstrap.arn
    migrate   = aws_ecs_task_definition.migrate.arn
    reconcile = aws_ecs_task_definition.reconcile.arn
    operator  = aws_ecs_task_definition.operator.arn
  }
}

output "network_configuration" {
  description = "For `aws ecs run-task --network-configuration`."
  value = jsonencode({
    awsvpcConfiguration = {
      subnets        = local.private_subnet_ids
      securityGroups = [aws_security_group.worker.id]
      assignPublicIp = "DISABLED"
    }
  })
}

output "secrets" {
  description = "Secrets that wait for a value of yours, by setting."
  value       = { for key, secret in aws_secretsmanager_secret.setting : key => secret.name }
}

output "database_address" {
  description = "Host of the database, inside the VPC."
  value       = aws_db_instance.this.address
}

output "load_balancer" {
  description = "DNS name and zone of the load balancer, for an alias record; null without one."
  value       = one([for balancer in aws_lb.this : { dns_name = balancer.dns_name, zone_id = balancer.zone_id }])
}

output "worker_security_group_id" {
  description = "Security group of the workers."
  value       = aws_security_group.worker.id
}

output "prometheus_endpoint" {
  description = "Where Grafana, or promtool, asks the metrics."
  value       = aws_prometheus_workspace.this.prometheus_endpoint
}

output "grafana_endpoint" {
  description = "Address of the Grafana workspace; null without one."
  value       = one(aws_grafana_workspace.this[*].endpoint)
}

output "alarm_topic_arn" {
  description = "Topic of alerts and alarms: subscribe what pages people."
  value       = aws_sns_topic.alarms.arn
}
