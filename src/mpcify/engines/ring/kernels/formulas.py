import numpy as np, math
def up(x,k): return x<<k if k<64 else np.zeros_like(x)
def ut(c,T,K):
    k=K-T
    return ((c>>T)&((1<<k)-1) if k<64 else c>>T)-(1<<(k-2)), 1-((c>>(K-1))&1)
def lift(c,T,K,m,first):
    u,t=ut(c,T,K); out=up(t*m,K-T)
    return out+u if first else out
def square(c,T,K,h,m,hm,first):
    u,t=ut(c,T,K); k=K-T
    out=-2*u*h+up(t*(m*(2*u+((1<<k) if k<63 else 0))-2*hm),k)
    return out+u*u if first else out
def times(c,T,K,h,m,d,S,L,g,w,hw,mg,mw,first):
    u,t=ut(c,T,K); v,s=ut(d,S,L); v,s,g,w=(x[:,None] for x in (v,s,g,w)); k=K-T; l=L-S
    out=-u*g-v*h+up(t*(v*m-mg),k)+up(s*(u*w-hw),l)+up(t*s*mw,k+l)
    return out+u*v if first else out
def fresh(c,T,K,m,a):
    _,t=ut(c,T,K); return t*m-a
def halves(r,T,K):
    return ((r&((1<<K)-1))>>T if K<64 else (r.view(np.uint64)>>np.uint64(T)).view(np.int64)), (r>>(K-1))&1
PL={1:(1,),2:(2,),3:(2,1),4:(4,),5:(4,1),6:(4,2),7:(4,2,1),8:(8,)}
def packed_size(count,bits): return count*math.ceil(bits/8)
def pack(x,bits):
    out=[];at=0
    for w in PL[math.ceil(bits/8)]:
        out.append((x>>at).astype(f"<u{w}").tobytes()); at+=8*w
    return b"".join(out)
def unpack(data,count,bits):
    o=np.zeros(count,np.int64); at=0; pos=0
    for w in PL[math.ceil(bits/8)]:
        o|=np.frombuffer(data,f"<u{w}",count,pos).astype(np.int64)<<at; at+=8*w; pos+=w*count
    return o
def shifted(x,k): return up(x,k)
