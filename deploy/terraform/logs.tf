resource "aws_cloudwatch_log_group" "this" {
  for_each = toset(["worker", "collector", "migrate", "reconcile", "operator", "bootstrap"])

  name              = "/${var.name}/${each.key}"
  retention_in_days = var.log_days
  kms_key_id        = aws_kms_key.this.arn
  tags              = local.tags
}
