variable "name" {
  description = "Prefix of everything that is made. Two installations of one account and region need two."
  type        = string
  default     = "settler"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "Use 3 to 20 of a-z, 0-9 and -, beginning with a letter: load balancers and roles have short names."
  }
}

variable "tags" {
  description = "Tags of everything that can have tags."
  type        = map(string)
  default     = {}
}

# -- what runs ---------------------------------------------------------------------------------------------------------

variable "image" {
  description = "The image that the workers run, by digest: what was tested is then what runs, at each start of a task."
  type        = string

  validation {
    condition     = can(regex("^[^@\\s]+@sha256:[0-9a-f]{64}$", var.image))
    error_message = "Give the image with its digest, like 123456789012.dkr.ecr.eu-central-1.amazonaws.com/settler@sha256:…"
  }
}

variable "migration_image" {
  description = "The image that `settler migrate` runs. Null: the workers'. An upgrade gives the new one here first (docs/aws.md)."
  type        = string
  default     = null

  validation {
    condition     = var.migration_image == null || can(regex("^[^@\\s]+@sha256:[0-9a-f]{64}$", var.migration_image))
    error_message = "Give the image with its digest."
  }
}

variable "ecr_repository_arn" {
  description = "ARN of the ECR repository that holds the images: the only one that tasks may pull from."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:ecr:[a-z0-9-]+:[0-9]{12}:repository/.+$", var.ecr_repository_arn))
    error_message = "Give the ARN of an ECR repository."
  }
}

variable "cpu_architecture" {
  description = "What the image was built for."
  type        = string
  default     = "X86_64"

  validation {
    condition     = contains(["X86_64", "ARM64"], var.cpu_architecture)
    error_message = "X86_64 or ARM64."
  }
}

variable "workers" {
  description = "Tasks of the service. 0: nothing runs, for the first steps of an installation. 2 outlive one zone."
  type        = number
  default     = 2

  validation {
    condition     = var.workers >= 0 && var.workers <= 20 && floor(var.workers) == var.workers
    error_message = "0 to 20."
  }
}

variable "task_cpu" {
  description = "CPU units of a worker's task, the metrics' sidecar included."
  type        = number
  default     = 1024

  validation {
    condition     = contains([512, 1024, 2048, 4096], var.task_cpu)
    error_message = "512, 1024, 2048 or 4096."
  }
}

variable "task_memory" {
  description = "MiB of a worker's task, the metrics' sidecar included."
  type        = number
  default     = 2048

  validation {
    condition     = var.task_memory >= 1024 && var.task_memory <= 30720 && var.task_memory % 1024 == 0
    error_message = "1024 to 30720, in steps of 1024."
  }
}

variable "settings" {
  description = <<-EOT
    Settings of settler by their names in settler.toml (docs/configuration.md), none of them secret, as text: lists and
    tables are written as in TOML, e.g. { "chains.base.tokens" = "[\"USDC\"]", "invoices.late" = "accept" }.
  EOT
  type        = map(string)

  validation {
    condition     = length(var.settings) > 0 && alltrue([for key in keys(var.settings) : can(regex("^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)+$", key))])
    error_message = "Each key is a table and a name, like chains.base.tokens; at least one chain has to be configured."
  }
  validation {
    condition     = length(setintersection(keys(var.settings), ["database.url", "api.listen", "runtime.worker", "runtime.drain_timeout_s", "runtime.log_format", "deposits.xpub"])) == 0 && length([for key in keys(var.settings) : key if endswith(key, ".rpc")]) == 0
    error_message = "The module sets database.url, api.listen and runtime.* itself; RPC URLs and xpub belong into secret_settings."
  }
}

variable "secret_settings" {
  description = <<-EOT
    Names of the settings that are secret, e.g. ["chains.base.rpc", "deposits.xpub"]. For each a secret is made, without
    a value: put it there with `aws secretsmanager put-secret-value`, so that no state has it.
  EOT
  type        = set(string)

  validation {
    condition     = length([for key in var.secret_settings : key if endswith(key, ".rpc")]) > 0
    error_message = "RPC URLs hold the provider's key: name chains.….rpc of each chain."
  }
  validation {
    condition     = !contains(var.secret_settings, "database.url")
    error_message = "The module makes database.url itself."
  }
}

variable "drain_timeout_s" {
  description = "Seconds a stop waits for ticks and requests under way. ECS kills a task 20 s after that, and 120 s at the latest."
  type        = number
  default     = 30

  validation {
    condition     = var.drain_timeout_s >= 1 && var.drain_timeout_s <= 100
    error_message = "1 to 100: Fargate waits for 120 s at most."
  }
}

variable "reconcile_schedule" {
  description = "When `settler reconcile` runs, as EventBridge Scheduler writes it, in UTC. Null: never."
  type        = string
  default     = "cron(17 3 * * ? *)"
}

# -- the network -------------------------------------------------------------------------------------------------------

variable "network" {
  description = "A VPC that is there already: its id, and private subnets in two zones or more with a way out (NAT). Null: one is made."
  type = object({
    vpc_id             = string
    private_subnet_ids = list(string)
  })
  default = null

  validation {
    condition     = var.network == null || try(length(var.network.private_subnet_ids) >= 2, false)
    error_message = "Give two private subnets at least, in two zones."
  }
}

variable "vpc_cidr" {
  description = "Addresses of the VPC that is made where `network` is null."
  type        = string
  default     = "10.40.0.0/16"

  validation {
    condition     = can(cidrhost(var.vpc_cidr, 0)) && try(tonumber(split("/", var.vpc_cidr)[1]), 99) <= 20
    error_message = "Give an IPv4 network of /20 or larger."
  }
}

variable "zones" {
  description = "Availability zones that the VPC spreads over, by name, each with a NAT gateway of its own: one that fails takes no other along."
  type        = list(string)
  default     = []

  validation {
    condition     = var.network != null || contains([2, 3], length(var.zones))
    error_message = "Name two or three zones, like [\"eu-central-1a\", \"eu-central-1b\"], or give a network."
  }
  validation {
    condition     = length(var.zones) == length(distinct(var.zones))
    error_message = "Each zone once."
  }
}

variable "egress_ports" {
  description = "TCP ports outside that the workers may reach: RPC providers and webhook receivers."
  type        = set(number)
  default     = [443]
}

# -- the API -----------------------------------------------------------------------------------------------------------

variable "load_balancer" {
  description = <<-EOT
    The internal load balancer. Null: none is made, and the API is reached inside the VPC only by what is allowed to.
    certificate_arn: of ACM. allowed_cidrs: who may reach it. paths: what of settler is shown; /metrics and /ops are not.
    access_log_bucket: an S3 bucket that takes the logs of load balancers. waf: AWS' managed rules and a limit per address.
  EOT
  type = object({
    certificate_arn   = string
    allowed_cidrs     = set(string)
    paths             = optional(list(string), ["/v1/*", "/pay/*", "/static/*"])
    access_log_bucket = optional(string)
    waf               = optional(bool, true)
    waf_rate_limit    = optional(number, 6000)
  })
  default = null

  validation {
    condition     = var.load_balancer == null || try(length(var.load_balancer.paths) <= 5, false)
    error_message = "A rule of a load balancer takes five paths at most."
  }
  validation {
    condition     = var.load_balancer == null || try(alltrue([for cidr in var.load_balancer.allowed_cidrs : can(cidrhost(cidr, 0))]), false)
    error_message = "allowed_cidrs are networks like 10.0.0.0/8."
  }
}

# -- the database ------------------------------------------------------------------------------------------------------

variable "database" {
  description = <<-EOT
    PostgreSQL on RDS, in two zones. backup_days: how far back a restore to any second can go. backup_region: a second
    region that gets the backups too. url_options: end of the daemon's URL; the image needs RDS' certificates there.
  EOT
  type = object({
    engine_version      = optional(string, "17.6")
    instance_class      = optional(string, "db.m7g.large")
    storage_gib         = optional(number, 100)
    storage_max_gib     = optional(number, 1000)
    backup_days         = optional(number, 14)
    backup_region       = optional(string)
    deletion_protection = optional(bool, true)
    url_options         = optional(string, "sslmode=verify-full&sslrootcert=/etc/ssl/certs/rds.pem")
  })
  default = {}

  validation {
    condition     = var.database.backup_days >= 7 && var.database.backup_days <= 35
    error_message = "backup_days: 7 to 35."
  }
  validation {
    condition     = var.database.storage_gib >= 20 && var.database.storage_max_gib > var.database.storage_gib
    error_message = "storage_gib: 20 or more, and less than storage_max_gib."
  }
  validation {
    condition     = tonumber(split(".", var.database.engine_version)[0]) >= 15
    error_message = "PostgreSQL 15 or newer."
  }
  validation {
    condition     = strcontains(var.database.url_options, "sslmode=")
    error_message = "url_options has to say sslmode; verify-full unless you know better."
  }
}

variable "bootstrap_image" {
  description = "An image with psql, for the task that makes the database's roles, once. By digest where you can."
  type        = string
  default     = "public.ecr.aws/docker/library/postgres:17.6-alpine"
}

# -- looking at it -----------------------------------------------------------------------------------------------------

variable "collector_image" {
  description = "The AWS Distro for OpenTelemetry, which reads /metrics beside each worker and writes to Amazon Managed Prometheus."
  type        = string
  default     = "public.ecr.aws/aws-observability/aws-otel-collector:v0.43.3"
}

variable "log_days" {
  description = "Days that logs are kept."
  type        = number
  default     = 365

  validation {
    condition     = contains([30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_days)
    error_message = "One of CloudWatch's: 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, …"
  }
}

variable "alarm_emails" {
  description = "Who gets alerts and alarms by mail; each has to confirm. Page by another subscription of the topic (output alarm_topic_arn)."
  type        = set(string)
  default     = []
}

variable "grafana" {
  description = "Makes an Amazon Managed Grafana workspace, for people of IAM Identity Center, which has to be set up in the account."
  type        = bool
  default     = false
}
