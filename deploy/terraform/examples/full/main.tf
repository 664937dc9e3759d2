# What else there is: a VPC that is there already, two chains, deposits, backups in a second region, Grafana, mails.
terraform {
  required_version = ">= 1.11.0, < 2.0.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.60.0, < 7.0.0"
    }
  }
}

provider "aws" {
  region = "eu-central-1"
}

variable "image" {
  description = "The image with its digest."
  type        = string
}

variable "next_image" {
  description = "During an upgrade: the image whose tables are made before its workers run. Null otherwise."
  type        = string
  default     = null
}

module "settler" {
  source = "../.."

  name               = "payments"
  image              = var.image
  migration_image    = var.next_image
  ecr_repository_arn = "arn:aws:ecr:eu-central-1:123456789012:repository/settler"
  cpu_architecture   = "ARM64"
  workers            = 3
  drain_timeout_s    = 60

  settings = {
    "api.rate_limit_rps"                    = "1000"
    "invoices.late"                         = "hold"
    "chains.base.tokens"                    = jsonencode(["USDC"])
    "chains.base.tiers"                     = "[{ up_to = \"50\", finality = 2 }]"
    "chains.ethereum.tokens"                = jsonencode(["USDC", "USDT"])
    "chains.ethereum.sanctions_oracle"      = "chainalysis"
    "chains.base.token.ACME.address"        = "0x52908400098527886E0F7030069857D2E4169EE7"
    "chains.base.token.ACME.decimals"       = "6"
    "chains.ethereum.token.USDC.price_feed" = "0x8fFfFfd4AfB6115b954Bd326cbe7B4BA576818f6"
    "chains.ethereum.rpc_max_in_flight"     = "16"
    "webhooks.allow_private_addresses"      = "false"
    "invoices.underpayment_tolerance_bps"   = "10"
    "invoices.underpayment_tolerance_max"   = "0.05"
  }
  secret_settings = ["chains.base.rpc", "chains.ethereum.rpc", "deposits.xpub"]

  network = {
    vpc_id             = "vpc-0123456789abcdef0"
    private_subnet_ids = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
  }
  load_balancer = {
    certificate_arn   = "arn:aws:acm:eu-central-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef"
    allowed_cidrs     = ["10.20.0.0/16"]
    paths             = ["/v1/*", "/pay/*", "/static/*", "/docs*", "/openapi.json"]
    access_log_bucket = "example-load-balancer-logs"
    waf_rate_limit    = 20000
  }
  database = {
    instance_class  = "db.m7g.xlarge"
    storage_gib     = 200
    storage_max_gib = 2000
    backup_days     = 35
    backup_region   = "eu-west-1"
  }
  egress_ports = [443, 8443]
  alarm_emails = ["oncall@example.com"]
  grafana      = true
  tags         = { team = "payments" }
}
