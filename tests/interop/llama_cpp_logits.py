"""Next-token logits by llama.cpp: a base, and an adapter on it or none. Everything in F32."""

import ctypes

import llama_cpp
import numpy as np


def quiet(level, text, user):
    pass


QUIET = llama_cpp.llama_log_callback(quiet)


def logits(base, adapter, rows, vocabulary):
    llama_cpp.llama_log_set(QUIET, None)
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(str(base).encode(), llama_cpp.llama_model_default_params())
    assert model, f"llama.cpp does not load {base}"
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_threads = 64, 64, 2
    params.type_k = params.type_v = 0  # F32
    if hasattr(params, "flash_attn_type"):
        params.flash_attn_type = 0
    out = []
    for row in rows:
        context = llama_cpp.llama_init_from_model(model, params)
        assert context, "no context"
        if adapter is not None:
            apply(model, context, adapter)
        tokens = (llama_cpp.llama_token * len(row))(*row)
        assert llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, len(row))) == 0
        pointer = llama_cpp.llama_get_logits_ith(context, -1)
        out.append(np.ctypeslib.as_array(pointer, shape=(vocabulary,)).copy())
        llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return np.stack(out)


def apply(model, context, path):
    lora = llama_cpp.llama_adapter_lora_init(model, str(path).encode())
    assert lora, f"llama.cpp does not take {path} for this base"
    if hasattr(llama_cpp, "llama_set_adapters_lora"):
        pointers = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(lora)
        done = llama_cpp.llama_set_adapters_lora(context, pointers, 1, (ctypes.c_float * 1)(1.0))
    else:
        done = llama_cpp.llama_set_adapter_lora(context, lora, 1.0)
    assert done == 0
