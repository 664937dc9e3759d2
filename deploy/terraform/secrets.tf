# Passwords of the database's two roles are made here and never stored by Terraform: ephemeral values, written once. What
# settler reads and only you have (RPC URLs) gets a secret without a value.
ephemeral "aws_secretsmanager_random_password" "database" {
  for_each = local.roles

  password_length     = 40
  exclude_punctuation = true
}

locals {
  # The daemon's role, and the one that owns the tables (deploy/postgres/roles.sql).
  roles = toset(["settler", "settler_migrator"])
}

resource "aws_secretsmanager_secret" "database" {
  # checkov:skip=CKV2_AWS_57: the daemon reads its URL at the start only; docs/aws.md has the steps of a change
  for_each = local.roles

  name                    = "${var.name}/database/${each.key}"
  description             = "Password and URL of the role ${each.key}"
  kms_key_id              = aws_kms_key.this.arn
  recovery_window_in_days = 30
  tags                    = local.tags
}

resource "aws_secretsmanager_secret_version" "database" {
  for_each = local.roles

  secret_id = aws_secretsmanager_secret.database[each.key].id
  secret_string_wo = jsonencode({
    password = ephemeral.aws_secretsmanager_random_password.database[each.key].random_password
    url = format(
      "postgresql://%s:%s@%s:%d/%s?%s",
      each.key,
      ephemeral.aws_secretsmanager_random_password.database[each.key].random_password,
      aws_db_instance.this.address,
      aws_db_instance.this.port,
      aws_db_instance.this.db_name,
      var.database.url_options,
    )
  })
  # A higher number writes new passwords; the bootstrap task then has to give them to the roles.
  secret_string_wo_version = 1
}

resource "aws_secretsmanager_secret" "setting" {
  # checkov:skip=CKV2_AWS_57: keys of RPC providers are changed at the provider, and put here
  for_each = var.secret_settings

  name                    = "${var.name}/${each.key}"
  description             = "The setting ${each.key}"
  kms_key_id              = aws_kms_key.this.arn
  recovery_window_in_days = 30
  tags                    = local.tags
}
