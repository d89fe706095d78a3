const one = (id) => document.getElementById(id);
const NAMES = { webgpu: "WebGPU", wasm: "WebAssembly" };
const MEASURED = 10;

let model; // what model.json says
let translator; // the worker, once the model is open
let photo; // { bitmap, name }: the photo to translate
let wanted = 0; // how many times to translate it next
let translating = false;

// --- The worker ---------------------------------------------------------------------------------

class Translator {
  constructor(backend) {
    this.backend = backend;
    this.asked = 0;
    this.waiting = new Map();
    this.worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }) => this.settle(data.id, data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      const error = event.message || "the worker cannot be loaded";
      for (const id of [...this.waiting.keys()]) this.settle(id, { error });
    };
  }

  settle(id, { result, error }) {
    const { resolve, reject } = this.waiting.get(id);
    this.waiting.delete(id);
    if (error === undefined) resolve(result);
    else reject(new Error(error));
  }

  ask(action, request) {
    return new Promise((resolve, reject) => {
      const id = ++this.asked;
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, action, request });
    });
  }

  close() {
    this.worker.terminate();
    for (const id of [...this.waiting.keys()]) this.settle(id, { error: "stopped" });
  }
}

// Whether the browser offers WebGPU, and the reason why it is not the first choice, or null.
async function findWebGPU() {
  if (!isSecureContext) return [false, "WebGPU needs https or localhost"];
  if (!navigator.gpu) return [false, "This browser has no WebGPU"];
  try {
    const adapter = await navigator.gpu.requestAdapter();
    if (!adapter) return [false, "This browser finds no GPU for WebGPU"];
    const slow = adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter;
    return [true, slow ? "WebGPU has no GPU here, only a slow stand-in" : null];
  } catch (error) {
    return [false, `WebGPU does not work here (${error.message})`];
  }
}

// Opens the model with `backend`, or if that fails with WebAssembly; `reason` says why not WebGPU.
async function openTranslator(backend, reason) {
  translator?.close();
  translator = undefined;
  one("backend").disabled = true;
  const bytes = model.size_bytes + model.runtime.backends[backend].size_bytes;
  say(`Loading the network and its runtime (${megabytes(bytes)})…`, true);
  const opened = new Translator(backend);
  try {
    opened.threads = (await opened.ask("open", { backend, model })).threads;
  } catch (error) {
    opened.close();
    one("backend").disabled = false; // so that another can be tried
    if (backend === "wasm") throw error;
    return openTranslator("wasm", `WebGPU does not work here (${error.message})`);
  }
  translator = opened;
  one("backend").value = backend;
  one("backend").disabled = false;
  one("note").textContent = `${reason ? `${reason}: WebAssembly is used. ` : ""}${threadsText()}`;
  say("Ready.");
}

// Opens the model, and translates the photo if there is one; says it where that fails.
async function load(backend, reason) {
  try {
    await openTranslator(backend, reason);
  } catch (error) {
    return fail(`The network cannot be loaded: ${error.message}`);
  }
  return translate();
}

function threadsText() {
  if (translator.backend !== "wasm") return "";
  return crossOriginIsolated
    ? `Threads in use: ${translator.threads}.`
    : "One thread is in use: more need a server that isolates this page from other origins.";
}

// --- Photos -------------------------------------------------------------------------------------

async function take(source, name) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(source);
  } catch {
    return fail(`${name} cannot be read by this browser; give a JPEG, PNG or WebP image.`);
  }
  photo?.bitmap.close();
  photo = { bitmap, name };
  return translate();
}

// Translates the latest request; earlier ones that have not begun are dropped.
async function translate(times = 1) {
  wanted = times;
  if (translating) return;
  translating = true;
  try {
    while (wanted && photo && translator) {
      const now = wanted;
      wanted = 0;
      await translateOnce(now);
    }
  } catch (error) {
    fail(`${photo.name} could not be translated: ${error.message}`);
  } finally {
    translating = false;
  }
}

async function translateOnce(times) {
  const { name } = photo;
  const by = translator;
  const image = readPhoto(photo.bitmap);
  const { width, height } = image;
  say(times > 1 ? `Translating ${name} ${times} times…` : `Translating ${name}…`, true);
  let found;
  try {
    found = await by.ask("translate", { pixels: image.data, width, height, times });
  } catch (error) {
    if (translator === by) await recover(error, name, times);
    return;
  }
  if (wanted) return;
  one("slider").style.setProperty("--width", `${width}px`);
  one("slider").style.setProperty("--aspect", width / height);
  show("original", image, `The photo ${name}`);
  show("translated", new ImageData(found.pixels, width, height), `${name}, translated by ${model.name}`);
  tell(found.milliseconds, width, height);
  one("result").hidden = false;
  say(`${name} is translated. Drag the line, or move it with the arrow keys.`);
}

// The input of the network: the photo upright, on white, no side longer than chosen.
function readPhoto(bitmap) {
  const scale = Math.min(1, Number(one("longest").value) / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.fillStyle = "#ffffff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return pen.getImageData(0, 0, canvas.width, canvas.height);
}

function show(id, image, description) {
  const canvas = one(id);
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d").putImageData(image, 0, 0);
  canvas.setAttribute("aria-label", description);
}

// A GPU may fail only when it is used: then WebAssembly is tried. WebAssembly is started again, since
// a runtime that ran out of memory cannot be used any more.
async function recover(error, name, times) {
  const reason = translator.backend === "wasm" ? null : `WebGPU failed (${error.message})`;
  await openTranslator("wasm", reason);
  if (reason) wanted = wanted || times;
  else fail(`${name} could not be translated (${error.message}); choose a shorter longest side.`);
}

function tell(milliseconds, width, height) {
  const sorted = milliseconds.toSorted((a, b) => a - b);
  const median = sorted[sorted.length >> 1];
  const threads = translator.backend === "wasm" ? `, ${counted(translator.threads, "thread")}` : "";
  const measured = sorted.length > 1 ? `; median of ${sorted.length}` : "";
  one("time").textContent = median < 995 ? `${median.toFixed(0)} ms` : `${(median / 1000).toFixed(1)} s`;
  one("how").textContent = `for ${width}×${height} in ${NAMES[translator.backend]}${threads}${measured}`;
}

function save() {
  one("translated").toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${photo.name.replace(/\.[^.]*$/, "")}-${model.name}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }, "image/png");
}

// --- The camera ---------------------------------------------------------------------------------

async function openCamera() {
  if (!navigator.mediaDevices?.getUserMedia) {
    return fail("This page cannot use a camera: browsers allow it over https or on localhost only.");
  }
  try {
    one("video").srcObject = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: { ideal: "environment" }, width: { ideal: 1280 } },
    });
  } catch (error) {
    return fail(`The camera cannot be used (${error.message}).`);
  }
  one("viewfinder").hidden = false;
  await one("video").play();
  one("shoot").focus();
}

async function shoot() {
  const taken = createImageBitmap(one("video"));
  one("choose").focus();
  const bitmap = await taken.catch(() => null);
  closeCamera();
  if (!bitmap) return fail("The camera gives no picture yet; try again.");
  await take(bitmap, "camera.png");
  bitmap.close();
}

function closeCamera() {
  for (const track of one("video").srcObject?.getTracks() ?? []) track.stop();
  one("video").srcObject = null;
  one("viewfinder").hidden = true;
}

// --- Status -------------------------------------------------------------------------------------

function say(text, working = false) {
  one("status").textContent = text;
  one("status").classList.remove("failed");
  one("busy").hidden = !working;
}

function fail(text) {
  say(text);
  one("status").classList.add("failed");
}

function counted(number, what) {
  return number === 1 ? `1 ${what}` : `${number} ${what}s`;
}

function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

// --- The page -----------------------------------------------------------------------------------

function listen() {
  for (const id of ["choose", "camera"]) one(id).disabled = false;
  one("choose").onclick = () => one("file").click();
  one("file").onchange = () => {
    const [file] = one("file").files;
    if (file) take(file, file.name);
    one("file").value = ""; // so that the same file can be chosen once more
  };
  one("camera").onclick = openCamera;
  one("shoot").onclick = shoot;
  one("close").onclick = closeCamera;
  one("save").onclick = save;
  one("measure").onclick = () => translate(MEASURED);
  one("longest").onchange = () => translate();
  one("backend").onchange = () => load(one("backend").value);
  one("settings").onsubmit = (event) => event.preventDefault();
  const marked = (on) => document.body.classList.toggle("over-page", on);
  document.ondragover = (event) => {
    event.preventDefault();
    marked(true);
  };
  document.ondragleave = (event) => event.relatedTarget || marked(false);
  document.ondrop = (event) => {
    event.preventDefault();
    marked(false);
    takeFirst(event.dataTransfer);
  };
  document.onpaste = (event) => event.clipboardData.files.length && takeFirst(event.clipboardData);
}

function takeFirst({ files }) {
  if (files.length) take(files[0], files[0].name);
  else fail("That was not a file; drop an image file.");
}

async function start() {
  const answer = await fetch("model.json");
  if (!answer.ok) throw new Error(`the server answers ${answer.status} for model.json`);
  model = await answer.json();
  document.title = `${model.name}: image to image`;
  one("title").textContent = model.name;
  one("name").textContent = model.name;
  one("facts").textContent =
    `${(model.params / 1e6).toFixed(2)} million parameters, ${megabytes(model.size_bytes)}. ` +
    "Photos are translated on this device and never leave it.";
  one("runtime").textContent = `ONNX Runtime Web ${model.runtime.version}`;
  listen();
  const [offered, reason] = await findWebGPU();
  one("backend").options[0].disabled = !offered;
  await load(reason === null ? "webgpu" : "wasm", reason);
}

start().catch((error) => fail(`The network cannot be loaded: ${error.message}`));
