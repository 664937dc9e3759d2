# settler on AWS: ECS Fargate, RDS for PostgreSQL, Secrets Manager, Amazon Managed Prometheus. docs/aws.md has the steps,
# and says what was checked by which tool. A module: examples/minimal calls it.
terraform {
  # 1.11: write-only arguments, so that no password stands in the state.
  required_version = ">= 1.11.0, < 2.0.0"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # Names and types were checked against those of 6.66.0. 6.0: a resource can name its region.
      version = ">= 6.60.0, < 7.0.0"
    }
  }
}
