"""Computes logits of token ids with llama.cpp through its C interface, with or without an adapter."""

import ctypes

import llama_cpp as c
import numpy as np

said = []


@c.llama_log_callback
def log(level, text, _):
    """Collects errors and warnings: only the log contains the reason why a file is rejected."""
    if level in (3, 4):
        said.append(text.decode(errors="replace").strip())


c.llama_log_set(log, ctypes.c_void_p(0))
c.llama_backend_init()


class Refused(Exception):
    """An error with the messages of llama.cpp."""


def refuse(what):
    raise Refused(f"{what}: " + ("; ".join(line for line in said if line) or "llama.cpp says nothing"))


def logits(model_path, rows, vocabulary, adapter_path=None):
    """Returns the logits of every position of every row, `[tokens, vocabulary]` each."""
    said.clear()
    parameters = c.llama_model_default_params()
    parameters.n_gpu_layers = 0
    model = c.llama_model_load_from_file(str(model_path).encode(), parameters)
    if not model:
        refuse("the base is not loaded")
    settings = c.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = max(64, max(map(len, rows)))
    settings.n_threads = settings.n_threads_batch = 1
    # Everything in F32: by default the KV cache is F16.
    settings.type_k = settings.type_v = c.GGML_TYPE_F32
    settings.flash_attn_type = c.LLAMA_FLASH_ATTN_TYPE_DISABLED
    adapter = None
    if adapter_path is not None:
        # The adapter is loaded before the context, whose size depends on it.
        adapter = c.llama_adapter_lora_init(model, str(adapter_path).encode())
        if not adapter:
            refuse("the adapter is not loaded")
    context = c.llama_init_from_model(model, settings)
    if not context:
        refuse("there is no context")
    if adapter is not None:
        adapters = (c.llama_adapter_lora_p_ctypes * 1)(adapter)
        if c.llama_set_adapters_lora(context, adapters, 1, (ctypes.c_float * 1)(1.0)) != 0:
            refuse("the adapter is not taken")
    out = []
    batch = c.llama_batch_init(settings.n_batch, 0, 1)
    for ids in rows:
        c.llama_memory_clear(c.llama_get_memory(context), True)
        batch.n_tokens = len(ids)
        for at, token in enumerate(ids):
            batch.token[at], batch.pos[at], batch.n_seq_id[at], batch.logits[at] = token, at, 1, True
            batch.seq_id[at][0] = 0
        if c.llama_decode(context, batch) != 0:
            refuse("it does not run")
        pointers = (c.llama_get_logits_ith(context, at) for at in range(len(ids)))
        out.append(np.stack([np.ctypeslib.as_array(row, shape=(vocabulary,)).copy() for row in pointers]))
    c.llama_batch_free(batch)
    c.llama_free(context)
    c.llama_model_free(model)
    return out
