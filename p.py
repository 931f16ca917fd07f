import time, random, sys
from datetime import date, timedelta, datetime, UTC
import numpy as np
from python_services.kit.facts import *
from python_services.kit import facts_table
from python_services.market_data.facts import CompanyFacts as MF
from python_services.market_data.universe import Splits
from python_services.fundamental_agent.view import *
from python_services.fundamental_agent.agents import agents
from python_services.fundamental_agent.agents.dcf import Assumptions
from python_services.kit.agents import Window, forecast
base=[f for f in read(Path("python_services/market_data/bundled/sec_facts.csv.gz"))._versions["NVDA"].items()]
src=[x for (k,series) in base for vs in series.values() for x in vs]
print("facts of NVDA",len(src))
rng=np.random.default_rng(1)
ids=tuple(f"S{i:03d}" for i in range(500))
fs=[]
for n,i in enumerate(ids):
    sh=int(rng.integers(0,90))*86_400*10**9
    fs+= [f._replace(instrument_id=i, value=int(f.value*(1+0.3*rng.random())), known_at_ns=f.known_at_ns+sh) for f in src if date(2012,1,1)<=f.end<date(2017,1,1)]
print("facts",len(fs))
t=time.time(); mf=MF(fs); print("load",time.time()-t)
none=Splits(close_ns=np.empty(0,np.int64),row=np.empty(0,np.int64),ratio=np.empty(0))
asof=visible_from_ns(date(2016,6,1))
def tm(f,n=20):
    xs=[]
    for _ in range(n):
        t=time.perf_counter(); r=f(); xs.append(time.perf_counter()-t)
    return f"{sorted(xs)[n//2]*1e3:.3f} ms", r
print("first cut",tm(lambda:mf.cut(ids,asof,none),1)[0]); print("again",tm(lambda:mf.cut(ids,asof,none))[0])
d=[asof]
def nextday():
    d[0]+=86400*10**9; return mf.cut(ids,d[0],none)
print("cut on a filing day",tm(nextday,8)[0])
c=mf.cut(ids,asof,none); print("bytes",len(c.content))
dec,table=tm(lambda:facts_table.decode(c.content,c.sha256,ids),5); print("decode",dec)
k=Keeper(); print("accounts first",tm(lambda:k.accounts(table,ids),1)[0])
c2=mf.cut(ids,asof+86400*10**9,none); t2=facts_table.decode(c2.content,c2.sha256,ids)
print("accounts next",tm(lambda:k.accounts(t2,ids),1)[0]); print("accounts cached",tm(lambda:k.accounts(t2,ids))[0])
bars=126; path=100*np.exp(np.cumsum(rng.normal(0,.02,(bars,500)),axis=0)); times=asof-np.arange(bars)[::-1]*86400*10**9
A=agents(Assumptions())
def cycle(acc):
    w=Window(int(times[-1]),times,path,path*1.01,path*.99,path,np.full_like(path,1e6))
    v=Fundamentals(w,acc,path[-1])
    return [forecast(a,w,v) for a in A]
acc=k.accounts(table,ids); s,r=tm(lambda:cycle(acc)); print("cycle",s,[(f.agent_id,len(f.index)) for f in r])
from python_services.kit.agents.cluster import _message
print("messages",tm(lambda:[_message(f) for f in r])[0])
w=Window(int(times[-1]),times,path,path*1.01,path*.99,path,np.full_like(path,1e6)); print("ewma",tm(lambda:Window(int(times[-1]),times,path,path*1.01,path*.99,path,path).daily_volatility)[0])
acc0=Accounts((None,)*500); s,r0=tm(lambda:cycle(acc0)); print("cycle nothing filed",s, tm(lambda:[_message(f) for f in r0])[0])
import cProfile,pstats
pr=cProfile.Profile(); pr.enable()
for _ in range(20): cycle(acc)
pr.disable(); pstats.Stats(pr).sort_stats("tottime").print_stats(12)
pr=cProfile.Profile(); pr.enable()
for _ in range(8): nextday()
pr.disable(); pstats.Stats(pr).sort_stats("tottime").print_stats(12)
