import time
import sqlalchemy as sa
from tests.api.conftest import *
from tests.api.ops_browser import Browser
from tests.api.ops_world import full_shop
from settler.storage import schema
async def test_x(api):
    shop=await full_shop(api.db)
    b=Browser(api.client); await b.log_in(api.key)
    t=schema.transfers
    async with api.db.read() as conn:
        row=dict((await conn.execute(sa.select(t).where(t.c.id==shop.money.id))).one()._mapping)
    async with api.db.write() as conn:
        for k in range(20):
            await conn.execute(sa.insert(t), [{**row, "id": f"trf_{k*10000+i:026d}", "ordinal": 1+k*10000+i, "log_index": 1000+k*10000+i} for i in range(10000)])
    for path in ("/ops","/ops/suspense","/ops/suspense?reason=late","/ops/suspense?reason=no_invoice&chain=base", f"/ops/transfers/{shop.money.id}", "/ops/invoices"):
        t0=time.perf_counter(); await b.open(path); t1=time.perf_counter(); await b.open(path); print("TIME", path, round(t1-t0,3), round(time.perf_counter()-t1,3))
