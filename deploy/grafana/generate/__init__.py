"""Writes the Grafana dashboards: typed Python in, the JSON of `deploy/grafana/dashboards` out.

    python -m deploy.grafana.generate [--runbook URL]

queries    PromQL that more than one panel uses, and how workers are aggregated
panels     the kinds of panel: a graph, a number, bars, a table
frame      what every dashboard has: variables, annotations, links
overview   is money flowing?
chains     chains and RPC providers
webhooks   webhooks, the database and the workers

The JSON is committed, so that nobody needs this to deploy it; a test keeps both equal. What does not belong here:
deciding what is an alarm (deploy/prometheus). Colours change where a look is worth it.
"""
