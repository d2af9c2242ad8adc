// The page: what is pressed goes to the worker (worker.js), what it answers is shown.
"use strict";

const kNames = ["First text", "Second text"];
const element = (id) => document.getElementById(id);
const panes = [];
let worker, engine;

const count = (n) => Math.round(n).toLocaleString("en");
function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = n < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(n) / 3));
  const value = n / 1000 ** power;
  return `${power > 0 && value < 100 ? value.toPrecision(3) : Math.round(value)} ${units[power]}`;
}

function tell(text, failed = false) {
  element("status").textContent = text;
  element("status").classList.toggle("failed", failed);
}

// ---- the model

// `model`: a File, or a text in base64 from student.js. Each model gets a new worker, and with it new memory.
function openModel(model, name) {
  worker?.terminate();
  panes.splice(0).forEach((pane) => pane.section.remove());
  engine = null;
  tell(`Opening ${name}.`);
  const source = new Blob([`(${supraWorker})()`], {type: "text/javascript"});
  const url = URL.createObjectURL(source);
  worker = new Worker(url);
  URL.revokeObjectURL(url);
  worker.onmessage = ({data}) => heard(data, name);
  worker.onerror = (error) => tell(`The worker failed: ${error.message}`, true);
  worker.postMessage({task: "open", pane: 0, wasm: supraLibrary, model});
}

function heard(data, name) {
  if (data.failed) tell(data.failed, true);
  if (data.opened) {
    engine = data.opened;
    addPane(0).find("prompt").value = "Once";
    tell(`${name} is open: ${count(engine.vocabulary)} tokens in its vocabulary, ${bytes(engine.state)} of state.`);
  }
  const pane = panes[data.pane];
  if (!pane) return;
  if (data.failed && data.task === "write") pane.writes(false);
  if (data.failed) return;
  if (data.text) pane.add(data.text);
  if (data.loaded) pane.clear(`(goes on after ${count(data.position)} tokens)\n`);
  if (data.state) pane.download(data.state);
  pane.show(data);
  if (!data.done) return;
  pane.writes(false);
  const {written, ended, stopped} = data.done;
  tell(`${kNames[data.pane]}: ${count(written)} tokens written, ${count(data.rate)} a second` +
       `${ended ? ", and the text has ended" : stopped ? ", stopped" : ""}.`);
}

// ---- a pane: one session and its text

function addPane(number) {
  const section = element("pane").content.cloneNode(true).firstElementChild;
  const find = (name) => section.querySelector(`.${name}`);
  const task = (name, more) => worker.postMessage({task: name, pane: number, ...more});
  const text = find("text");
  section.querySelector("h2").textContent = kNames[number];
  text.setAttribute("aria-label", kNames[number]);
  if (number > 0) find("fork").textContent = "Close";

  const pane = {
    section, find,
    add(words, tag) {
      const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 40;
      // a block for each line, because a block that grows is laid out anew
      words.split("\n").forEach((line, i) => {
        if (i > 0 || !text.lastChild) text.append(document.createElement("p"));
        text.lastChild.append(tag ? Object.assign(document.createElement(tag), {textContent: line}) : line);
      });
      if (atEnd) text.scrollTop = text.scrollHeight;
    },
    clear(note) {
      text.replaceChildren();
      if (note) pane.add(note, "b");
    },
    writes(now) {
      // a screen reader reads the text when it is complete
      text.setAttribute("aria-busy", now);
      const focused = document.activeElement;
      for (const name of ["write", "fork", "load", "reset"]) find(name).disabled = now;
      find("stop").disabled = !now;
      if (focused?.disabled && section.contains(focused)) find(now ? "stop" : "write").focus();
    },
    // Memory is straight lines: what a session keeps, and what a cache would after so many tokens.
    show({position, rate, memory}) {
      const cache = engine.cache * position, times = cache / engine.state;
      find("figures").textContent = `${count(position)} tokens${rate ? `, ${count(rate)} a second` : ""}. This session: ` +
        `${bytes(engine.state)}. A KV cache of the same model: ${bytes(cache)}${times >= 1.05 ? `, ${times < 10 ? times.toFixed(1) : count(times)} times as much` : ""}. ` +
        `The worker's memory, with the model: ${bytes(memory)}.`;
      const tokens = 2 ** Math.ceil(Math.log2(Math.max(position, 64))), most = 1.1 * Math.max(engine.state, cache);
      const x = (at) => 60 + 530 * at / tokens, y = (size) => 160 - 150 * size / most;
      find("state").setAttribute("d", `M60 ${y(engine.state)}H${x(position)}`);
      find("cache").setAttribute("d", `M60 160L${x(position)} ${y(cache)}`);
      find("most").textContent = bytes(most);
      find("last").textContent = `${count(tokens)} tokens`;
      section.querySelector("svg").setAttribute("aria-label", `Memory after ${count(position)} tokens: this session ` +
        `${bytes(engine.state)}, a KV cache ${bytes(cache)}`);
    },
    download(state) {
      const url = URL.createObjectURL(new Blob([state]));
      Object.assign(document.createElement("a"), {href: url, download: "supra.state"}).click();
      setTimeout(() => URL.revokeObjectURL(url), 10000);
    },
  };
  panes[number] = pane;
  element("panes").append(section);

  find("write").onclick = () => {
    if (!element("settings").reportValidity()) return;
    const prompt = find("prompt").value, number_of = (id) => element(id).valueAsNumber;
    const sampling = Object.fromEntries(["temperature", "topK", "topP", "minP", "repeatPenalty"].map((id) => [id, number_of(id)]));
    if (prompt) pane.add(prompt, "b");
    find("prompt").value = "";
    pane.writes(true);
    tell(`${kNames[number]}: writing.`);
    // the second text takes the next seed, or it would say what the first one says
    task("write", {prompt, count: number_of("count"), sampling, seed: number_of("seed") + number,
                  goOn: element("goOn").checked});
  };
  find("stop").onclick = () => task("stop");
  find("save").onclick = () => task("save");
  find("load").onclick = () => find("file").click();
  find("file").onchange = async ({target}) => {
    const [file] = target.files;
    target.value = "";
    if (file) task("load", {state: await file.arrayBuffer()});
  };
  find("reset").onclick = () => {
    pane.clear();
    task("reset");
    find("prompt").focus();
  };
  find("fork").onclick = number > 0 ? close : fork;
  function close() {
    task("close");
    section.remove();
    panes.length = number;
    panes[0].find("fork").focus();
  }
  function fork() {
    if (panes[1]?.find("write").disabled) return tell("The second text is being written: stop it first.", true);
    const other = panes[1] ?? addPane(1);
    other.find("text").replaceChildren(...text.cloneNode(true).childNodes);
    worker.postMessage({task: "fork", pane: 1, from: number});
    tell("Both texts go on from here, the second one with the next seed.");
    other.find("write").focus();
  }
  pane.show({position: 0, memory: 0});
  return pane;
}

// ---- files

element("settings").onsubmit = (event) => event.preventDefault();
element("model").onchange = ({target}) => {
  if (target.files[0]) openModel(target.files[0], target.files[0].name);
};
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
addEventListener("dragleave", () => document.body.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) openModel(file, file.name);
});
if (supraStudent) openModel(supraStudent, "The student of make demo");
else tell("There is no model beside this page: choose one, or run make demo and make web.");
