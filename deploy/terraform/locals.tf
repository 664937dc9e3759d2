data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  account   = data.aws_caller_identity.this.account_id
  partition = data.aws_partition.this.partition
  region    = data.aws_region.this.region
  tags      = merge({ application = "settler", installation = var.name }, var.tags)
  port      = 8080

  # chains.base.rpc -> SETTLER__CHAINS__BASE__RPC; the symbol in chains.base.token.USDbC.address stays as it is written.
  variable_of = {
    for key in concat(keys(var.settings), tolist(var.secret_settings)) :
    key => join("__", concat(["SETTLER"], [
      for index, part in split(".", key) : index == 3 && split(".", key)[2] == "token" ? part : upper(part)
    ]))
  }
}
