# What runs as a container, and how. The configuration comes from variables alone: the file is /dev/null.
locals {
  environment = concat(
    [
      { name = "SETTLER__API__LISTEN", value = "0.0.0.0:${local.port}" },
      { name = "SETTLER__RUNTIME__DRAIN_TIMEOUT_S", value = tostring(var.drain_timeout_s) },
      { name = "SETTLER__RUNTIME__LOG_FORMAT", value = "json" },
    ],
    # The load balancer's addresses, whose X-Forwarded-For says who calls: else all callers would count as one.
    var.load_balancer == null || contains(keys(var.settings), "api.trusted_proxies") ? [] : [
      { name = "SETTLER__API__TRUSTED_PROXIES", value = jsonencode(local.private_cidrs) },
    ],
    [for key in sort(keys(var.settings)) : { name = local.variable_of[key], value = var.settings[key] }],
  )
  secrets = [
    for key in sort(tolist(var.secret_settings)) :
    { name = local.variable_of[key], valueFrom = aws_secretsmanager_secret.setting[key].arn }
  ]
  database_url = {
    for role in local.roles :
    role => { name = "SETTLER__DATABASE__URL", valueFrom = "${aws_secretsmanager_secret.database[role].arn}:url::" }
  }

  # Of every container.
  confined = {
    essential              = true
    readonlyRootFilesystem = true
    user                   = "10001:10001"
    linuxParameters        = { capabilities = { drop = ["ALL"] } }
  }
  logs = {
    for group, made in aws_cloudwatch_log_group.this : group => {
      logDriver = "awslogs"
      options = {
        awslogs-group         = made.name
        awslogs-region        = local.region
        awslogs-stream-prefix = "settler"
        # A log that cannot be written must not stop the money: lines are dropped beyond this buffer.
        mode            = "non-blocking"
        max-buffer-size = "16m"
      }
    }
  }

  settler = merge(local.confined, {
    name        = "settler"
    image       = var.image
    command     = ["run", "-c", "/dev/null"]
    environment = local.environment
    secrets     = concat([local.database_url["settler"]], local.secrets)
  })
}

resource "aws_ecs_task_definition" "worker" {
  family                   = "${var.name}-worker"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.task_cpu
  memory                   = var.task_memory
  execution_role_arn       = aws_iam_role.execution["worker"].arn
  task_role_arn            = aws_iam_role.worker.arn
  tags                     = local.tags

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  container_definitions = jsonencode([
    merge(local.settler, {
      portMappings     = [{ containerPort = local.port, protocol = "tcp" }]
      logConfiguration = local.logs["worker"]
      # SIGTERM, then this long until SIGKILL: the drain, and a margin.
      stopTimeout = var.drain_timeout_s + 20
      ulimits     = [{ name = "nofile", softLimit = 65536, hardLimit = 65536 }]
      # The image's own check; ECS does not read it from there.
      healthCheck = {
        command     = ["CMD", "python", "-I", "-S", "/opt/healthcheck.py"]
        interval    = 10
        timeout     = 5
        retries     = 3
        startPeriod = 120
      }
    }),
    merge(local.confined, {
      name  = "collector"
      image = var.collector_image
      # Without metrics there are alerts, without settler there is no money: the one does not stop the other.
      essential        = false
      restartPolicy    = { enabled = true, restartAttemptPeriod = 60 }
      memory           = 256
      environment      = [{ name = "AOT_CONFIG_CONTENT", value = yamlencode(local.collector) }]
      logConfiguration = local.logs["collector"]
    }),
  ])
}

resource "aws_ecs_task_definition" "migrate" {
  # checkov:skip=CKV_AWS_249: it has no task role: it calls nothing of AWS
  family                   = "${var.name}-migrate"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 512
  memory                   = 1024
  execution_role_arn       = aws_iam_role.execution["migrate"].arn
  tags                     = local.tags

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  container_definitions = jsonencode([
    merge(local.settler, {
      image            = coalesce(var.migration_image, var.image)
      command          = ["migrate", "-c", "/dev/null"]
      secrets          = concat([local.database_url["settler_migrator"]], local.secrets)
      logConfiguration = local.logs["migrate"]
    }),
  ])
}

resource "aws_ecs_task_definition" "reconcile" {
  family                   = "${var.name}-reconcile"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 512
  memory                   = 1024
  execution_role_arn       = aws_iam_role.execution["reconcile"].arn
  tags                     = local.tags

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  container_definitions = jsonencode([
    merge(local.settler, {
      command          = ["reconcile", "-c", "/dev/null"]
      logConfiguration = local.logs["reconcile"]
    }),
  ])
}

# Waits an hour for `aws ecs execute-command`: API keys, suspense, holds, without a way into a worker, and with what is
# printed (an API key is shown once) in the operator's terminal and in no log.
resource "aws_ecs_task_definition" "operator" {
  # checkov:skip=CKV_AWS_336: ECS Exec writes its agent's files into the container; nothing else runs in this one
  family                   = "${var.name}-operator"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 512
  memory                   = 1024
  execution_role_arn       = aws_iam_role.execution["operator"].arn
  task_role_arn            = aws_iam_role.operator.arn
  tags                     = local.tags

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  container_definitions = jsonencode([
    merge(local.settler, {
      entryPoint             = ["python", "-c"]
      command                = ["import time; time.sleep(3600)"]
      readonlyRootFilesystem = false
      linuxParameters        = { initProcessEnabled = true }
      logConfiguration       = local.logs["operator"]
    }),
  ])
}

# Once, after the first apply: makes the roles of deploy/postgres/roles.sql and gives them their passwords.
resource "aws_ecs_task_definition" "bootstrap" {
  # checkov:skip=CKV_AWS_249: it has no task role: it calls nothing of AWS
  family                   = "${var.name}-bootstrap"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 512
  execution_role_arn       = aws_iam_role.execution["bootstrap"].arn
  tags                     = local.tags

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  container_definitions = jsonencode([
    merge(local.confined, {
      name       = "bootstrap"
      image      = var.bootstrap_image
      entryPoint = ["sh", "-euc"]
      command    = [file("${path.module}/bootstrap.sh")]
      environment = [
        { name = "PGHOST", value = aws_db_instance.this.address },
        { name = "PGPORT", value = tostring(aws_db_instance.this.port) },
        { name = "PGDATABASE", value = aws_db_instance.this.db_name },
        { name = "PGSSLMODE", value = "require" },
        { name = "ROLES_SQL", value = file("${path.module}/../postgres/roles.sql") },
      ]
      secrets = concat(
        flatten([
          for secret in aws_db_instance.this.master_user_secret : [
            { name = "PGUSER", valueFrom = "${secret.secret_arn}:username::" },
            { name = "PGPASSWORD", valueFrom = "${secret.secret_arn}:password::" },
          ]
        ]),
        [
          { name = "SETTLER_PASSWORD", valueFrom = "${aws_secretsmanager_secret.database["settler"].arn}:password::" },
          { name = "MIGRATOR_PASSWORD", valueFrom = "${aws_secretsmanager_secret.database["settler_migrator"].arn}:password::" },
        ],
      )
      logConfiguration = local.logs["bootstrap"]
    }),
  ])
}
