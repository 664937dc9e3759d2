# The least that runs: a VPC of its own, USDC on Base, two workers, an internal load balancer.
terraform {
  required_version = ">= 1.11.0, < 2.0.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.60.0, < 7.0.0"
    }
  }
  # Put the state where others find it and nobody reads it: an S3 bucket with versions, encryption and a lock.
}

variable "region" {
  description = "AWS region."
  type        = string
  default     = "eu-central-1"
}

variable "image" {
  description = "The image with its digest."
  type        = string
}

variable "ecr_repository_arn" {
  description = "The repository it is in."
  type        = string
}

variable "certificate_arn" {
  description = "Certificate of the API's name, in ACM."
  type        = string
}

variable "workers" {
  description = "0 for the first steps, then 2."
  type        = number
  default     = 2
}

provider "aws" {
  region = var.region
}

module "settler" {
  source = "../.."

  image              = var.image
  ecr_repository_arn = var.ecr_repository_arn
  workers            = var.workers
  zones              = ["${var.region}a", "${var.region}b"]

  settings = {
    "chains.base.finality" = "finalized"
    "chains.base.tokens"   = jsonencode(["USDC"])
  }
  secret_settings = ["chains.base.rpc"]

  load_balancer = {
    certificate_arn = var.certificate_arn
    allowed_cidrs   = ["10.0.0.0/8"]
  }
}

output "settler" {
  description = "What the next steps ask for."
  value       = module.settler
}
