# Internal: what faces the internet is put before it by whoever owns that edge.
resource "aws_lb" "this" {
  # checkov:skip=CKV_AWS_91: logged where load_balancer.access_log_bucket is given
  # checkov:skip=CKV2_AWS_28: a web ACL is made and associated unless load_balancer.waf is false
  count = var.load_balancer == null ? 0 : 1

  name                       = var.name
  internal                   = true
  load_balancer_type         = "application"
  security_groups            = [aws_security_group.load_balancer[0].id]
  subnets                    = local.private_subnet_ids
  drop_invalid_header_fields = true
  enable_deletion_protection = true
  # Streams of payment pages send something every 15 s.
  idle_timeout = 120
  tags         = local.tags

  dynamic "access_logs" {
    for_each = var.load_balancer.access_log_bucket == null ? [] : [var.load_balancer.access_log_bucket]
    content {
      bucket  = access_logs.value
      prefix  = var.name
      enabled = true
    }
  }
}

resource "aws_lb_target_group" "this" {
  # checkov:skip=CKV_AWS_378: TLS ends at the load balancer; behind it the security groups let nobody else in
  count = var.load_balancer == null ? 0 : 1

  name                 = var.name
  vpc_id               = local.vpc_id
  target_type          = "ip"
  protocol             = "HTTP"
  port                 = local.port
  deregistration_delay = 30
  tags                 = local.tags

  # Not /readyz: that is 503 on every worker while one chain is halted or lags, and the API of all others would be gone.
  health_check {
    path                = "/livez"
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }
}

resource "aws_lb_listener" "this" {
  count = var.load_balancer == null ? 0 : 1

  load_balancer_arn = aws_lb.this[0].arn
  protocol          = "HTTPS"
  port              = 443
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.load_balancer.certificate_arn
  tags              = local.tags

  # /metrics, /ops and what else is not listed.
  default_action {
    type = "fixed-response"
    fixed_response {
      content_type = "text/plain"
      message_body = "not here"
      status_code  = "404"
    }
  }
}

resource "aws_lb_listener_rule" "this" {
  count = var.load_balancer == null ? 0 : 1

  listener_arn = aws_lb_listener.this[0].arn
  priority     = 10
  tags         = local.tags

  condition {
    path_pattern {
      values = var.load_balancer.paths
    }
  }
  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this[0].arn
  }
}

locals {
  has_waf = try(var.load_balancer.waf, false)
}

resource "aws_wafv2_web_acl" "this" {
  count = local.has_waf ? 1 : 0

  name        = var.name
  description = "settler's API and pages"
  scope       = "REGIONAL"
  tags        = local.tags

  default_action {
    allow {}
  }

  dynamic "rule" {
    for_each = ["AWSManagedRulesAmazonIpReputationList", "AWSManagedRulesCommonRuleSet", "AWSManagedRulesKnownBadInputsRuleSet"]
    content {
      name     = rule.value
      priority = rule.key
      override_action {
        none {}
      }
      statement {
        managed_rule_group_statement {
          vendor_name = "AWS"
          name        = rule.value
        }
      }
      visibility_config {
        cloudwatch_metrics_enabled = true
        metric_name                = rule.value
        sampled_requests_enabled   = false
      }
    }
  }

  rule {
    name     = "rate"
    priority = 10
    action {
      block {}
    }
    statement {
      rate_based_statement {
        # Requests of one address in five minutes.
        limit              = var.load_balancer.waf_rate_limit
        aggregate_key_type = "IP"
      }
    }
    visibility_config {
      cloudwatch_metrics_enabled = true
      metric_name                = "rate"
      sampled_requests_enabled   = false
    }
  }

  visibility_config {
    cloudwatch_metrics_enabled = true
    metric_name                = var.name
    # Samples would show API keys and payers' links in the console.
    sampled_requests_enabled = false
  }
}

resource "aws_wafv2_web_acl_association" "this" {
  count = local.has_waf ? 1 : 0

  resource_arn = aws_lb.this[0].arn
  web_acl_arn  = aws_wafv2_web_acl.this[0].arn
}

resource "aws_cloudwatch_log_group" "waf" {
  count = local.has_waf ? 1 : 0

  # The beginning of the name is what WAF asks for.
  name              = "aws-waf-logs-${var.name}"
  retention_in_days = var.log_days
  kms_key_id        = aws_kms_key.this.arn
  tags              = local.tags
}

resource "aws_wafv2_web_acl_logging_configuration" "this" {
  count = local.has_waf ? 1 : 0

  resource_arn            = aws_wafv2_web_acl.this[0].arn
  log_destination_configs = [aws_cloudwatch_log_group.waf[0].arn]

  redacted_fields {
    single_header {
      name = "authorization"
    }
  }
  redacted_fields {
    single_header {
      name = "cookie"
    }
  }
}
