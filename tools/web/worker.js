// The worker: computes for the page with the library in WebAssembly, through the functions of supra.h alone. The page loads
// this file as a script and starts the worker from the function's text, because browsers load no worker from file://.
//
// It is told {task, pane, ...} and answers {pane, ...} with what has changed. A pane is a session and what it does.
function supraWorker() {
  "use strict";
  const SUPRA_CONTINUE = 2, SUPRA_BOS = 4, kPieceOfPrompt = 64, kMilliseconds = 50;
  const panes = [];
  let lib, engine;

  // Room that all calls share, as offsets from `room`: supra_error, supra_sampling and what calls write.
  const kMessage = 4, kSampling = 264, kWritten = 296, kId = 300, kRandom = 304, kText = 312, kTextBytes = 16384;
  let room;
  const words = () => new DataView(lib.memory.buffer, room, kText);
  const bytesAt = (at, size) => new Uint8Array(lib.memory.buffer, at >>> 0, size);
  const decode = (bytes) => new TextDecoder().decode(bytes);

  // The result of a call, unless its code or its null pointer says that it failed.
  function must(done, result) {
    if (done) return result;
    const message = bytesAt(room + kMessage, 256);
    throw new Error(decode(message.subarray(0, message.indexOf(0))));
  }
  const ok = (code) => must(code === 0);
  const made = (pointer) => must(pointer !== 0, pointer);

  // Calls f(address, size) with bytes in the library's memory.
  function withBytes(bytes, f) {
    const at = lib.malloc(bytes.length || 1);
    if (!at) throw new Error("The library's memory is full.");
    try {
      bytesAt(at, bytes.length).set(bytes);
      return f(at, bytes.length);
    } finally {
      lib.free(at);
    }
  }

  function fromBase64(text) {
    const characters = atob(text), bytes = new Uint8Array(characters.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
    return bytes;
  }

  // The library asks a system for files and clocks, and there is none: each request fails.
  async function startLibrary(wasm) {
    const module = await WebAssembly.compile(fromBase64(wasm)), imports = {};
    for (const {module: from, name} of WebAssembly.Module.imports(module)) (imports[from] ??= {})[name] = () => -1;
    lib = (await WebAssembly.instantiate(module, imports)).exports;
    lib._initialize();
    room = lib.malloc(kText + kTextBytes);
  }

  // A model goes to its place piece by piece: two copies of a large one may not fit.
  async function openModel(model) {
    const size = model.size, at = size < 2 ** 32 - 64 ? lib.aligned_alloc(64, Math.ceil(size / 64) * 64) : 0;
    if (!at) throw new Error(`${model.name}: its ${size} bytes do not fit into a page's memory of 4 GB.`);
    const reader = model.stream().getReader();
    for (let done = 0, part; !(part = await reader.read()).done; done += part.value.length)
      bytesAt((at >>> 0) + done, part.value.length).set(part.value);
    engine = made(lib.supra_open_memory(at, size, 0, room));
  }

  // Lets messages in; two panes that write take turns here.
  const turns = [], channel = new MessageChannel();
  channel.port1.onmessage = () => turns.shift()();
  const pause = () => new Promise((resume) => {
    turns.push(resume);
    channel.port2.postMessage(0);
  });

  function say(pane, change = {}) {
    const position = pane.session ? Number(lib.supra_position(pane.session)) : 0;
    postMessage({pane: pane.number, position, memory: lib.memory.buffer.byteLength, ...change});
  }

  function encode(text, flags) {
    return withBytes(new TextEncoder().encode(text), (at, size) => {
      // no text has more ids than bytes, but for BOS and a space in front
      const most = size + 2;
      return withBytes(new Uint8Array(4 * most), (ids) => {
        ok(lib.supra_encode(engine, at, size, flags, ids, most, room + kWritten, room));
        return [...new Int32Array(lib.memory.buffer, ids >>> 0, words().getUint32(kWritten, true))];
      });
    });
  }

  const feed = (session, ids) => withBytes(new Uint8Array(new Int32Array(ids).buffer),
      (at) => ok(lib.supra_feed(session, at, ids.length, room)));

  // The next id, chosen as `sampling` says, and its text.
  function choose(session, sampling, recent) {
    return withBytes(new Uint8Array(new Int32Array(recent).buffer), (at) => {
      const now = words();
      const fields = [["Uint32", 32], ["Float32", sampling.temperature], ["Int32", sampling.topK], ["Float32", sampling.topP],
        ["Float32", sampling.minP], ["Float32", sampling.repeatPenalty], ["Uint32", at], ["Uint32", recent.length]];
      fields.forEach(([type, value], i) => now["set" + type](kSampling + 4 * i, value, true));
      ok(lib.supra_sample(session, room + kSampling, room + kRandom, room + kId, room));
      return words().getInt32(kId, true);
    });
  }

  function textOf(session, id) {
    ok(lib.supra_text(session, id, room + kText, kTextBytes, room + kWritten, room));
    return decode(bytesAt(room + kText, words().getUint32(kWritten, true)));
  }

  // Reads `prompt`, then writes `count` tokens or until the text ends.
  async function write(pane, {prompt, count, sampling, seed, goOn}) {
    const {session} = pane;
    // a text that has ended is followed by another one
    feed(session, pane.end);
    pane.end = [];
    const flags = lib.supra_position(session) === 0n ? SUPRA_BOS : SUPRA_CONTINUE;
    const read = encode(prompt, flags);
    for (let i = 0; i < read.length && !pane.stopped; i += kPieceOfPrompt) {
      feed(session, read.slice(i, i + kPieceOfPrompt));
      say(pane);
      await pause();
    }
    const recent = read.slice(-64), start = performance.now();
    let random = BigInt(seed), written = 0, text = "", ids = [], said = start, ended = false;
    const tell = (more) => {
      say(pane, {text, ids, rate: 1000 * written / (performance.now() - start), ...more});
      text = "", ids = [];
    };
    while (written < count && !pane.stopped) {
      words().setBigUint64(kRandom, random, true);
      const id = choose(session, sampling, sampling.repeatPenalty === 1 ? [] : recent);
      random = words().getBigUint64(kRandom, true);
      ended = lib.supra_is_end(engine, id) === 1;
      if (ended && !goOn) {
        pane.end = [id];
        break;
      }
      text += ended ? "\n\n" : textOf(session, id);
      feed(session, [id]);
      written++;
      ids.push(id);
      recent.push(id);
      if (recent.length > 64) recent.shift();
      if (performance.now() - said < kMilliseconds) continue;
      tell();
      await pause();
      said = performance.now();
    }
    tell({done: {written, ended, stopped: pane.stopped}});
  }

  function end(pane) {
    lib.supra_end(pane.session);
    pane.session = 0;
  }

  const tasks = {
    async open(pane, {wasm, model}) {
      await startLibrary(wasm);
      await openModel(typeof model === "string" ? new Blob([fromBase64(model)]) : model);
      pane.session = made(lib.supra_start(engine, room));
      say(pane, {opened: {state: lib.supra_state_bytes(engine), cache: lib.supra_cache_bytes(engine),
                          vocabulary: lib.supra_vocabulary(engine)}});
    },
    async write(pane, how) {
      Object.assign(pane, {writing: true, stopped: false});
      try {
        await write(pane, how);
      } finally {
        pane.writing = false;
      }
    },
    stop(pane) {
      pane.stopped = true;
    },
    reset(pane) {
      pane.end = [];
      ok(lib.supra_reset(pane.session, room));
      say(pane);
    },
    fork(pane, {from}) {
      if (pane.session) end(pane);
      pane.session = made(lib.supra_clone(panes[from].session, room));
      pane.end = panes[from].end;
      say(pane);
    },
    close: end,
    save(pane) {
      const state = new Uint8Array(lib.supra_state_bytes(engine));
      withBytes(state, (at, size) => {
        ok(lib.supra_save(pane.session, at, size, 0, room));
        state.set(bytesAt(at, size));
      });
      say(pane, {state});
    },
    load(pane, {state}) {
      pane.end = [];
      withBytes(new Uint8Array(state), (at, size) => ok(lib.supra_load(pane.session, at, size, room)));
      say(pane, {loaded: true});
    },
  };

  onmessage = async ({data}) => {
    const pane = (panes[data.pane] ??= {number: data.pane, session: 0, end: []});
    try {
      if (pane.writing && data.task !== "stop" && data.task !== "save") throw new Error("This text is being written: stop it first.");
      await tasks[data.task](pane, data);
    } catch (error) {
      postMessage({pane: data.pane, task: data.task, failed: error.message});
    }
  };
}
