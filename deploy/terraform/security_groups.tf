# Who reaches whom: load balancer -> workers -> database; workers -> outside by HTTPS. Nothing else.
resource "aws_security_group" "worker" {
  name        = "${var.name}-worker"
  description = "settler's tasks"
  vpc_id      = local.vpc_id
  tags        = merge(local.tags, { Name = "${var.name}-worker" })
}

resource "aws_vpc_security_group_ingress_rule" "worker_api" {
  count = var.load_balancer == null ? 0 : 1

  security_group_id            = aws_security_group.worker.id
  description                  = "API and pages, from the load balancer"
  referenced_security_group_id = aws_security_group.load_balancer[0].id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
  tags                         = local.tags
}

resource "aws_vpc_security_group_egress_rule" "worker_database" {
  security_group_id            = aws_security_group.worker.id
  description                  = "PostgreSQL"
  referenced_security_group_id = aws_security_group.database.id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
  tags                         = local.tags
}

resource "aws_vpc_security_group_egress_rule" "worker_outside" {
  for_each = { for port in var.egress_ports : tostring(port) => port }

  security_group_id = aws_security_group.worker.id
  description       = "RPC providers, webhook receivers and AWS"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
  tags              = local.tags
}

resource "aws_security_group" "database" {
  name        = "${var.name}-database"
  description = "settler's database"
  vpc_id      = local.vpc_id
  tags        = merge(local.tags, { Name = "${var.name}-database" })
}

resource "aws_vpc_security_group_ingress_rule" "database" {
  security_group_id            = aws_security_group.database.id
  description                  = "PostgreSQL, from settler's tasks"
  referenced_security_group_id = aws_security_group.worker.id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
  tags                         = local.tags
}

resource "aws_security_group" "load_balancer" {
  count = var.load_balancer == null ? 0 : 1

  name        = "${var.name}-load-balancer"
  description = "settler's load balancer"
  vpc_id      = local.vpc_id
  tags        = merge(local.tags, { Name = "${var.name}-load-balancer" })
}

resource "aws_vpc_security_group_ingress_rule" "load_balancer" {
  for_each = try(var.load_balancer.allowed_cidrs, [])

  security_group_id = aws_security_group.load_balancer[0].id
  description       = "HTTPS, from who is allowed"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  tags              = local.tags
}

resource "aws_vpc_security_group_egress_rule" "load_balancer" {
  count = var.load_balancer == null ? 0 : 1

  security_group_id            = aws_security_group.load_balancer[0].id
  description                  = "to the workers"
  referenced_security_group_id = aws_security_group.worker.id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
  tags                         = local.tags
}
