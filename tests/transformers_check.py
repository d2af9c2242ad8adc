# SPDX-License-Identifier: Apache-2.0
"""Compares supra/formats/modeling_supra.py with the program, for every option of the mixers and orders of a decoder: `make
transformers-check`. A line a check; exit 1 where one fails.

    python3 tests/transformers_check.py build/release/supra ../shared [parts of the names of models]
"""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
try:
    import torch
    import transformers
    transformers.utils.logging.disable_progress_bar()
    from safetensors.torch import save_file
except ImportError as error:
    sys.exit(print(f"SKIPPED transformers-check: {error} (pip install torch transformers)"))

SUPRA, SHARED, WORDS = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
STORIES = SHARED / "models/stories260K/stories260K.bin"
if not STORIES.exists():
    sys.exit(print(f"SKIPPED transformers-check: {STORIES} is not here (set SUPRA_SHARED)"))
TEXT = SHARED / "data/tinystories/uptrain_train.txt"
WINDOW = "--mixer window --window 16 --window 48:2 --sinks 3 --state-dtype f32"
FAR = "--mixer window --window 5 --sinks 2 --far-features 4 --state-dtype f32"
T2R = "--rope before-map --decay none --feature-map per-head --output-norm denominator"

# name: flags of `supra linearize`
OPTIONS = {
    "supra": "", "no-decay": "--decay none", "retnet": "--decay retnet", "decay-start": "--decay-start 0.25",
    "learned-decay": "--mixer learned-decay", "gated": "--mixer gated", "per-head-map": "--feature-map per-head",
    "denominator": "--output-norm denominator --rope before-map",
    "gate-without-norm": "--output-norm none --output-gate", "rope-before-map": "--rope before-map", "qk-norm": "--qk-norm",
    "wide-keys": "--key-dim 24", "t2r": T2R, "everything": "--mixer gated --output-gate --qk-norm --key-dim 16",
    "no-map-no-rope": "--mixer gated --feature-map none --rope none", "delta": "--mixer delta",
    "delta-convolution": "--mixer delta --short-convolution",
    "delta-without-rope": "--mixer delta --rope none --output-norm group --output-gate",
    "delta-wide-keys": "--mixer delta --key-dim 24 --qk-norm", "delta-kept-softmax": "--mixer delta --short-convolution --keep-softmax 1",
    "kept-softmax": "--mixer gated --keep-softmax 0,3", "window": WINDOW, "window-f16": "--mixer window --window 16 --far-features 4",
    "window-far": WINDOW + " --far-features 8 --far-features 0:1",
    "window-without-sinks": "--mixer window --window 20 --sinks 0 --far-features 4 --state-dtype f32",
    "window-kept": WINDOW + " --keep-softmax 1",
}
# teachers of other families, each with a student of every kind
FAMILIES = ["phi3", "phi3_longrope_short", "gemma2", "gemma3", "smollm3", "granite", "starcoder2", "cohere", "olmo",
            "gpt2", "gpt_neox_parallel", "gpt_neox_sequential", "olmo2", "qwen2_untied", "qwen3", "llama_attention_mlp_bias", "llama_head_dim",
            "llama_rope_llama3", "llama_rope_linear", "mistral_window8"]

failed = 0


def say(name, what, error, most):
    global failed
    failed += not error <= most
    print(f"{'pass' if error <= most else 'FAIL'}  {name:28} {what:34} {error:.1e} of {most:.0e}", flush=True)


def supra(*words):
    run = subprocess.run([SUPRA, *map(str, words)], capture_output=True, text=True)
    if run.returncode and words[0] != "verify":
        sys.exit(f"supra {' '.join(map(str, words))}: {run.stderr}")
    return run.stdout


def load(folder, **more):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, **more)


def difference(a, b):
    """The largest one over the largest value of b."""
    return ((a - b).abs().max() / b.abs().max()).item()


def stirred(model):
    """Noise on new weights: gates that do nothing prove nothing."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "_totrain_" in name:
                scale = 1 if "far_mass" in name else 0.05
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
            if name.endswith("far_mass.bias"):
                parameter.add_(8)
    return model


def random_ids(model, *shape):
    return torch.randint(model.config.vocab_size, shape, generator=torch.Generator().manual_seed(2))


def loss_of(logits, targets, z=0.0):
    """The program's: cross entropy and z (log-sum-exp)^2."""
    mean = torch.nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten().long())
    return mean + z * logits.logsumexp(-1).pow(2).mean()


def stepped(model, ids, pieces):
    """Logits of the columns, given in pieces of these widths."""
    out, cache, at = [], None, 0
    for width in pieces:
        result = model(ids[:, at : at + width], cache=cache, use_cache=True)
        cache, at = result.cache, at + width
        out.append(result.logits)
    return torch.cat(out, 1), cache


def golden_of(model, T):
    """What `supra verify` compares."""
    tokens = random_ids(model, 2, T)
    targets = random_ids(model, 3, T)[1:]
    prompt = tokens[:1, : min(24, T // 2)]
    model.zero_grad()
    logits = model(tokens).logits
    loss_of(logits, targets, 1e-4).backward()
    golden = {f"grad.{name}": p.grad for name, p in model.named_parameters()}
    with torch.no_grad():
        golden |= {"tokens": tokens.int(), "targets": targets.int(), "logits": logits, "loss": loss_of(logits, targets)[None],
                   "recurrent_logits": stepped(model, tokens, [1] * T)[0], "greedy.prompt": prompt[0].int()}
        new = min(64, T - prompt.shape[1])
        ids = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=new, do_sample=False, pad_token_id=0, eos_token_id=None)
    golden["greedy.ids"] = ids[0, prompt.shape[1] :].int()
    return {key: value.detach().contiguous() for key, value in golden.items()}


def check_against_program(name, model, folder, T, healed, scratch):
    """In float32, and in double, where formulas alone can differ. A gradient jumps where float32 puts a feature on the other side of
    relu's kink; and an untrained student's norms make much of little, so that a small one meets the program's own tolerance."""
    tolerances = {"logits": 1e-5, "loss": 1e-5, "grad": 1e-3, "recurrent_logits": 1e-5, "greedy": 0} if healed else dict.fromkeys(
        ("logits", "loss", "grad", "recurrent_logits"), 2e-4) | {"greedy": 0, "grad": 1e-3}
    if model.config.supra.get("state_dtype") == "f16":
        tolerances["recurrent_logits"] = 1e-3  # a key on the border of two f16 numbers may become either
    for dtype, words in (("f32", ["--tolerance", 1e-5]), ("f64", ["--dtype", "f64"])):
        golden = golden_of(model if dtype == "f32" else model.double(), T)
        golden = {key: value for key, value in golden.items() if dtype == "f32" or key[:4] in ("grad", "toke", "targ", "logi", "loss")}
        save_file(golden, scratch / "golden.safetensors")
        worst = {}
        for row in json.loads(supra("verify", folder, scratch / "golden.safetensors", "--json", *words))["keys"]:
            what, error = row["key"].split(".")[0], float("inf") if row["error"] is None else row["error"]
            floor = row.get("weight_rounding") or 0  # what rounding the weights to float32 does by itself: nobody is nearer
            worst[what] = max(worst.get(what, 0), error * (tolerances[what] / (4 * floor) if floor > tolerances[what] else 1))
        for what, error in worst.items():
            say(name, f"{what} = supra's, {dtype}", error, tolerances[what] if dtype == "f32" else 1e-9)
    model.float()


def check_pieces(name, model, T):
    """Any split gives the same, and so do batches with padding on either side. In double, since float32 rounds each by itself."""
    model.double()
    ids = random_ids(model, 2, T)
    with torch.no_grad():
        whole, cache = stepped(model, ids, [T])
        if "softmax" not in model.config.supra["mixers"]:
            sizes = [sum(part.nbytes for state in of.states for part in state) for of in (cache, stepped(model, ids[:, :1], [1])[1])]
            say(name, "bytes that the cache has grown", sizes[0] - sizes[1], 0)
        say(name, "step by step = chunked", difference(stepped(model, ids, [1] * T)[0], whole), 1e-9)
        pieces = [1, T // 3, 2, T - T // 3 - 3]
        say(name, "in pieces = chunked", difference(stepped(model, ids, pieces)[0], whole), 1e-9)
        short = T - 13
        alone = model(ids[1:, :short]).logits
        for side in ("left", "right"):
            padded, mask = ids.clone(), torch.ones_like(ids)
            real = slice(13, None) if side == "left" else slice(None, short)
            padded[1], mask[1] = 0, 0
            padded[1, real], mask[1, real] = ids[1, :short], 1
            both = model(padded, attention_mask=mask).logits
            say(name, f"padded on the {side} = alone", max(difference(both[1:, real], alone), difference(both[:1], model(ids[:1]).logits)), 1e-9)
        prompt, mask = ids[:, :20].clone(), torch.ones(2, 20, dtype=torch.long)
        prompt[1, :7], mask[1, :7] = 0, 0
        settings = {"max_new_tokens": min(40, T - 20), "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
        both = model.generate(prompt, attention_mask=mask, **settings)[:, 20:]
        ones = [model.generate(ids, attention_mask=torch.ones_like(ids), **settings)[:, ids.shape[1] :] for ids in (prompt[:1], prompt[1:, 7:])]
        say(name, "generate() of a padded batch", (both != torch.cat(ones)).sum().item(), 0)
        begun = model.generate(prompt, attention_mask=mask, return_dict_in_generate=True, **settings | {"max_new_tokens": 5})
        mask, more = torch.cat((mask, torch.ones(2, 5).long()), 1), settings | {"max_new_tokens": settings["max_new_tokens"] - 5}
        on = model.generate(begun.sequences, attention_mask=mask, cache=begun.cache, **more)[:, 20:]
        say(name, "generate() from a cache", (both != on).sum().item(), 0)
    model.float()


def check_training_modes(name, model, T):
    """Recomputed layers and compiled ones have the same gradients; the compiler meets no graph break."""
    ids = random_ids(model, 2, T)
    mask = torch.ones_like(ids)
    mask[1, :9] = 0

    def gradients(call):
        model.zero_grad()
        call(ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    plain = gradients(model)
    model.train()
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    say(name, "with gradient checkpointing", difference(gradients(model), plain), 1e-6)
    getattr(model, "activation_checkpointing_disable", model.gradient_checkpointing_disable)()
    torch._dynamo.reset()
    say(name, "torch.compile(fullgraph=True)", difference(gradients(torch.compile(model, fullgraph=True, backend="aot_eager")), plain), 1e-5)
    model.eval()


TRAIN = {"lr": 3e-5, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}


def batches_of(scratch, count, rows, T):
    """A text as `supra uptrain --pack documents` reads it: one document, row by row."""
    text = scratch / "text"
    text.write_bytes(TEXT.read_bytes()[:60000])
    ids = [1] + json.loads(supra("tokenize", STORIES, "--file", text, "--json"))["ids"]
    ids = torch.tensor(ids[: count * rows * T + 1])
    return text, list(zip(ids[:-1].view(count, rows, T), ids[1:].view(count, rows, T)))


def train(model, batches, z):
    optimizer, losses = torch.optim.AdamW(model.parameters(), **TRAIN), []
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, 2 * (step + 1) / len(batches)))
    for tokens, targets in batches:
        loss = loss_of(model(tokens).logits, targets, z)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def check_uptrain(name, folder, scratch):
    """Twenty steps beside `supra uptrain --recipe supra`."""
    text, batches = batches_of(scratch, 20, 4, 128)
    supra("uptrain", folder, "-o", scratch / "uptrained", "--data", text, "--tokenizer", STORIES.parent / "tok512.bin", "--log", scratch / "run.csv",
          *"--pack documents --seq-len 128 --batch-tokens 512 --tokens 10240 --schedule constant --warmup 0.5 --lr 3e-5".split(),
          *"--weight-decay 0.1 --z-loss 1e-4 --products f32 --threads 1".split())
    theirs = [float(line.split(",")[3]) for line in (scratch / "run.csv").read_text().splitlines()[1:]]
    ours = train(load(folder), batches, 1e-4)
    say(name, "20 AdamW steps = supra uptrain's", max(abs(a - b) for a, b in zip(ours, theirs)), 1e-3)


def fsdp_worker(rank, scratch, folder, batches):
    from torch.distributed import device_mesh, fsdp
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{scratch}/meet", rank=rank, world_size=2)
    model, mesh = load(folder), device_mesh.init_device_mesh("cpu", (2,))
    for layer in model.layers:
        fsdp.fully_shard(layer, mesh=mesh)
    fsdp.fully_shard(model, mesh=mesh)
    rows = batches[0][0].shape[0] // 2
    losses = torch.tensor(train(model, [(x[rank * rows :][:rows], y[rank * rows :][:rows]) for x, y in batches], 0))
    torch.distributed.all_reduce(losses)
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if rank == 0:
        load(folder).save_pretrained(scratch / "trained", state_dict=weights)
        torch.save(losses / 2, scratch / "losses")
    torch.distributed.destroy_process_group()


def check_fsdp(name, folder, scratch):
    """Ten steps of two processes, each with its part of the parameters and of the rows; the program reads what they saved."""
    _, batches = batches_of(scratch, 10, 4, 64)
    torch.multiprocessing.spawn(fsdp_worker, (scratch, folder, batches), nprocs=2)
    model = load(folder)
    losses = torch.tensor(train(model, batches, 0))
    say(name, "FSDP on two processes = one", (torch.load(scratch / "losses") - losses).abs().max().item(), 1e-4)
    save_file(golden_of(model, 40), scratch / "golden.safetensors")
    rows = json.loads(supra("verify", scratch / "trained", scratch / "golden.safetensors", "--json"))["keys"]
    say(name, "and supra reads its weights", next(row["error"] for row in rows if row["key"] == "logits"), 1e-3)


def students():
    """(name, folder of a student, tokens of a text that is checked)"""
    for name, flags in OPTIONS.items():
        yield name, [STORIES, *flags.split()], 600 if "window" in name else 150
    for family in FAMILIES:
        teacher = next(path for path in SHARED.glob(f"golden/hf*/{family}"))
        yield f"{family}-supra", [teacher], 40
        yield f"{family}-delta", [teacher, "--mixer", "delta", "--short-convolution"], 40
        yield f"{family}-window", [teacher, *FAR.split()], 40
    for folder in sorted((SHARED / "golden/openlm").iterdir()):
        yield folder.name, [folder], 40


def check(name, words, T, scratch):
    folder, student = scratch / "transformers", words[0]
    if not str(student).startswith(str(SHARED / "golden/openlm")):
        student = scratch / "student"
        supra("linearize", *words, "-o", student)
    if words[0] == STORIES:  # healed a little: an untrained student makes a thousand times as much of rounding
        supra("uptrain", student, "-o", scratch / "healed", "--data", TEXT, *"--tokens 100k --seq-len 128 --products f32 --threads 1".split())
        student = scratch / "healed"
    supra("convert", student, "-o", folder, "--to", "transformers")
    model = load(folder) if words[0] == STORIES and "window" not in name else stirred(load(folder))
    back = scratch / "back"
    model.save_pretrained(back, max_shard_size="300KB" if name == "gated" else "5GB")
    T = min(T, model.config.max_position_embeddings) if model.config.supra["learned_positions"] else T
    check_against_program(name, model, back, T, words[0] == STORIES, scratch)
    check_pieces(name, model, T)
    if words[0] == STORIES:
        check_training_modes(name, model, min(T, 150))
        check_uptrain(name, back, scratch)
    if name in ("everything", "window-far"):
        check_fsdp(name, back, scratch)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    for name, words, T in students():
        if not WORDS or any(word in name for word in WORDS):
            with tempfile.TemporaryDirectory() as scratch:
                check(name, words, T, Path(scratch))
    sys.exit(print(f"{failed} checks failed") or failed > 0)
