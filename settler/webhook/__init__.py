"""Outgoing webhooks: how one is signed (`sign`, pure), whom we may call (`guard`, pure), how it is sent
(`send`), and over which connections (`network`).

What does not belong here: which event goes where and when it is tried again (`settler.domain.delivery`), and
the table of deliveries (`settler.storage.webhooks`).
"""
