import copy
import json

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import networks

import metablocks as mb
from metablocks.core.errors import MetablocksError
from metablocks.nets import assemble

OK=[0,0]
def nodes(node):
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else []
    for key in keys:
        yield node, key
        yield from nodes(node[key])
VALS=[0,1,2,3,4,5,7,8,16,0.5,0.75,"none","half","learned","sincos_2d","pooling","identity","patch_merging","layer_norm","group_norm",{"attention":{"head_dim":2}},{"window_attention":{"window":2,"head_dim":1,"shift":"half"}},{"spatial_mlp":{"layers":1}},["class"],[{"registers":{"count":2}},"class"],True,False,"replace","drop","class","mean",[2,3],[4,6]]
EXTRA=["position","downsample","mixer","norm","layer_scale","prefix","drop_path","unit","dropout","order","init"]
@settings(max_examples=500)
@given(networks, st.data())
def test_adhoc(tree,data):
    tree=copy.deepcopy(tree)
    for _ in range(data.draw(st.integers(1,2))):
        places=list(nodes(tree)); inside,key=data.draw(st.sampled_from(places)); other,key2=data.draw(st.sampled_from(places))
        w=data.draw(st.sampled_from("vvvvsxe"))
        if w=="v": inside[key]=copy.deepcopy(data.draw(st.sampled_from(VALS)))
        elif w=="s": inside[key],other[key2]=copy.deepcopy(other[key2]),copy.deepcopy(inside[key])
        elif w=="e" and isinstance(inside,dict): inside[data.draw(st.sampled_from(EXTRA))]=copy.deepcopy(data.draw(st.sampled_from(VALS)))
        elif w=="x": del inside[key]
    try: plan=mb.plan(json.dumps(tree))
    except MetablocksError: OK[0]+=1; return
    OK[1]+=1
    with torch.device("meta"): model=assemble(plan)
    model.to("meta").train()
    s=plan.encoder.stem
    out=model(torch.empty(2,s.channels,*s.image,device="meta"))
    if plan.net=="classifier":
        model.feature_maps(torch.empty(2,s.channels,*s.image,device="meta"))
def test_z(): print(OK)
