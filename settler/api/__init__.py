"""The HTTP API under `/v1`, and the probes: what INTERFACE.md promises, over aiohttp.

Promises: every error is `application/problem+json` that names field, value and remedy; bad input is a 4xx and stores
nothing; every answer about several rows is one read transaction, every change one write transaction; a POST with an
`Idempotency-Key` has its effect once; a key bound to a merchant sees that merchant's objects and no others.

What does not belong here: what an invoice may be (`settler.domain.drafting`), what objects look like
(`settler.domain.views`), statements (`settler.storage`).

    app          make_app
    server       serve: the HTTP server under it, and what is no HTTP
    connections  how many there may be, and how slow
    limits       how often a caller may ask; `addresses`: who asks, by IP address
    observed     each request's id and span
    call         one request with its caller and the collaborators; who may call what
    auth         API keys and their scopes
    body         a bounded, strict reading of JSON
    models       what may be sent: bodies and query strings
    invalid      what pydantic found wrong, in our words
    idempotency  one write transaction a POST, and its answer again
    paging       lists and cursors
    errors       RFC 9457, and which exception becomes which
    routes/      the handlers
"""
